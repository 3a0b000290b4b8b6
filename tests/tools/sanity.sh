#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# ansible-test sanity over what the collection's tarball holds, unpacked beside nothing else: ansible-test
# does not run through the links of the checkout. Usage: tests/tools/sanity.sh [ansible-test options…]
set -eu
cd "$(dirname "$0")/../.."
PATH="${VENV:-$PWD/.venv}/bin:$PATH"
export PATH
python=$(python -c 'import sys; print("{}.{}".format(*sys.version_info))')

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
copy=$work/ansible_collections/pharma/hardening
mkdir -p "$copy/tests"

ansible-galaxy collection build --output-path "$work" . >/dev/null
tar -xzf "$work"/pharma-hardening-*.tar.gz -C "$copy"
rm -f "$copy/MANIFEST.json" "$copy/FILES.json"
cp galaxy.yml "$copy/"
cp tests/config.yml "$copy/tests/"
if [ -d tests/sanity ]; then cp -r tests/sanity "$copy/tests/"; fi
# ansible-test asks git which files there are.
git -C "$copy" init -q
git -C "$copy" add -A

# Some tests run in virtual environments of their own, for which ansible-test would fetch get-pip; the
# interpreter brings one. A home of its own keeps those between runs, and the user's ~/.ansible untouched.
pip_settings=$HOME/.config/pip
export HOME="$PWD/.cache/ansible-test"
mkdir -p "$HOME/.ansible/test/cache" "$HOME/.config"
if [ -d "$pip_settings" ]; then ln -sfn "$pip_settings" "$HOME/.config/pip"; fi
cat >"$HOME/.ansible/test/cache/get_pip_24_2.py" <<'PYTHON'
import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip", "--upgrade"])
wanted = [word for word in sys.argv[1:] if not word.startswith("-")]
if wanted:
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted])
PYTHON

cd "$copy"
ansible-test sanity --color no --python "$python" "$@"
