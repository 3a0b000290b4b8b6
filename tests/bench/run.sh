#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The benchmark, in a container of its own beside an object store of its own: PostgreSQL 17, a pharmacy of SCALE gigabytes,
# the commands that everybody uses beside ours, round by round. Results: build/bench/result.json and table.txt.
#
#   SCALE=1 ROUNDS=3 SEED=42 tests/bench/run.sh
#   SCALE=4 MEMORY=1 tests/bench/run.sh      only the peak memory of a backup into two stores: build/bench/memory.json
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lab/common.sh disable=SC1091
source "$here/../../lab/common.sh"
cd "$LAB_ROOT"
need_root bench

SCALE=${SCALE:-1}
ROUNDS=${ROUNDS:-3}
SEED=${SEED:-42}
export LAB_NAME=$LAB_NAME-bench LAB_PREFIX=${LAB_BENCH_PREFIX:-10.77.9} LAB_HOSTS=s3 LAB_DEBIAN=13
export LAB_STATE_DIR=$LAB_STATE_DIR/bench
host=$LAB_NAME-db1
out=$LAB_ROOT/build/bench
mkdir -p "$out"
rm -f "$out/result.json" "$out/table.txt" "$out/memory.json"

lab/images.sh build debian13:prepared
lab/up.sh test
# The release that the roles deploy, installed below from its own files alone.
release=$(python backend/build_release.py --python 3.13 --out "$out" | python -c 'import json, sys; print(json.load(sys.stdin)["path"])')

finish() {
  discard "$host"
  lab/down.sh >/dev/null
}
trap finish EXIT
discard "$host"
BOOT_NETWORK=$LAB_NAME boot "$host" "$LAB_REPOSITORY/debian13:prepared" \
  --volume "$LAB_ROOT/plugins/module_utils/_ops:/usr/local/lib/pharma-ops/pharma_ops:ro" \
  --volume "$here:/bench:ro" --volume "$LAB_ROOT/backend/journey.yaml:/journey.yaml:ro" \
  --volume "$release:/release:ro" --volume "$out:/out" --add-host "s3:$LAB_PREFIX.14" \
  --volume "$LAB_STATE_DIR/secrets.json:/lab/secrets.json:ro" --volume "$LAB_STATE_DIR/pki/ca.crt:/lab/ca.crt:ro"
what=(/bench/bench.py --rounds "$ROUNDS" --seed "$SEED" --release /release)
[[ ! ${MEMORY:-} ]] || what=(/bench/memory.py)
podman exec --env PYTHONPYCACHEPREFIX=/var/cache/pharma-ops --env PYTHONPATH=/usr/local/lib/pharma-ops "$host" \
  python3 "${what[@]}" --scale "$SCALE" --out /out
