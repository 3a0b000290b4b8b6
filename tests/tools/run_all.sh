#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs every part of the tests, two at a time, goes on after a failure, and ends with a table of what ran and how long it
# took. A part's output is kept in .cache/tests/<part>.log; that of a part that failed is printed whole.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

# Two on two cores. With three, scenarios took 1.4 to 1.7 times as long, and tests that measure time had less of it.
AT_ONCE=2
# The longest first. Each scenario has a lab of its own; the first one's load measures the service, so the others make way.
parts=(
  molecule:release integration molecule:site-debian12 molecule:recover molecule:backup molecule:site
  molecule:lab molecule:estate unit sanity azure lint
)
for scenario in molecule/*/molecule.yml; do
  part=molecule:$(basename "$(dirname "$scenario")")
  [[ " ${parts[*]} " == *" $part "* ]] || parts+=("$part")
done

logs=.cache/tests
rm -rf "$logs"
mkdir -p "$logs"

run() {
  local first=()
  [[ $1 == "${parts[0]}" ]] || first=(nice -n 10)
  case $1 in
    molecule:*) "${first[@]}" make --no-print-directory molecule SCENARIO="${1#*:}" ;;
    *) "${first[@]}" make --no-print-directory "$1" ;;
  esac
}

# timed PART: runs it; a line for it in the table.
timed() {
  local part=$1 result began=$SECONDS log=$logs/${1/:/-}.log
  if run "$part" >"$log" 2>&1 </dev/null; then result=passed; else result=FAILED; fi
  printf '%s %s %d\n' "$part" "$result" $((SECONDS - began)) >>"$logs/table"
  printf '%(%H:%M:%S)T  %-24s %-8s %6d s\n' -1 "$part" "$result" $((SECONDS - began))
  [[ $result == passed ]] || sed "s/^/$part | /" "$log"
}

printf 'two at a time: %s\n' "${parts[*]}"
running=0
for part in "${parts[@]}"; do
  if ((running == AT_ONCE)); then
    wait -n
    running=$((running - 1))
  fi
  timed "$part" &
  running=$((running + 1))
done
wait

printf '\n%-24s %-8s %8s\n' part result seconds
sort --key=3,3nr "$logs/table" | while read -r part result seconds; do
  printf '%-24s %-8s %8d\n' "$part" "$result" "$seconds"
done
# What each run of pytest was slow in.
grep -hE '^[0-9.]+s (call|setup|teardown) ' "$logs"/*.log | sort -nr | head -15
passed=$(grep -c ' passed ' "$logs/table") failed=$(grep -c ' FAILED ' "$logs/table")
printf 'all of it: %d s\n' "$SECONDS"
echo "$passed passed, $failed failed"
[[ $failed -eq 0 && $passed -eq ${#parts[@]} ]]
