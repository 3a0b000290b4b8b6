#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs every part of the tests, goes on after a failure, and ends with a table of what ran and how long it took.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

parts=(lint unit sanity integration)
# Half an hour of load by itself; the reason stands in the table, so that nobody takes it for run.
by_itself=release
for scenario in molecule/*/molecule.yml; do
  name=$(basename "$(dirname "$scenario")")
  [[ $name == "$by_itself" ]] || parts+=("molecule:$name")
done

run() {
  case $1 in
    molecule:*) make --no-print-directory molecule SCENARIO="${1#*:}" ;;
    *) make --no-print-directory "$1" ;;
  esac
}

passed=0 failed=0 table=''
for part in "${parts[@]}"; do
  printf '\n======== %s\n' "$part"
  began=$SECONDS
  if run "$part"; then
    result=passed passed=$((passed + 1))
  else
    result=FAILED failed=$((failed + 1))
  fi
  table+=$(printf '%-24s %-8s %6d s' "$part" "$result" $((SECONDS - began)))$'\n'
done

printf '\n%-24s %-8s %8s\n%s' part result seconds "$table"
echo "$passed passed, $failed failed; not run: molecule:$by_itself (half an hour of load: make molecule SCENARIO=$by_itself)"
[ "$failed" -eq 0 ]
