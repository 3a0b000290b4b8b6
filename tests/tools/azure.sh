#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The store of type azure against Azurite, Microsoft's emulator of Blob Storage, which the tests start themselves.
#
#   azure.sh [PYTEST-OPTION...]
#
# Azurite is installed below .cache/ from tests/azure/package-lock.json: versions and digests, from whatever registry
# npm is set to. None of its packages may run a script of its own while it is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

place=.cache/azurite
if ! cmp --silent tests/azure/package-lock.json "$place/installed-lock.json"; then
  echo "azure: installing Azurite into $place"
  rm -rf "$place"
  mkdir -p "$place"
  cp tests/azure/package.json tests/azure/package-lock.json "$place/"
  npm --prefix "$place" ci --ignore-scripts --no-audit --no-fund --loglevel=error
  # Last: an installation that was interrupted begins again.
  cp tests/azure/package-lock.json "$place/installed-lock.json"
fi
exec .venv/bin/python -m pytest tests/azure "$@"
