#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs the quality tools side by side, shows what failed, and ends with one line for each: its verdict and
# its time. Usage: tests/tools/lint.sh [CHECK…]   (default: all)
set -u
cd "$(dirname "$0")/../.." || exit 2
PATH="${VENV:-$PWD/.venv}/bin:$PATH"
export PATH NO_COLOR=1
logs=build/lint
mkdir -p "$logs"

checks=(ruff-format ruff mypy-engine mypy-backend yamllint shellcheck ansible-lint antsibull-docs changelog secrets)

check_ruff-format() { ruff format --check .; }
check_ruff() { ruff check .; }
check_mypy-engine() { mypy --strict --cache-dir .mypy_cache/engine plugins/module_utils/_ops; }
check_mypy-backend() { mypy --strict --cache-dir .mypy_cache/backend backend/src; }
check_yamllint() { yamllint --strict .; }
check_shellcheck() { shell_scripts | xargs -0 --no-run-if-empty shellcheck --external-sources; }
check_ansible-lint() { ansible-lint --offline -q; }
check_antsibull-docs() { antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck "$collection"; }
check_changelog() { antsibull-changelog lint; }
check_secrets() { python tests/tools/find_secrets.py; }

collection=collections/ansible_collections/pharma/hardening

# Committed and new files, as git sees them: what is ignored is not ours.
shell_scripts() {
    git ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' file; do
            [ -f "$file" ] && [ ! -L "$file" ] || continue
            case $file in
                *.sh) printf '%s\0' "$file" ;;
                *.*) ;;
                *) head -n 1 "$file" 2>/dev/null | tr -d '\0' | grep -qE '^#!.*\b(ba|da)?sh\b' && printf '%s\0' "$file" ;;
            esac
        done
}

run() {
    local name=$1 began=$EPOCHREALTIME status=0
    "check_$name" >"$logs/$name.log" 2>&1 || status=$?
    echo "$status $(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $began }")" >"$logs/$name.result"
}

[ $# -gt 0 ] && checks=("$@")
for name in "${checks[@]}"; do
    declare -F "check_$name" >/dev/null || { echo "lint: there is no check $name" >&2; exit 2; }
    rm -f "$logs/$name.result"
    run "$name" &
done
wait

failed=0
for name in "${checks[@]}"; do
    read -r status _ <"$logs/$name.result"
    [ "$status" -eq 0 ] && continue
    failed=$((failed + 1))
    printf '\n== %s: exit status %s\n' "$name" "$status"
    cat "$logs/$name.log"
done
echo
for name in "${checks[@]}"; do
    read -r status seconds <"$logs/$name.result"
    [ "$status" -eq 0 ] && verdict=passed || verdict=FAILED
    printf 'lint %-15s %s %6s s\n' "$name" "$verdict" "$seconds"
done
[ "$failed" -eq 0 ]
