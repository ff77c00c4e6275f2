# The compiled parts under the sanitizers: address and undefined behaviour over kernels, blocks, stages, engine and
# audio; threads over everything that shares a pool, a model or a stream.
source .ci/lib.sh

readonly ASAN_TESTS=(tests/kernels tests/blocks tests/stages tests/audio tests/test_engine.py tests/test_threads.py)
readonly TSAN_TESTS=(tests/kernels/test_pool.py tests/blocks tests/test_engine.py tests/test_threads.py tests/test_tts.py)

source_copy

# sanitized_environment PRESET: an environment with the package built by that preset.
sanitized_environment() {
  (cd "$SOURCE" && "$PYTHON" -m pip wheel -qq --no-deps . -w "$CI_DIR/$1" --config-settings=cmake.args="--preset=$1" \
    --config-settings=cmake.build-type=RelWithDebInfo --config-settings=install.strip=false \
    --config-settings=build-dir="$CI_DIR/$1-build")
  environment "$1" "$(ls "$CI_DIR/$1"/*.whl)[test]"
}

# preload LIBRARY...: these come first in a process that was not built with them. Then libstdc++, whose exceptions the
# runtimes look for when they start.
preload() {
  local library paths=()
  for library in "$@" libstdc++.so; do paths+=("$(readlink -f "$(g++ -print-file-name="$library")")"); done
  echo "LD_PRELOAD=${paths[*]}"
}

# reported KIND: prints what a sanitizer wrote, and fails if it wrote anything.
reported() {
  local file
  for file in "$LOGS/$1".report.*; do
    [[ -f $file ]] || return 0
    head -n 120 "$file"
  done
  return 1
}

# sanitized_suite KIND COMMAND...: a suite that must pass and about which the sanitizer must have nothing to say.
sanitized_suite() {
  local kind=$1 start=$SECONDS
  shift
  # A report in a test's own process ends it: show the report rather than only the silence after it.
  trap 'reported '"$kind"' || true' EXIT
  (cd "$SOURCE" && suite "$kind" "$@" && echo "$SUMMARY" >"$LOGS/$kind.summary")
  trap - EXIT
  reported "$kind" || broken "the $kind sanitizer reported the above"
  fact "$kind: $(cat "$LOGS/$kind.summary")"
}

(
  sanitized_environment asan
  sanitized_suite asan env "$(preload libasan.so libubsan.so)" \
    ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:log_path=$LOGS/asan.report" \
    UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:log_path=$LOGS/asan.report" \
    pytest -p no:cacheprovider -k "avx512_bf16 or not avx512" "${ASAN_TESTS[@]}" # one AVX-512 form is enough here
)

(
  # The thread sanitizer's runtime wants the addresses that a process without randomisation has.
  fixed_addresses=(setarch -R)
  "${fixed_addresses[@]}" true || fixed_addresses=()
  sanitized_environment tsan
  # Its runtime cannot start threads in a forked child: those tests are for the other runs.
  sanitized_suite tsan env "$(preload libtsan.so)" OPENBLAS_NUM_THREADS=1 \
    TSAN_OPTIONS="suppressions=$ROOT/.ci/tsan-suppressions.txt:log_path=$LOGS/tsan.report" \
    "${fixed_addresses[@]}" pytest -p no:cacheprovider -k "not child" "${TSAN_TESTS[@]}"
)
