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

remove() { podman rm --force --time 5 --ignore "$host" >/dev/null; }
trap remove EXIT
remove
mounts=(
  --volume "$LAB_ROOT/plugins/module_utils/_ops:/usr/local/lib/pharma-ops/pharma_ops:ro"
  --volume "$here:/bench:ro" --volume "$LAB_ROOT/backend/journey.yaml:/journey.yaml:ro"
  --volume "$release:/release:ro" --volume "$out:/out"
)
for controller in memory cpu cpuacct pids; do
  [[ ! -e /sys/fs/cgroup/$controller ]] ||
    mounts+=(--volume "/sys/fs/cgroup/$controller:/sys/fs/cgroup/$controller:rw")
done
podman run --detach --name "$host" --hostname bench --label "$LAB_LABEL=$LAB_NAME" --network none --pull never \
  --systemd=always --ulimit nofile=20000:20000 --ulimit nproc=10000:10000 --pids-limit -1 --shm-size 256m \
  --cap-add SYS_ADMIN,SYS_NICE,NET_ADMIN,SYS_PTRACE "${mounts[@]}" "$LAB_REPOSITORY/debian13:prepared" \
  /bin/sh -c 'mount --make-rshared / && exec /sbin/init' >/dev/null

for _ in {1..50}; do
  podman exec "$host" systemctl is-system-running --quiet 2>/dev/null && break
  sleep 0.2
done
podman exec --env PYTHONDONTWRITEBYTECODE=1 --env PYTHONPATH=/usr/local/lib/pharma-ops "$host" \
  python3 /bench/bench.py --scale "$SCALE" --rounds "$ROUNDS" --seed "$SEED" --release /release --out /out
