# The suite with each instruction set that is not the default here, and a proof that the sets are kept apart.
# All of it with the two that differ most from the default; blocks, stages and goldens with those between, whose
# kernels tests/kernels compares with the others in every run anyway.
source .ci/lib.sh

built_wheel
environment isa "$WHEEL[test]"
facts=$(python wheels/check_isa.py "$BUILD") || broken "$facts"
fact "${facts#OK }"
mapfile -t isas < <(cd "$CI_DIR" && python -c 'from pockettts_fast import _core; print(*_core.available_isas(), sep="\n")')
[[ ${#isas[@]} -gt 0 ]] || broken "no instruction set runs here"
cd "$SOURCE"
# The last one is the default: the README part runs the suite with it.
for isa in "${isas[@]:0:${#isas[@]}-1}"; do
  say "suite with $isa"
  tests=(tests/blocks tests/stages tests/test_golden.py tests/test_traps.py tests/test_traps_codec.py)
  if [[ $isa == scalar || $isa == avx2 ]]; then tests=(); fi
  POCKETTTS_FAST_ISA=$isa suite "isa-$isa" pytest "${tests[@]}"
  fact "$isa: $SUMMARY"
done
