# SPDX-License-Identifier: GPL-3.0-or-later
"""Pruning a host's places: record, metrics, lock, and what a wrong clock leaves behind."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from estate_samples import DATABASE, NOW, PRIVATE, PUBLIC, RULES, STORE, Host, add_drill, host, ids, put_days
from jsonschema import Draft202012Validator

from pharma_ops import clock, config, locks
from pharma_ops.backup import pruned
from pharma_ops.errors import OpsError
from pharma_ops.estate import pruning
from pharma_ops.log import Log

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.fixture
def here(tmp_path: Path) -> Host:
    return host(tmp_path, RULES)


@pytest.fixture
def log() -> Log:
    return Log("lab", "test-run-0001", [])


def validated(root: Path, path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    schema = json.loads((root / "docs/schemas/retention.schema.json").read_text())
    Draft202012Validator(schema).validate(document)
    return document


def test_the_record_keeps_the_schema_and_comes_back(here: Host, log: Log, root: Path) -> None:
    made = put_days(here.store, 12)
    add_drill(here.ledger, made[0])
    pruning.run(config.load(here.config), log)
    path = here.base / "state" / "retention" / f"{DATABASE}-{STORE}.json"
    document = validated(root, path)
    assert document["lastRun"]["verdict"] == "done"
    assert (document["lastRun"]["kept"], document["lastRun"]["removed"]) == (6, 6)
    assert document["newestProven"] == made[0]
    record = pruned.read(here.base / "state", DATABASE, STORE)
    assert record is not None
    pruned.write(here.base / "state", record)
    assert json.loads(path.read_text()) == document


def test_a_clock_that_was_set_back_a_day_blocks_and_stays_so(
    here: Host, log: Log, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set back by two hours only: no set is of the future, so nothing but the record knows."""
    put_days(here.store, 12)
    assert pruning.run(config.load(here.config), log)[0].exit_code == 0
    monkeypatch.setattr(clock, "now", lambda: NOW - 2 * HOUR)
    for _ in range(2):
        (result,) = pruning.run(config.load(here.config), log)
        assert result.problem is not None
        assert result.problem.code == "RETENTION_CLOCK_BEHIND"
        document = validated(root, here.base / "state" / "retention" / f"{DATABASE}-{STORE}.json")
        assert document["lastRun"]["verdict"] == "blocked"
        assert document["lastActed"]["at"] == clock.to_text(NOW)


def test_a_run_in_a_wrong_future_leaves_no_trace(
    here: Host, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps ten years ahead: the newest set is too old there, and the right clock goes on."""
    made = put_days(here.store, 12)
    monkeypatch.setattr(clock, "now", lambda: NOW + 3650 * DAY)
    assert pruning.run(config.load(here.config), log)[0].exit_code == 1
    assert ids(here.store) == made
    monkeypatch.setattr(clock, "now", lambda: NOW)
    assert pruning.run(config.load(here.config), log)[0].exit_code == 0


def test_a_damaged_record_stops_that_store(here: Host, log: Log) -> None:
    made = put_days(here.store, 12)
    pruning.run(config.load(here.config), log)
    path = here.base / "state" / "retention" / f"{DATABASE}-{STORE}.json"
    path.write_text("{}")
    (result,) = pruning.run(config.load(here.config), log)
    assert result.exit_code == 2
    assert result.problem is not None
    assert result.problem.code == "RETENTION_RECORD_INVALID"
    assert ids(here.store) == made[7:]


def test_the_metrics_tell_every_place(here: Host, log: Log) -> None:
    put_days(here.store, 12)
    pruning.run(config.load(here.config), log)
    text = (here.base / "metrics" / "pharma_prune.prom").read_text()
    labels = f'database="{DATABASE}",store="{STORE}"'
    assert f"pharma_retention_last_run_success{{{labels}}} 1.0" in text
    stamp = text.partition(f"pharma_retention_last_run_timestamp_seconds{{{labels}}} ")[2].splitlines()[0]
    assert float(stamp) == NOW.timestamp()
    assert f'pharma_retention_sets{{action="keep",{labels}}} 5.0' in text
    assert f'pharma_retention_sets{{action="remove",{labels}}} 7.0' in text


def test_one_store_that_fails_does_not_keep_the_other(tmp_path: Path, log: Log, root: Path) -> None:
    second = f'[stores.second]\ntype = "local"\npath = "{tmp_path}/nowhere"'
    here = host(tmp_path, RULES, second)
    made = put_days(here.store, 12)
    first, other = pruning.run(config.load(here.config), log)
    assert (first.exit_code, other.exit_code) == (0, 2)
    assert ids(here.store) == made[7:]
    assert other.problem is not None
    assert other.problem.code == "STORE_UNREACHABLE"
    text = (here.base / "metrics" / "pharma_prune.prom").read_text()
    assert f'pharma_retention_last_run_success{{database="{DATABASE}",store="second"}} 0.0' in text
    document = validated(root, here.base / "state" / "retention" / f"{DATABASE}-second.json")
    assert document["lastRun"]["error"]["code"] == "STORE_UNREACHABLE"


def test_two_prunings_of_one_place_do_not_meet(here: Host, log: Log) -> None:
    made = put_days(here.store, 12)
    with locks.held(here.base / "lock", f"prune-{DATABASE}-{STORE}", "another-run"):
        (result,) = pruning.run(config.load(here.config), log)
    assert result.exit_code == 2
    assert result.problem is not None
    assert result.problem.code == "LOCK_HELD"
    assert ids(here.store) == made


def test_every_removal_is_logged_with_its_reason(here: Host, tmp_path: Path) -> None:
    put_days(here.store, 7)
    path = tmp_path / "log"
    with path.open("w") as stream:
        pruning.run(config.load(here.config), Log("lab", "test-run-0001", [stream]))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    gone = [line["meta"] for line in lines if line["msg"] == "backup_set_removed"]
    assert [meta["reasons"] for meta in gone] == [["beyond all rules"]] * 2
    assert lines[-1]["msg"] == "prune_finished"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('environment = "lab"\n', "retention"),
        ('environment = "lab"\n[retention]\n', "stores"),
        ('environment = "lab"\n[retention]\nstores = ["x"]\n', "databases"),
        ('environment = "lab"\n[retention]\nstores = ["x"]\ndatabases = ["y"]\n', "no store is named 'x'"),
    ],
)
def test_a_host_without_a_policy_prunes_nothing(tmp_path: Path, log: Log, text: str, word: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(OpsError, match=word) as caught:
        pruning.run(config.load(path), log)
    assert caught.value.code == "CONFIG_INVALID"


def test_the_hosts_own_key_vouches_without_a_file_of_keys(tmp_path: Path) -> None:
    key = tmp_path / "signing.pem"
    key.write_bytes(PRIVATE)
    section = config.Evidence(signing_key_file=key)
    assert pruning._trusted_keys(None, section) == PUBLIC
