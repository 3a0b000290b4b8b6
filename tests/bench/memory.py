# SPDX-License-Identifier: GPL-3.0-or-later
"""The peak memory of a backup into two object stores beside pg_dump's own, inside the container that run.sh makes.

Only the size of the database counts here, so it is filled by the server itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import host
import measure

LIMIT_BYTES = 256 << 20
ROW_BYTES = 300
"""What a row of the filling takes in the database."""
PG_DUMP = ["pg_dump", "--format=custom", "--compress=zstd:1", "--no-sync", "--file=/dev/null"]
OPS = [sys.executable, "-m", "pharma_ops.cli", "--json", "--config", str(host.TWO_STORES_SETTINGS)]


def fill(gigabytes: float) -> int:
    """Fill the database with rows that do not compress well; returns its size in bytes."""
    rows = int(gigabytes * 1e9 / ROW_BYTES)
    host.psql(host.DATABASE, "create table filling (id bigint not null, text text not null)")
    words = " || ".join(f"md5((i * {factor})::text)" for factor in range(1, 9))
    host.psql(host.DATABASE, f"insert into filling select i, {words} from generate_series(1, {rows}) i")
    host.settle()
    return int(host.psql("postgres", f"select pg_database_size('{host.DATABASE}')"))


def main() -> int:
    """Measure, write memory.json; 1 when the backup needs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=4.0, help="size of the database in GB")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    host.start_server()
    host.make_keys()
    size = fill(options.scale)
    print(f"A database of {size / 1e9:.2f} GB", flush=True)
    connection = f"postgresql://postgres@/{host.DATABASE}?host=/var/run/postgresql"
    alone = measure.run([*PG_DUMP, connection])
    ours = measure.run([*OPS, "backup", "create"])
    made = json.loads(ours.stdout)
    over = ours.peak_bytes - alone.peak_bytes
    result = {
        "databaseBytes": size,
        "storedBytes": made["bytes"],
        "stores": [store["description"] for store in made["stores"]],
        "verdict": made["verdict"],
        "pgDumpPeakBytes": alone.peak_bytes,
        "pgDumpSeconds": alone.seconds,
        "backupPeakBytes": ours.peak_bytes,
        "backupSeconds": ours.seconds,
        "overBytes": over,
        "limitBytes": LIMIT_BYTES,
        "met": over <= LIMIT_BYTES,
    }
    (options.out / "memory.json").write_text(json.dumps(result, indent=2) + "\n")
    print(
        f"pg_dump alone: {alone.peak_bytes / 2**20:.0f} MiB in {alone.seconds:.0f} s; a backup into "
        f"{len(made['stores'])} stores: {ours.peak_bytes / 2**20:.0f} MiB in {ours.seconds:.0f} s, so "
        f"{over / 2**20:.0f} MiB over pg_dump's own, where at most {LIMIT_BYTES >> 20} are allowed: "
        f"{'met' if result['met'] else 'MISSED'}"
    )
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
