#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The integration tests in a container of each supported Debian: its Python, its libraries, its PostgreSQL, its systemd.
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
  host=$LAB_NAME-integration$release
  # shellcheck disable=SC2064 # the name of this round
  trap "discard '$host'" EXIT
  discard "$host"
  # The checkout is read-only there and the network absent: a test can leave nothing behind and ask nobody. What they
  # throw away lies in memory: hundreds of clusters of a thousand files each. Compiled modules are kept for the next process.
  boot "$host" "$LAB_REPOSITORY/debian$release:prepared" --volume "$LAB_ROOT:/src:ro" \
    --tmpfs /var/tmp --tmpfs /srv --tmpfs /var/lib/postgresql
  podman exec "$host" chown postgres:postgres /var/lib/postgresql
  podman exec --workdir /src --env PYTHONPYCACHEPREFIX=/var/cache/pycache --env LC_ALL=C.UTF-8 \
    --env HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis "$host" \
    python3 -m pytest tests/integration -p no:cacheprovider "$@" || status=1
  discard "$host"
done
exit "$status"
