# The wheel and the source distribution: contents, size, and a voice from each in an empty environment.
source .ci/lib.sh

readonly LIMIT=$((8 * 1024 * 1024))

built_wheel
size=$(stat -c %s "$WHEEL")
[[ $size -le $LIMIT ]] || broken "$(basename "$WHEEL") has $size bytes, the limit is $LIMIT"
(
  environment wheel "$WHEEL"
  pip check
  cd "$CI_DIR"
  facts=$(python "$SOURCE/wheels/smoke.py") || broken "$facts"
  fact "$((size / 1024)) KiB; ${facts#OK }"
)

(
  environment sdist build
  (cd "$SOURCE" && python -m build -q --sdist --outdir "$CI_DIR/sdist")
  sdist=$(ls "$CI_DIR"/sdist/*.tar.gz)
  environment sdist-installed "$sdist"
  cd "$CI_DIR"
  facts=$(python "$SOURCE/wheels/smoke.py") || broken "from the source distribution: $facts"
  fact "source distribution $(($(stat -c %s "$sdist") / 1024)) KiB builds and speaks"
)
