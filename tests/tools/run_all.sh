#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs every part of the tests in two lanes side by side, goes on after a failure, and ends with a table of what ran and
# how long it took. A part's output is kept in .cache/tests/<part>.log; that of a part that failed is printed whole.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

# Each scenario has a lab of its own. The one whose load measures the service begins first, when the other lane is busy
# on one processor only.
left=(lint unit sanity integration azure molecule:lab)
right=(molecule:release molecule:site molecule:recover molecule:site-debian12)
for scenario in molecule/*/molecule.yml; do
  part=molecule:$(basename "$(dirname "$scenario")")
  [[ " ${left[*]} ${right[*]} " == *" $part "* ]] || left+=("$part")
done

logs=.cache/tests
rm -rf "$logs"
mkdir -p "$logs"

run() {
  case $1 in
    molecule:*) make --no-print-directory molecule SCENARIO="${1#*:}" ;;
    *) make --no-print-directory "$1" ;;
  esac
}

# lane PART...: one after the other; a line for each in the table.
lane() {
  local part result began log
  for part in "$@"; do
    log=$logs/${part/:/-}.log
    began=$SECONDS
    if run "$part" >"$log" 2>&1 </dev/null; then result=passed; else result=FAILED; fi
    printf '%s %s %d\n' "$part" "$result" $((SECONDS - began)) >>"$logs/table"
    printf '%(%H:%M:%S)T  %-24s %-8s %6d s\n' -1 "$part" "$result" $((SECONDS - began))
    [[ $result == passed ]] || sed "s/^/$part | /" "$log"
  done
}

printf 'two lanes: %s | %s\n' "${left[*]}" "${right[*]}"
lane "${left[@]}" &
lane "${right[@]}" &
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
[[ $failed -eq 0 && $passed -eq $((${#left[@]} + ${#right[@]})) ]]
