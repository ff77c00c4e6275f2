# The two commands of README's first code block, as written, each by a new user in a new clone.
source .ci/lib.sh

# in_new_clone NUMBER: sets CLONE and START, with an empty environment active.
in_new_clone() {
  CLONE=$CI_DIR/readme-$1
  copy_checkout "$CLONE"
  environment "readme-$1"
  cd "$CLONE"
  START=$SECONDS
}
nothing_left() {
  local left
  left=$(git status --porcelain | grep -v '^A  ' || true)
  [[ -z $left ]] || broken "the command left files behind or changed some: $left"
}

command=$("$PYTHON" .ci/quick_start.py "$ROOT/README.md" 1)
say "$command"
(
  in_new_clone 1
  bash -c "$command"
  seconds=$("$PYTHON" "$ROOT/.ci/check_wav.py" hello.wav)
  nothing_left
  fact "install and speak in $((SECONDS - START)) s, hello.wav has $seconds s"
)

command=$("$PYTHON" .ci/quick_start.py "$ROOT/README.md" 2)
say "$command"
(
  in_new_clone 2
  suite readme-pytest bash -c "$command"
  nothing_left
  fact "install and test in $((SECONDS - START)) s: $SUMMARY"
)
