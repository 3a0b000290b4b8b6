# SPDX-License-Identifier: GPL-3.0-or-later
"""The rounds of the benchmark, inside the container that run.sh makes.

A round holds each naive command and ours, one after the other; every second round begins with ours, so that
neither always finds the warmer cache. What ours does more (encryption, manifest, fingerprints, proof) is in
its time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import host
import measure
import report

NAIVE_DUMP = Path("/var/tmp/naive.dump")
OPS = [sys.executable, "-m", "pharma_ops.cli", "--json"]
CONNECTION = f"postgresql://postgres@/{host.DATABASE}?host=/var/run/postgresql"
RESTORED = "postgresql://postgres@/naive?host=/var/run/postgresql"
PROOF = {"evidence"}


@dataclass
class Round:
    """One round: wall seconds by name, the drill's stages, peak memory in bytes, sizes in bytes, load average."""

    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])

    def note(self, name: str, measured: measure.Measured) -> None:
        """Keep a measurement."""
        self.seconds[name] = measured.seconds
        self.cpu_seconds[name] = measured.cpu_seconds
        self.peak_bytes[name] = measured.peak_bytes


def naive_dump(current: Round) -> None:
    """The command that everybody uses."""
    NAIVE_DUMP.unlink(missing_ok=True)
    current.note("pg_dump -Fc", measure.run(["pg_dump", "-Fc", CONNECTION, "-f", str(NAIVE_DUMP)]))
    current.bytes["pg_dump -Fc"] = NAIVE_DUMP.stat().st_size


def our_backup(current: Round) -> None:
    """A complete set: encrypted, with globals, fingerprints of every table and a signed manifest."""
    shutil.rmtree(host.STORE / host.DATABASE, ignore_errors=True)
    current.note("backup create", measure.run([*OPS, "backup", "create"]))
    current.bytes["backup create"] = sum(
        path.stat().st_size for path in host.STORE.rglob("*") if path.is_file()
    )


def our_backup_off_site(current: Round) -> None:
    """The same set into the lab's object store, which shares the processors with everything else."""
    words = ["--config", str(host.OBJECT_STORE_SETTINGS), "backup", "create"]
    current.note("backup create, object store", measure.run([*OPS, *words]))


def naive_restore(current: Round) -> None:
    """The command that everybody uses, into an empty database of the running server."""
    host.psql("postgres", "drop database if exists naive")
    host.psql("postgres", "create database naive")
    host.settle()
    current.note("pg_restore", measure.run(["pg_restore", "-d", RESTORED, str(NAIVE_DUMP)]))
    host.psql("postgres", "drop database naive")


def our_drill(current: Round) -> None:
    """The whole drill; its stages are timed by itself and stand in the signed evidence."""
    current.note("drill run", measure.run([*OPS, "drill", "run"]))
    evidence = json.loads((host.EVIDENCE / "latest" / "evidence.json").read_text())["predicate"]
    current.stages = {stage["name"]: stage["seconds"] for stage in evidence["stages"]}
    current.seconds["drill, select to teardown"] = sum(
        seconds for name, seconds in current.stages.items() if name not in PROOF
    )


def play(number: int) -> Round:
    """One round; odd ones begin with the naive command, even ones with ours."""
    current = Round()
    pairs: list[tuple[Callable[[Round], None], Callable[[Round], None]]] = [
        (naive_dump, our_backup),
        (naive_restore, our_drill),
    ]
    for naive, ours in pairs:
        for step in (naive, ours) if number % 2 else (ours, naive):
            host.settle()
            step(current)
    host.settle()
    our_backup_off_site(current)
    return current


def summarise(rounds: list[Round], dataset: dict[str, Any]) -> dict[str, Any]:
    """The result as it is written: rounds, medians of the stages, objectives."""

    def pairs(naive: str, ours: Callable[[Round], float]) -> list[report.Pair]:
        return [report.Pair(naive=each.seconds[naive], ours=ours(each)) for each in rounds]

    objectives = report.objectives(
        backup=pairs("pg_dump -Fc", lambda each: each.seconds["backup create"]),
        restore=pairs("pg_restore", lambda each: each.stages["restore"]),
        drill=pairs("pg_restore", lambda each: each.seconds["drill, select to teardown"]),
        compare=[each.stages["compare"] for each in rounds],
        peak_bytes=max(
            max(
                each.peak_bytes[name]
                for name in ("backup create", "backup create, object store", "drill run")
            )
            for each in rounds
        ),
        database_bytes=dataset["bytes"],
    )
    return {
        "postgresql": host.psql("postgres", "show server_version").split()[0],
        "cpus": len(os.sched_getaffinity(0)),
        "dataset": dataset,
        "judged": dataset["bytes"] >= report.JUDGED_FROM_BYTES,
        "rounds": [asdict(each) for each in rounds],
        "medians": {
            name: statistics.median(each.seconds[name] for each in rounds) for name in rounds[0].seconds
        },
        "stages": report.stage_medians([each.stages for each in rounds]),
        "objectives": [asdict(each) | {"met": each.met} for each in objectives],
    }


def main() -> int:
    """Prepare, play the rounds, write result.json and table.txt; a missed objective is said, machines differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the database in GB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--release", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    sales = int(options.scale * 1e9 / host.BYTES_PER_SALE)
    print(f"Preparing {sales} sales, seed {options.seed}", flush=True)
    host.prepare(options.release, sales, options.seed)
    dataset = {
        "bytes": int(host.psql("postgres", f"select pg_database_size('{host.DATABASE}')")),
        "sales": sales,
        "seed": options.seed,
        "asOf": host.AS_OF,
    }
    rounds = []
    for number in range(1, options.rounds + 1):
        rounds.append(play(number))
        spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in rounds[-1].seconds.items())
        print(f"Round {number} of {options.rounds}: {spent}", flush=True)
    result = summarise(rounds, dataset)
    (options.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    text = report.render(result)
    (options.out / "table.txt").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
