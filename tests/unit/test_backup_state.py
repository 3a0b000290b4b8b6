# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of the backups: what stands in it after each kind of run, and what Prometheus is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from pharma_ops import clock
from pharma_ops.backup import state
from pharma_ops.backup.catalogue import started_at
from pharma_ops.backup.plan import next_id
from pharma_ops.backup.result import BackupResult, StoreResult
from pharma_ops.errors import ExitCode, OpsError

START = datetime(2026, 2, 15, 2, 0, tzinfo=UTC)
FULL = OpsError("STORE_FULL", "No space is left.", "Enlarge the disk.")
IDS = ("20260215T020000Z-0a0a0a", "20260216T020000Z-0b0b0b", "20260217T020000Z-0c0c0c")


def result(number: int, **failed: OpsError) -> BackupResult:
    """A backup into the stores ``a`` and ``b``, of which some failed."""
    return BackupResult(
        backup_id=IDS[number],
        database="shop",
        stores=tuple(
            StoreResult(name=name, description=f"store {name}", error=failed.get(name)) for name in "ab"
        ),
        bytes=1000 + number,
        seconds=2.5,
        tables=3,
        rows=70,
        manifest_sha256="ab" * 32,
        newest_change_at=START,
        compression="zstd:1",
        stale_views=(),
        warnings=(),
    )


def after(number: int, previous: dict[str, Any] | None = None, **failed: OpsError) -> dict[str, Any]:
    """The record after a run that made a set."""
    began = START + timedelta(days=number)
    return state.updated(
        previous, state.run_of(result(number, **failed), began, began + timedelta(seconds=3))
    )


def failed_run(number: int, previous: dict[str, Any] | None = None) -> dict[str, Any]:
    """The record after a run that made none."""
    began = START + timedelta(days=number)
    stores = tuple(StoreResult(name=name, description=f"store {name}", error=FULL) for name in "ab")
    run = state.Run(
        database="shop", backup_id=IDS[number], started_at=began, finished_at=began, seconds=1.0,
        verdict="failed", stores=stores, error=FULL,
    )  # fmt: skip
    return state.updated(previous, run)


@pytest.fixture(scope="module")
def schema(root: Path) -> Draft202012Validator:
    return Draft202012Validator(json.loads((root / "docs/schemas/backup-state.schema.json").read_text()))


def samples(record: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Value by name of the metric and name of the store."""
    found = {}
    for gauge in state.gauges(record):
        for labels, value in gauge.samples:
            assert labels["database"] == "shop"
            found[gauge.name.removeprefix("pharma_backup_"), labels.get("store", "")] = value
    return found


def test_each_store_keeps_its_last_success_and_failure(schema: Draft202012Validator) -> None:
    first = after(0)
    second = after(1, first, b=FULL)
    third = failed_run(2, second)
    for record in (first, second, third):
        schema.validate(record)
    assert first["lastRun"]["verdict"] == "complete"
    assert first["lastRun"]["error"] is None
    assert second["lastRun"]["verdict"] == "partial"
    assert second["lastRun"]["error"]["code"] == "BACKUP_PARTIAL"
    assert "No space is left." in second["lastRun"]["error"]["message"]
    assert second["stores"]["a"]["lastSuccess"]["backupId"] == IDS[1]
    assert second["stores"]["b"]["lastSuccess"]["backupId"] == IDS[0]
    assert second["stores"]["b"]["lastFailure"]["error"]["code"] == "STORE_FULL"
    assert third["lastRun"]["verdict"] == "failed"
    assert third["lastRun"]["bytes"] is third["lastRun"]["rows"] is None
    assert third["stores"]["a"]["lastSuccess"]["backupId"] == IDS[1]
    assert third["stores"]["a"]["lastFailure"]["backupId"] == IDS[2]


def test_metrics_of_a_good_a_partial_and_a_failed_run() -> None:
    second = after(1, after(0), b=FULL)
    told = samples(second)
    assert told["last_run_success", "a"] == 1
    assert told["last_run_success", "b"] == 0
    assert told["last_success_timestamp_seconds", "a"] - told["last_success_timestamp_seconds", "b"] == 86400
    assert (told["bytes", "a"], told["bytes", "b"]) == (1001, 1000)
    assert told["rows", ""] == 70
    told = samples(failed_run(2, second))
    assert told["last_run_success", "a"] == told["last_run_success", "b"] == 0
    assert told["last_run_timestamp_seconds", "a"] == (START + timedelta(days=2)).timestamp()
    assert ("rows", "") not in told


def test_a_store_that_is_not_asked_any_more_leaves_the_record() -> None:
    before = after(0)
    before["stores"]["old"] = before["stores"]["a"]
    assert set(after(1, before)["stores"]) == {"a", "b"}


def test_the_schema_refuses_a_record_that_contradicts_itself(schema: Draft202012Validator) -> None:
    for change in ({"verdict": "failed"}, {"error": FULL.as_dict()}, {"bytes": None}, {"verdict": "good"}):
        record = after(0)
        record["lastRun"] |= change
        with pytest.raises(ValidationError):
            schema.validate(record)


def test_the_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert state.read(tmp_path, "shop") is None
    record = after(0)
    path = state.write(tmp_path, record)
    assert path == tmp_path / "backups" / "shop.json"
    assert state.read(tmp_path, "shop") == record


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "7", "{", '{"schemaVersion": 2, "database": "shop"}', "\x00"],
)
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    path = state.path_of(tmp_path, "shop")
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(OpsError) as caught:
        state.read(tmp_path, "shop")
    assert caught.value.code == "BACKUP_RECORD_INVALID"
    assert str(path) in caught.value.message


def test_a_record_that_cannot_be_written_is_an_error_with_a_path(tmp_path: Path) -> None:
    (tmp_path / "backups").write_text("in the way")
    with pytest.raises(OpsError) as caught:
        state.write(tmp_path, after(0))
    assert caught.value.code == "FILE_NOT_WRITTEN"


def test_a_partial_backup_has_an_error_an_exit_code_and_the_next_steps() -> None:
    assert result(0).error is None
    assert result(0).exit_code is ExitCode.PROVEN
    partial = result(0, b=FULL)
    assert (partial.verdict, partial.exit_code) == ("partial", ExitCode.FAILED)
    assert partial.error is not None
    assert partial.error.action == "Enlarge the disk."
    assert partial.as_dict()["stores"][1]["verdict"] == "failed"
    json.dumps(partial.as_dict())


@given(
    st.integers(0, 20 * 365 * 86400).map(lambda seconds: START + timedelta(seconds=seconds)),
    st.floats(0, 20 * 365 * 86400).map(lambda seconds: START + timedelta(seconds=seconds)),
)
def test_an_id_sorts_after_the_last_one_whatever_the_clock_does(first: datetime, second: datetime) -> None:
    last, warning = next_id(first, None)
    assert warning is None
    following, warning = next_id(second, last)
    assert following > last
    assert (warning is not None) == (started_at(last) - second > timedelta(minutes=1))
    if second - first > timedelta(seconds=2):
        assert started_at(following) == second.replace(microsecond=0), "a good clock is believed"


def test_a_clock_that_went_back_a_day_is_named() -> None:
    following, warning = next_id(START - timedelta(days=1), IDS[0])
    assert following.startswith("20260215T020001Z-")
    assert warning is not None
    assert clock.to_text(START - timedelta(days=1)) in warning
