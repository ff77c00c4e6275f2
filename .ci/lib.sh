# Sourced by every part.

say() { echo "== $*"; }
fact() { echo "FACT $*"; }
broken() {
  echo "BROKEN $*"
  exit 1
}

# copy_checkout DIR: the files that a commit of the working tree would have, in a repository of their own.
copy_checkout() {
  mkdir -p "$1"
  git -C "$ROOT" ls-files -z --cached --others --exclude-standard --deduplicate |
    (cd "$ROOT" && xargs -0 sh -c 'for file; do [ -e "$file" ] && printf "%s\0" "$file"; done; :' sh) |
    tar -C "$ROOT" --null --no-recursion -T - -cf - | tar -C "$1" --no-same-owner -xf -
  git -C "$1" init -q
  git -C "$1" add -A
}

# source_copy: one copy for all parts that do not test the copy itself.
source_copy() {
  SOURCE=$CI_DIR/source
  [[ -d $SOURCE ]] || copy_checkout "$SOURCE"
  export SOURCE
}

# environment NAME REQUIREMENT...: a fresh virtual environment, its bin folder first in PATH.
environment() {
  local folder=$CI_DIR/venv-$1
  rm -rf "$folder"
  "$PYTHON" -m venv "$folder"
  export VIRTUAL_ENV=$folder PATH=$folder/bin:$PATH
  shift
  if [[ $# -gt 0 ]]; then pip install -qq "$@"; fi
}

# built_wheel: sets WHEEL to the wheel that parts share, built as users build it, and BUILD to its build folder.
built_wheel() {
  source_copy
  BUILD=$CI_DIR/wheel-build
  if ! ls "$CI_DIR"/wheel/*.whl >/dev/null 2>&1; then
    (cd "$SOURCE" && "$PYTHON" -m pip wheel -qq --no-deps . -w "$CI_DIR/wheel" --config-settings=build-dir="$BUILD")
  fi
  WHEEL=$(ls "$CI_DIR"/wheel/*.whl)
}

# suite NAME COMMAND...: runs pytest; its last line is kept in SUMMARY and has to report passed tests.
suite() {
  local log=$LOGS/$1.txt status=0
  shift
  "$@" >"$log" 2>&1 || status=$?
  SUMMARY=$(grep -E '[0-9]+ (passed|failed|error)' "$log" | tail -n 1 | sed 's/^=* *//; s/ *=*$//')
  if [[ $status -ne 0 ]] || ! grep -q '[1-9][0-9]* passed' <<<"$SUMMARY"; then
    tail -n 150 "$log"
    broken "pytest: status $status, ${SUMMARY:-no summary}"
  fi
}
