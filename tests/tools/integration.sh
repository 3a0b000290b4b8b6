#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The integration tests in a container of each supported Debian: its Python, its libraries, its PostgreSQL.
#
#   integration.sh [PYTEST-OPTION...]      LAB_RELEASES="12 13" chooses the releases
set -euo pipefail
# shellcheck source=lab/common.sh disable=SC1091
source "$(dirname "$0")/../../lab/common.sh"
cd "$LAB_ROOT"
need_root integration

status=0
for release in ${LAB_RELEASES:-12 13}; do
  lab/images.sh build "debian$release:prepared"
  say "integration: Debian $release"
  # A shell is process 1, so that orphans of a killed program are reaped as by any init.
  # The checkout is read-only there and the network absent: a test can leave nothing behind and ask nobody.
  podman run --rm --pull never --network none --shm-size 256m --label "$LAB_LABEL=$LAB_NAME-integration" \
    --volume "$LAB_ROOT:/src:ro" --workdir /src \
    --env PYTHONDONTWRITEBYTECODE=1 --env HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis --env LC_ALL=C.UTF-8 \
    "$LAB_REPOSITORY/debian$release:prepared" \
    bash -c 'python3 -m pytest tests/integration -p no:cacheprovider "$@"; exit' integration "$@" || status=1
done
exit "$status"
