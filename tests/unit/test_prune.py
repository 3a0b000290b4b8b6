# SPDX-License-Identifier: GPL-3.0-or-later
"""Pruning a store: what goes, in which order, what an interruption leaves, what is on record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from estate_samples import (
    CUT,
    DATABASE,
    NOW,
    OTHER_PRIVATE,
    RULES,
    WHOLE,
    Host,
    add_drill,
    host,
    ids,
    put_days,
    put_set,
    put_upload,
)

from pharma_ops import clock, config
from pharma_ops.backup import prune
from pharma_ops.backup.catalogue import list_sets
from pharma_ops.backup.retention import Policy
from pharma_ops.errors import OpsError
from pharma_ops.estate import pruning
from pharma_ops.evidence.record import Verdict
from pharma_ops.log import Log
from pharma_ops.store.base import UploadInfo
from pharma_ops.store.local import LocalStore

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
POLICY = Policy.of(config.Retention(daily=5, weekly=0, monthly=0, yearly=0))


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.fixture
def here(tmp_path: Path) -> Host:
    return host(tmp_path, RULES)


@pytest.fixture
def log() -> Log:
    return Log("lab", "test-run-0001", [])


def survey(store: LocalStore, **before: Any) -> prune.Survey:
    return prune.survey(store, DATABASE, POLICY, prune.Before(**before), NOW)


class Breaking(LocalStore):
    """A directory whose k-th removal fails before anything is removed."""

    def __init__(self, root: Path, fails_at: int, code: str = "STORE_UNREACHABLE") -> None:
        super().__init__(root)
        self.deleted: list[str] = []
        self._fails_at = fails_at
        self._code = code

    def delete(self, key: str) -> None:
        if len(self.deleted) == self._fails_at:
            raise OpsError(self._code, "The store is away.", "Look at it.")
        self.deleted.append(key)
        super().delete(key)


class Locking(LocalStore):
    """A directory that locks some objects, and counts what it was asked."""

    def __init__(self, root: Path, locks: dict[str, datetime]) -> None:
        super().__init__(root)
        self._locks = locks
        self.asked: list[str] = []

    def locked_until(self, key: str) -> datetime | None:
        self.asked.append(key)
        return self._locks.get(key)


def test_what_the_plan_lets_go_goes_and_the_rest_stays(here: Host, log: Log) -> None:
    made = put_days(here.store, 12)
    outcome = prune.prune(LocalStore(here.store), survey(LocalStore(here.store)), log)
    assert outcome.verdict == "done"
    assert outcome.error is None
    assert list(outcome.removed) == made[:7]
    assert outcome.bytes_freed == 7 * 4 * 1000
    assert ids(here.store) == made[7:]


def test_the_manifest_goes_first_then_its_signature(here: Host, log: Log) -> None:
    put_days(here.store, 6)
    store = Breaking(here.store, 99)
    prune.prune(store, survey(store), log)
    assert [key.rpartition("/")[2] for key in store.deleted] == [
        "manifest.json",
        "manifest.json.sig",
        "dump.age",
        "globals.sql.age",
    ]


@pytest.mark.parametrize("position", range(12))
def test_a_failure_at_any_removal_leaves_only_whole_and_unfinished_sets(
    here: Host, log: Log, position: int
) -> None:
    """Three sets of four objects go; whichever removal fails, the next run brings it to the same end."""
    made = put_days(here.store, 8)
    store = Breaking(here.store, position)
    outcome = prune.prune(store, survey(store), log)
    assert outcome.verdict == "failed"
    assert outcome.error is not None
    assert outcome.error.code == "RETENTION_NOT_REMOVED"
    assert outcome.error.exit_code == 1
    _is_sound(here.store, made)
    again = prune.prune(LocalStore(here.store), survey(LocalStore(here.store)), log)
    assert again.verdict == "done"
    assert ids(here.store) == made[3:]


def _is_sound(root: Path, made: list[str]) -> None:
    """No set that looks whole lacks an object, and what must be kept is whole."""
    for one in list_sets(LocalStore(root), DATABASE):
        if one.state == "complete":
            assert set(one.objects) == set(WHOLE)
    whole = [one.id for one in list_sets(LocalStore(root), DATABASE) if one.state == "complete"]
    assert whole[-5:] == made[-5:]


KILLED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from pharma_ops import clock, config
from pharma_ops.estate import pruning
from pharma_ops.log import Log
from pharma_ops.store.local import LocalStore

now, left = datetime.fromisoformat(sys.argv[2]), int(sys.argv[3])
clock.now = lambda: now
unlink = Path.unlink

def delete(self, key):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    original(self, key)

original, LocalStore.delete = LocalStore.delete, delete
pruning.run(config.load(Path(sys.argv[1])), Log("lab", "test-run-0001", []))
"""


