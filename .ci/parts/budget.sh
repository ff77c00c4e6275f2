# Instructions and allocations per frame and stage against bench/budget.json; counted, so a busy machine changes nothing.
source .ci/lib.sh

command -v valgrind >/dev/null ||
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends valgrind; } >&2
built_wheel
environment budget "$WHEEL"
cd "$SOURCE"
counts=$(python tools/instruction_budget.py --check) || broken "$counts"
echo "$counts"
fact "$(grep -c '^| .*%' <<<"$counts") stages within their budgets: $(sed -n 's/^| \([a-z][^|]*\) | \([0-9,]*\) | \([0-9.]*%\).*/\1 \3/p' <<<"$counts" | paste -sd, | sed 's/,/, /g')"
