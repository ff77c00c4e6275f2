# Style, types, spelling, and a build in which every compiler warning is an error. Runs all checks before it fails.
source .ci/lib.sh

source_copy
environment lint -r .ci/lint-requirements.txt
cd "$SOURCE"
# The types of the libraries that the package uses, and the build tools.
python - >"$CI_DIR/lint-needs.txt" <<'PY'
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())
print(*project["project"]["dependencies"], *project["build-system"]["requires"], "cmake", "ninja", sep="\n")
PY
pip install -qq -r "$CI_DIR/lint-needs.txt"

faults=()
check() {
  local name=$1
  shift
  say "$name"
  "$@" || faults+=("$name")
}
build_strictly() {
  cmake --preset strict -B "$CI_DIR/strict" -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" \
    -DPython_EXECUTABLE="$(command -v python)" >"$CI_DIR/strict.txt" 2>&1 &&
    cmake --build "$CI_DIR/strict" >>"$CI_DIR/strict.txt" 2>&1 ||
    { tail -n 60 "$CI_DIR/strict.txt"; return 1; }
}
clang_format() {
  local file faulty=()
  for file in "${cpp[@]}"; do
    clang-format --dry-run -Werror "$file" 2>/dev/null || faulty+=("$file")
  done
  [[ ${#faulty[@]} -eq 0 ]] || { echo "run tools/format.sh: ${faulty[*]}"; return 1; }
}
mapfile -t cpp < <(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'tests/*.h' 'tests/*.cpp')

check "ruff check" ruff check --output-format=concise .
check "ruff format" ruff format --check --output-format=concise .
check "mypy" mypy
check "codespell" bash -c 'git ls-files -z | xargs -0 codespell'
check "clang-format" clang_format
check "tracked files" python .ci/tracked_files.py
check "compiler warnings" build_strictly
cd "$ROOT"
[[ ${#faults[@]} -eq 0 ]] || { IFS=,; broken "${faults[*]}"; }
fact "ruff, mypy --strict, codespell, clang-format on ${#cpp[@]} files, tracked files, build with -Werror"
