#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Builds the backend's release for the Python of the lab's Debian; does nothing when it is there and whole.
set -euo pipefail
# shellcheck source=lab/common.sh disable=SC1091
source "$(dirname "$0")/common.sh"

case $LAB_DEBIAN in
  12) python=3.11 ;;
  13) python=3.13 ;;
  *) die "no Debian $LAB_DEBIAN in this lab; LAB_DEBIAN is 12 or 13" ;;
esac
started=$SECONDS
# One at a time: scenarios that begin together would build in the same tree.
mkdir -p "$LAB_ROOT/build"
exec 9>"$LAB_ROOT/build/.release.lock"
flock 9
python "$LAB_ROOT/backend/build_release.py" --python "$python" --out "$LAB_ROOT/build/release" >/dev/null
say "release: the backend for Python $python is there after $(seconds "$started") s"