@pytest.mark.parametrize("position", range(13))
def test_kill_9_at_any_removal_is_made_good_by_the_next_run(
    here: Host, log: Log, engine_path: Path, position: int
) -> None:
    made = put_days(here.store, 8)
    words = [sys.executable, "-c", KILLED, str(here.config), NOW.isoformat(), str(position)]
    died = subprocess.run(words, env=os.environ | {"PYTHONPATH": str(engine_path)}, check=False)
    assert died.returncode == (-signal.SIGKILL if position < 12 else 0)
    _is_sound(here.store, made)
    (result,) = pruning.run(config.load(here.config), log)
    assert result.exit_code == 0
    assert ids(here.store) == made[3:]


def test_a_locked_set_stays_and_says_until_when(here: Host, log: Log) -> None:
    made = put_days(here.store, 8)
    until = NOW + 3 * DAY
    store = Locking(
        here.store, {f"{DATABASE}/{made[1]}/dump.age": until, f"{DATABASE}/{made[2]}/dump.age": NOW - DAY}
    )
    found = survey(store)
    assert {key.split("/")[1] for key in store.asked} == set(made[:3]), "asked for what would go, no more"
    outcome = prune.prune(store, found, log)
    assert outcome.removed == (made[0], made[2])
    kept = next(one for one in found.plan.decisions if one.candidate.id == made[1])
    assert kept.reasons == ("locked until 2026-11-28T09:00:00.000Z",)
    assert made[1] in ids(here.store)


def test_a_lock_that_shows_only_at_the_removal_keeps_its_own_set_alone(here: Host, log: Log) -> None:
    made = put_days(here.store, 8)

    class Surprising(LocalStore):
        def delete(self, key: str) -> None:
            if made[1] in key:
                raise OpsError("STORE_OBJECT_LOCKED", f"{key} is held.", "Wait.")
            super().delete(key)

    store = Surprising(here.store)
    outcome = prune.prune(store, survey(store), log)
    assert outcome.removed == (made[0], made[2])
    assert list(outcome.not_removed) == [made[1]]
    assert outcome.verdict == "failed"


def test_what_refuses_one_removal_is_not_asked_for_the_next(here: Host, log: Log) -> None:
    put_days(here.store, 30)
    store = Breaking(here.store, 4, "STORE_ACCESS_DENIED")
    outcome = prune.prune(store, survey(store), log)
    assert len(outcome.removed) == 1
    assert len(outcome.not_removed) == 1


def test_unfinished_uploads_go_after_the_grace(here: Host, log: Log) -> None:
    put_days(here.store, 3)
    old = put_upload(here.store, f"{DATABASE}/20261101T053000Z-abcdef/dump.age", NOW - 3 * DAY)
    young = put_upload(here.store, f"{DATABASE}/20261124T053000Z-abcdef/dump.age", NOW - DAY)
    outcome = prune.prune(LocalStore(here.store), survey(LocalStore(here.store)), log)
    assert outcome.uploads_aborted == 1
    assert not old.exists()
    assert young.exists()


def test_uploads_that_the_store_discards_itself_are_left_to_it(here: Host, log: Log) -> None:
    class Discarding(LocalStore):
        discards_uploads = True

        def abort_upload(self, upload: UploadInfo) -> None:
            raise AssertionError(f"{upload.key} is left to the store")

    put_days(here.store, 2)
    put_upload(here.store, f"{DATABASE}/20261101T053000Z-abcdef/dump.age", NOW - 3 * DAY)
    store = Discarding(here.store)
    assert len(list(store.unfinished_uploads())) == 1
    outcome = prune.prune(store, survey(store), log)
    assert outcome.uploads_aborted == 0
    assert outcome.survey.uploads == ()


def test_an_upload_under_way_keeps_its_unfinished_set(here: Host, log: Log) -> None:
    put_days(here.store, 3)
    slow = put_set(here.store, NOW - 3 * DAY - 4 * HOUR, CUT)
    put_upload(here.store, f"{DATABASE}/{slow}/dump2.age", NOW - HOUR)
    outcome = prune.prune(LocalStore(here.store), survey(LocalStore(here.store)), log)
    assert outcome.removed == ()
    assert slow in ids(here.store)


