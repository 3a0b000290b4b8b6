# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill that is stopped or killed: what it leaves, and who cleans up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster

from pharma_ops.drill import workspace


@pytest.fixture
def base() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="drill-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def dump(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump whose restore takes some seconds."""
    cluster.create(
        "long",
        "CREATE TABLE t (id bigint PRIMARY KEY, a text, b text);"
        "INSERT INTO t SELECT g, md5(g::text), md5((g * 7)::text) FROM generate_series(1, 300000) g;"
        "CREATE INDEX ON t (a); CREATE INDEX ON t (b); CREATE INDEX ON t (a, b)",
    )
    path = tmp_path_factory.mktemp("dump") / "long.dump"
    command = [cluster.bin / "pg_dump", "-h", cluster.host, "-p", str(cluster.port), "-U", "postgres"]
    subprocess.run([*command, "-Fc", "-Z1", "-f", path, "long"], check=True, timeout=60)
    return path


class Run:
    """A running ``pharma-ops drill run --dump``."""

    def __init__(self, dump: Path, base: Path, engine_path: Path) -> None:
        self.base = base
        words = ["drill", "run", "--dump", dump, "--work-dir", base / "work", "--evidence", base / "evidence"]
        words += ["--config", self._config(), "--json"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pharma_ops.cli", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(engine_path)},
        )

    def _config(self) -> Path:
        path = self.base / "config.toml"
        path.write_text(f'environment = "lab"\nlock_dir = "{self.base}/lock"\n')
        return path

    def wait_for_stage(self, name: str) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = json.loads(line) if line.startswith("{") else {}
            if found.get("msg") == "stage_started" and found["meta"]["stage"] == name:
                return
        raise AssertionError(f"the drill ended before {name}")

    def end(self) -> tuple[int, dict[str, Any]]:
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, json.loads(out) if out else {}

    def evidence(self) -> dict[str, Any]:
        statement: dict[str, Any] = json.loads((self.base / "evidence/latest/evidence.json").read_text())
        return statement["predicate"]


def stage(predicate: dict[str, Any], name: str) -> dict[str, Any]:
    return next(stage for stage in predicate["stages"] if stage["name"] == name)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_stage_and_not_the_teardown(
    dump: Path, base: Path, engine_path: Path, number: signal.Signals
) -> None:
    run = Run(dump, base, engine_path)
    run.wait_for_stage("restore")
    run.process.send_signal(number)
    run.process.send_signal(number)
    status, result = run.end()
    assert (status, result["verdict"]) == (2, "unknown")
    predicate = run.evidence()
    assert f"interrupted in restore by {number.name}" in predicate["cause"]
    assert stage(predicate, "integrity")["verdict"] == "not_run"
    assert stage(predicate, "teardown")["verdict"] == "passed"
    assert list((base / "work").iterdir()) == []
    assert workspace.processes_of(base / "work") == {}


def test_what_a_killed_drill_left_is_swept_by_the_next(dump: Path, base: Path, engine_path: Path) -> None:
    killed = Run(dump, base, engine_path)
    killed.wait_for_stage("restore")
    killed.process.kill()
    killed.end()
    left = next(path.name for path in (base / "work").iterdir() if path.is_dir())
    assert workspace.processes_of(base / "work" / left), "the server outlives the drill that was killed"
    run = Run(dump, base, engine_path)
    status, result = run.end()
    assert (status, result["verdict"]) == (0, "limited")
    assert stage(run.evidence(), "teardown")["facts"]["sweptDrills"] == [left]
    assert list((base / "work").iterdir()) == []
    assert workspace.processes_of(base / "work") == {}


def test_a_second_drill_is_refused_while_one_runs(dump: Path, base: Path, engine_path: Path) -> None:
    first = Run(dump, base, engine_path)
    first.wait_for_stage("restore")
    second = Run(dump, base, engine_path)
    status, result = second.end()
    assert (status, result["error"]["code"]) == (2, "LOCK_HELD")
    assert first.end()[0] == 0
