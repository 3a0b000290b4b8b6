#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs every part of the tests, goes on after a failure, and ends with a table of what ran and how long it took.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

parts=(lint unit sanity integration)
for scenario in molecule/*/molecule.yml; do
  parts+=("molecule:$(basename "$(dirname "$scenario")")")
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
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