def test_a_blocked_run_touches_nothing(here: Host, log: Log) -> None:
    put_days(here.store, 30, now=NOW - 5 * DAY)
    upload = put_upload(here.store, f"{DATABASE}/20261101T053000Z-abcdef/dump.age", NOW - 9 * DAY)
    before = sorted(here.store.rglob("*"))
    (result,) = pruning.run(config.load(here.config), log)
    assert result.exit_code == 1
    assert result.problem is not None
    assert result.problem.code == "RETENTION_NEWEST_TOO_OLD"
    assert sorted(here.store.rglob("*")) == before
    assert upload.exists()


def test_what_lies_beside_the_sets_is_left_alone(here: Host, log: Log) -> None:
    put_days(here.store, 12)
    other = put_days(here.store, 12, database="other")
    stray = here.store / DATABASE / "notes" / "manifest.json"
    stray.parent.mkdir()
    stray.write_text("keep me")
    os.utime(stray, (NOW.timestamp() - 99, NOW.timestamp() - 99))
    prune.prune(LocalStore(here.store), survey(LocalStore(here.store)), log)
    assert stray.exists()
    assert [one.id for one in list_sets(LocalStore(here.store), "other")] == other


def test_the_stores_own_clock_is_a_witness(here: Host) -> None:
    """It took an object an hour after what this host calls now."""
    made = put_days(here.store, 12)
    path = here.store / DATABASE / made[0] / "dump.age"
    os.utime(path, (NOW.timestamp() + 3600, NOW.timestamp() + 3600))
    found = survey(LocalStore(here.store))
    assert found.plan.block is not None
    assert found.plan.block.code == "RETENTION_CLOCK_BEHIND"


# --- The ledger's proofs -------------------------------------------------------------------------------------


def kept_as_proven(here: Host) -> list[str]:
    (result,) = pruning.look(config.load(here.config))
    assert result.outcome is not None
    return [
        one.candidate.id
        for one in result.outcome.survey.plan.decisions
        if any(reason.startswith("newest proven by drill-") for reason in one.reasons)
    ]


def test_the_newest_proven_set_survives_its_age(here: Host, log: Log) -> None:
    made = put_days(here.store, 12)
    add_drill(here.ledger, made[0])
    add_drill(here.ledger, made[1])
    assert kept_as_proven(here) == [made[1]]
    pruning.run(config.load(here.config), log)
    assert ids(here.store) == [made[1], *made[7:]]


@pytest.mark.parametrize(
    "line",
    [
        {"verdict": Verdict.FAILED},
        {"verdict": Verdict.UNKNOWN},
        {"verdict": Verdict.LIMITED},
        {"scope": "dump"},
        {"key": OTHER_PRIVATE},
        {"key": None},
    ],
    ids=lambda line: next(iter(line)),
)
def test_only_a_signed_full_drill_that_passed_is_a_proof(here: Host, line: dict[str, Any]) -> None:
    made = put_days(here.store, 12)
    add_drill(here.ledger, made[0])
    add_drill(here.ledger, made[1], **line)
    assert kept_as_proven(here) == [made[0]]


def test_an_altered_ledger_stops_everything(here: Host, log: Log) -> None:
    made = put_days(here.store, 12)
    add_drill(here.ledger, made[0])
    add_drill(here.ledger, made[1])
    here.ledger.write_bytes(here.ledger.read_bytes().replace(made[0].encode(), made[5].encode()))
    with pytest.raises(OpsError) as caught:
        pruning.run(config.load(here.config), log)
    assert caught.value.code == "LEDGER_BROKEN"
    assert ids(here.store) == made


def test_a_ledger_that_lost_its_end_blocks(here: Host, log: Log) -> None:
    made = put_days(here.store, 12)
    add_drill(here.ledger, made[0])
    pruning.run(config.load(here.config), log)
    here.ledger.unlink()
    put_set(here.store, NOW - 2 * HOUR)
    (result,) = pruning.run(config.load(here.config), log)
    assert result.problem is not None
    assert result.problem.code == "RETENTION_PROOF_GONE"
    assert made[0] in ids(here.store)


def test_without_the_keys_of_the_drills_nothing_goes(here: Host, log: Log) -> None:
    made = put_days(here.store, 12)
    add_drill(here.ledger, made[0])
    (here.base / "evidence.pub").unlink()
    with pytest.raises(OpsError) as caught:
        pruning.run(config.load(here.config), log)
    assert caught.value.code == "TRUSTED_KEYS_MISSING"
    assert ids(here.store) == made
