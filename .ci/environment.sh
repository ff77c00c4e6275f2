# Sourced by .ci/run: the same environment for every part, and what a bare machine lacks.

# Nothing of the caller's Python or of a model cache may help or disturb.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTEST_ADDOPTS LD_PRELOAD POCKETTTS_FAST_ISA CFLAGS CXXFLAGS CMAKE_ARGS SKBUILD_CMAKE_ARGS
unset MAKEFLAGS CMAKE_GENERATOR CMAKE_BUILD_PARALLEL_LEVEL
export CI=true LC_ALL=C.UTF-8 TZ=UTC
export HF_HOME=$CI_DIR/hf
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore PIP_PROGRESS_BAR=off
# The checkout may belong to somebody else than the one who runs this.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'

# find_python: the first interpreter that can make environments and compile extensions, 3.11 preferred.
find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 /usr/bin/python3.11 python3; do
    if [[ -n $candidate ]] && "$candidate" - <<'PY' 2>/dev/null
import ensurepip, os, sys, sysconfig, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(not (sys.version_info >= (3, 10) and os.path.exists(header)))
PY
    then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

# prepare_machine: sets PYTHON; installs from Debian only what is not there.
prepare_machine() {
  local missing=() tool
  for tool in g++ git objdump tar; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  find_python >/dev/null || missing+=(python)
  if [[ ${#missing[@]} -gt 0 ]]; then
    echo "missing: ${missing[*]}"
    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      g++ git binutils tar python3 python3-dev python3-pip python3-venv || return 1
  fi
  PYTHON=$(find_python) || { echo "no Python >= 3.10 with venv and headers"; return 1; }
  export PYTHON
  "$PYTHON" --version && g++ --version && lscpu
}
