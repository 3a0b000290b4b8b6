#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The benchmark, in a container of its own without any network: PostgreSQL 17, a pharmacy of SCALE gigabytes, the
# commands that everybody uses beside ours, round by round. Results: build/bench/result.json and table.txt.
#
#   SCALE=1 ROUNDS=3 SEED=42 tests/bench/run.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lab/common.sh disable=SC1091
source "$here/../../lab/common.sh"
cd "$LAB_ROOT"
need_root bench

SCALE=${SCALE:-1}
ROUNDS=${ROUNDS:-3}
SEED=${SEED:-42}
host=$LAB_NAME-bench
out=$LAB_ROOT/build/bench
mkdir -p "$out"
rm -f "$out/result.json" "$out/table.txt"

"$LAB_ROOT/lab/images.sh" build debian13:prepared
# The release that the roles deploy, installed below from its own files alone.
release=$(python backend/build_release.py --python 3.13 --out "$out" | python -c 'import json, sys; print(json.load(sys.stdin)["path"])')

trap 'discard "$host"' EXIT
discard "$host"
boot "$host" "$LAB_REPOSITORY/debian13:prepared" \
  --volume "$LAB_ROOT/plugins/module_utils/_ops:/usr/local/lib/pharma-ops/pharma_ops:ro" \
  --volume "$here:/bench:ro" --volume "$LAB_ROOT/backend/journey.yaml:/journey.yaml:ro" \
  --volume "$release:/release:ro" --volume "$out:/out"
podman exec --env PYTHONPYCACHEPREFIX=/var/cache/pharma-ops --env PYTHONPATH=/usr/local/lib/pharma-ops "$host" \
  python3 /bench/bench.py --scale "$SCALE" --rounds "$ROUNDS" --seed "$SEED" --release /release --out /out
