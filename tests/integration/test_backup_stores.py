# SPDX-License-Identifier: GPL-3.0-or-later
"""Several stores at once: one that fails is named, the others get the set; runs are killed at every boundary."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from jsonschema import Draft202012Validator
from material import Keys, MakeConfig

from pharma_ops import clock, config
from pharma_ops.backup import state
from pharma_ops.backup.catalogue import list_sets, newest_complete
from pharma_ops.backup.create import create_backup
from pharma_ops.backup.verify import verify_set
from pharma_ops.errors import ExitCode, OpsError
from pharma_ops.log import Log
from pharma_ops.progress import Silent
from pharma_ops.store.open import open_store

SHOP = """
CREATE TABLE journal (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL);
INSERT INTO journal (text) SELECT md5(i::text) || md5((i + 7)::text) FROM generate_series(1, 120000) i;
"""
SMALL = "CREATE TABLE notes (id integer PRIMARY KEY); INSERT INTO notes SELECT generate_series(1, 100)"
SCHEMA = Path(__file__).parents[2] / "docs/schemas/backup-state.schema.json"


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Cluster:
    """A cluster with ``shop``, some 10 MB that do not compress well, and ``small``."""
    cluster.create("shop", SHOP)
    cluster.create("small", SMALL)
    return cluster


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """The directory of the store ``second``."""
    directory = tmp_path / "second"
    directory.mkdir()
    return directory


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    directory = tmp_path / "full"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)


def local(directory: Path) -> dict[str, dict[str, str]]:
    """The store ``second`` in a directory."""
    return {"second": {"type": "local", "path": str(directory)}}


def states(settings: config.Config, store: str, database: str = "shop") -> list[str]:
    """The states of the sets that a store lists."""
    return [item.state for item in list_sets(open_store(settings.store(store)), database)]


def record(settings: config.Config, database: str = "shop") -> dict[str, Any]:
    """The record of the backups, which fits its schema."""
    found = state.read(settings.state_dir, database)
    assert found is not None
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(found)
    return found


def told(settings: config.Config, database: str = "shop") -> dict[str, float]:
    """The metrics: value by name and labels, as Prometheus reads them."""
    text = (settings.metrics_dir / f"pharma_backup_{database}.prom").read_text()
    rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("pharma_backup_"): float(value) for name, _, value in rows}


def test_one_dump_lies_whole_in_every_store(
    shop: Cluster,
    make_config: MakeConfig,
    log: Log,
    keys: Keys,
    second: Path,
    store_dir: Path,
    tmp_path: Path,
) -> None:
    settings = make_config(shop, "shop", stores=local(second))
    result = create_backup(settings, log, Silent())
    assert (result.verdict, result.exit_code) == ("complete", ExitCode.PROVEN)
    for name in ("offsite", "second"):
        store = open_store(settings.store(name))
        verified = verify_set(store, "shop", result.backup_id, keys.signers.read_bytes(), Silent(), tmp_path)
        assert verified.bytes == result.bytes
    here, there = (
        {path.name: path.read_bytes() for path in (root / "shop" / result.backup_id).iterdir()}
        for root in (store_dir, second)
    )
    assert here == there, "the same ciphertext went to both"
    assert record(settings)["lastRun"]["verdict"] == "complete"
    assert record(settings)["stores"]["second"]["lastSuccess"]["manifestSha256"] == result.manifest_sha256
    metrics = told(settings)
    assert metrics['last_run_success{database="shop",store="second"}'] == 1
    assert metrics['bytes{database="shop",store="offsite"}'] == result.bytes
    assert metrics['rows{database="shop"}'] == 120000


def test_a_store_that_is_not_there_does_not_stop_the_backup(
    shop: Cluster, make_config: MakeConfig, log: Log, keys: Keys, second: Path, tmp_path: Path
) -> None:
    settings = make_config(shop, "shop", stores=local(second))
    create_backup(settings, log, Silent())
    second.rename(second.with_name("unmounted"))
    result = create_backup(settings, log, Silent())
    assert (result.verdict, result.exit_code) == ("partial", ExitCode.FAILED)
    assert {store.name: store.error.code for store in result.stores if store.error} == {
        "second": "STORE_UNREACHABLE"
    }
    store = open_store(settings.store("offsite"))
    verify_set(store, "shop", result.backup_id, keys.signers.read_bytes(), Silent(), tmp_path)
    found = record(settings)
    assert found["lastRun"]["error"]["code"] == "BACKUP_PARTIAL"
    assert found["stores"]["second"]["lastFailure"]["error"]["code"] == "STORE_UNREACHABLE"
    assert found["stores"]["second"]["lastSuccess"] is not None
    metrics = told(settings)
    assert metrics['last_run_success{database="shop",store="second"}'] == 0
    assert metrics['last_run_success{database="shop",store="offsite"}'] == 1


def test_a_store_that_fills_up_in_mid_upload_has_an_unfinished_set_and_the_other_a_whole_one(
    shop: Cluster, make_config: MakeConfig, log: Log, keys: Keys, full: Path, tmp_path: Path
) -> None:
    settings = make_config(shop, "shop", stores=local(full))
    result = create_backup(settings, log, Silent())
    assert result.verdict == "partial"
    assert result.error is not None
    assert "STORE_FULL" in [store.error.code for store in result.stores if store.error]
    assert str(full) in result.error.message
    assert "complete" not in states(settings, "second")
    assert states(settings, "offsite") == ["complete"]
    assert not list(full.glob("shop/*/dump.age*"))
    store = open_store(settings.store("offsite"))
    verify_set(store, "shop", result.backup_id, keys.signers.read_bytes(), Silent(), tmp_path)


def test_a_store_that_goes_away_in_mid_upload(
    shop: Cluster, make_config: MakeConfig, log: Log, second: Path
) -> None:
    class Thief(Silent):
        def advanced(self, step: str, *_facts: object) -> None:
            if step == "dump":
                shutil.rmtree(second, ignore_errors=True)

    settings = make_config(shop, "shop", stores=local(second))
    result = create_backup(settings, log, Thief())
    assert [store.name for store in result.missing] == ["second"]
    assert states(settings, "offsite") == ["complete"]


def test_no_store_left_is_a_failed_backup_that_the_record_knows(
    shop: Cluster, make_config: MakeConfig, log: Log, full: Path
) -> None:
    tiny = {"type": "local", "path": str(full)}
    settings = make_config(shop, "shop", store=tiny, stores={"second": tiny | {"path": str(full / "b")}})
    (full / "b").mkdir()
    with pytest.raises(OpsError) as caught:
        create_backup(settings, log, Silent())
    assert (caught.value.code, caught.value.exit_code) == ("BACKUP_NOT_STORED", ExitCode.FAILED)
    assert record(settings)["lastRun"]["verdict"] == "failed"
    assert told(settings)['last_run_success{database="shop",store="second"}'] == 0


def test_a_run_that_could_not_begin_is_in_the_record_too(
    shop: Cluster, make_config: MakeConfig, log: Log
) -> None:
    settings = make_config(shop, "shop", database={"port": 1})
    with pytest.raises(OpsError) as caught:
        create_backup(settings, log, Silent())
    assert caught.value.exit_code == ExitCode.COULD_NOT_RUN
    found = record(settings)
    assert found["lastRun"]["error"]["code"] == "DATABASE_UNREACHABLE"
    assert found["stores"]["offsite"]["lastFailure"]["error"]["code"] == "DATABASE_UNREACHABLE"


def test_a_record_that_cannot_be_written_costs_no_backup(
    shop: Cluster, make_config: MakeConfig, log: Log, tmp_path: Path
) -> None:
    settings = make_config(shop, "small")
    (tmp_path / "state").write_text("in the way")
    (tmp_path / "metrics").write_text("in the way")
    result = create_backup(settings, log, Silent())
    assert result.verdict == "complete"
    assert sum("not written" in warning for warning in result.warnings) == 2
    assert states(settings, "offsite", "small") == ["complete"]


def test_a_damaged_record_costs_no_backup_and_is_replaced(
    shop: Cluster, make_config: MakeConfig, log: Log
) -> None:
    settings = make_config(shop, "small")
    path = state.path_of(settings.state_dir, "small")
    path.parent.mkdir(parents=True)
    path.write_text('{"schemaVersion"')
    result = create_backup(settings, log, Silent())
    assert str(path) in result.warnings[0]
    assert record(settings, "small")["lastRun"]["backupId"] == result.backup_id


def test_two_hosts_write_into_one_store_at_once(
    shop: Cluster, make_config: MakeConfig, log: Log, keys: Keys, tmp_path: Path
) -> None:
    settings = make_config(shop, "shop")
    other = dataclasses.replace(settings, lock_dir=tmp_path / "lock2", state_dir=tmp_path / "state2")
    results: list[str] = []
    threads = [
        threading.Thread(
            target=lambda host=host: results.append(create_backup(host, log, Silent()).backup_id)
        )  # type: ignore[misc]
        for host in (settings, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 2
    store = open_store(settings.store("offsite"))
    for backup_id in results:
        verify_set(store, "shop", backup_id, keys.signers.read_bytes(), Silent(), tmp_path)


def test_two_writers_on_one_host_are_never_at_work_at_once(
    shop: Cluster, make_config: MakeConfig, log: Log
) -> None:
    settings = make_config(shop, "shop")
    refused: list[OpsError] = []

    class Another(Silent):
        def started(self, step: str) -> None:
            if step == "dump":
                with pytest.raises(OpsError) as caught:
                    create_backup(settings, log, Silent())
                refused.append(caught.value)

    result = create_backup(settings, log, Another())
    assert [error.code for error in refused] == ["LOCK_HELD"]
    assert record(settings)["lastRun"]["backupId"] == result.backup_id, "the refused one left no record"
    assert states(settings, "offsite") == ["complete"]


def test_a_clock_that_goes_back_a_day_leaves_the_newest_backup_the_newest(
    shop: Cluster, make_config: MakeConfig, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_config(shop, "small")
    first = create_backup(settings, log, Silent())
    real = clock.now

    def yesterday() -> datetime:
        return real() - timedelta(days=1)

    monkeypatch.setattr(clock, "now", yesterday)
    second = create_backup(settings, log, Silent())
    third = create_backup(settings, log, Silent())
    monkeypatch.undo()
    assert first.backup_id < second.backup_id < third.backup_id
    assert any("the clock stands at" in warning for warning in second.warnings)
    found = list_sets(open_store(settings.store("offsite")), "small")
    newest = newest_complete(found)
    assert newest is not None
    assert newest.id == third.backup_id
    fourth = create_backup(settings, log, Silent())
    assert fourth.backup_id > third.backup_id
    assert fourth.warnings == ()


class Killed(Log):
    """A log that kills its process at the n-th boundary: every line that a run writes is one."""

    def __init__(self, at: int) -> None:
        super().__init__("lab", "test-run-0001", [])
        self.at = at
        self.passed: list[str] = []
        self._guard = threading.Lock()

    def boundary(self, name: str) -> None:
        with self._guard:
            self.passed.append(name)
            if len(self.passed) == self.at:
                os.kill(os.getpid(), signal.SIGKILL)

    def _write(self, _level: str, event: str, meta: dict[str, Any], _error: object) -> None:
        self.boundary(f"{event} {meta.get('store', '')} {meta.get('key', '').rpartition('/')[2]}")


class Boundaries(Silent):
    """The steps as boundaries of the same run."""

    def __init__(self, log: Killed) -> None:
        self._log = log

    def started(self, step: str) -> None:
        self._log.boundary(f"started {step}")

    def finished(self, step: str, *_facts: object) -> None:
        self._log.boundary(f"finished {step}")


def killed_run(settings: config.Config, at: int) -> int:
    """The status of a run in a process of its own that is killed at a boundary (0: it was not killed)."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            log = Killed(at)
            create_backup(settings, log, Boundaries(log))
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_at_every_boundary_a_set_is_unfinished_or_whole(
    shop: Cluster, make_config: MakeConfig, keys: Keys, second: Path, tmp_path: Path
) -> None:
    settings = make_config(shop, "small", stores=local(second))
    counted = Killed(-1)
    create_backup(settings, counted, Boundaries(counted))
    boundaries = len(counted.passed)
    names = " ".join(counted.passed)
    assert names.count("object_stored") == 8, "two stores with four objects each"
    for event in ("backup_started", "started dump", "finished publish", "record_written", "metrics_written"):
        assert event in names
    seen = set()
    for at in range(1, boundaries + 1):
        assert killed_run(settings, at) == -signal.SIGKILL
        for name in ("offsite", "second"):
            store = open_store(settings.store(name))
            for item in list_sets(store, "small"):
                seen.add(item.state)
                if item.state == "complete":
                    verify_set(store, "small", item.id, keys.signers.read_bytes(), Silent(), tmp_path)
        found = record(settings, "small")
        assert found["lastRun"]["verdict"] == "complete", "whole, or as it was before"
    assert seen == {"complete", "unfinished"}
    assert killed_run(settings, boundaries + 1) == 0, "the next one works"
    assert record(settings, "small")["lastRun"]["verdict"] == "complete"
