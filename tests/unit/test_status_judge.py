# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement of the estate: every way in which something is not healthy, and what is then said."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pharma_ops.cli import status as screen
from pharma_ops.estate import facts, schedule
from pharma_ops.estate.facts import Facts, Limits
from pharma_ops.estate.judge import ORDER, Item, Status, ago, judge, span

NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
JOBS = ("backup", "seen", "drill", "prune", "secrets")
GOOD = Facts(
    now=NOW,
    host="staging1",
    environment="prod",
    limits=Limits(),
    expected_jobs=JOBS,
    backups=(facts.Backup(database="pharma", store="offsite", success_at=NOW - 3 * HOUR, bytes=12_900_000),),
    seen=(
        facts.SeenSet(
            database="pharma", store="offsite", verdict="whole", seen_at=NOW - HOUR,
            newest_change_at=NOW - 3 * HOUR, backup_id="b",
        ),
    ),
    drills=facts.Drills(
        verdict="passed", ended_at=NOW - 2 * DAY, proven_at=NOW - 2 * DAY, backup_id="b", report="/e/r.html"
    ),
    stores=(facts.StoreAnswer(name="offsite", description="s3://b at AWS"),),
    secrets=(facts.SecretAge(name="jwt", standing="fresh", age_days=3, max_age_days=90),),
    prunings=(
        facts.Pruning(database="pharma", store="offsite", verdict="done", at=NOW - HOUR, kept=41, removed=1),
    ),
    timers=tuple(
        facts.Timer(
            job=job, unit=f"pharma-{job}.timer", active=True, next_at=NOW + HOUR, last_at=NOW - HOUR, result="success"
        )
        for job in JOBS
    ),
    escrow={"pharma": NOW - 100 * DAY},
)  # fmt: skip


def but(section: str, **change: Any) -> Facts:
    """The healthy estate with one thing changed."""
    value = getattr(GOOD, section)
    one = dataclasses.replace(value[0] if isinstance(value, tuple) else value, **change)
    return dataclasses.replace(GOOD, **{section: (one, *value[1:]) if isinstance(value, tuple) else one})


def test_a_healthy_estate(root: Path) -> None:
    status = judge(GOOD)
    assert (status.verdict, int(status.exit_code)) == ("healthy", 0)
    assert all(not item.action for item in status.items)
    schema = json.loads((root / "docs/schemas/status.schema.json").read_text())
    Draft202012Validator(schema).validate(status.as_dict())


OLD = NOW - 30 * HOUR
CASES: list[tuple[str, Facts, str, str]] = [
    (
        "backup",
        but("backups", success_at=OLD),
        "critical",
        "backed up 30 h ago, 12.3 MiB; expected every 26 h",
    ),
    (
        "backup",
        but("backups", failed="The disk is full.", action="Free it."),
        "warning",
        "the last run failed: The disk",
    ),
    ("backup", but("backups", success_at=None), "critical", "no backup was ever made"),
    ("backup", but("backups", success_at=NOW + HOUR), "unknown", "in the future (2026-11-25 10:00 UTC)"),
    (
        "seen",
        but("seen", verdict="damaged", failed="x is cut.", action="a"),
        "critical",
        "damaged: x is cut; last seen whole",
    ),
    (
        "seen",
        but("seen", verdict="unknown", failed="It is away.", action="a"),
        "warning",
        "unknown: It is away; last",
    ),
    ("seen", but("seen", seen_at=OLD), "warning", "seen whole 30 h ago"),
    ("seen", but("seen", seen_at=NOW - 60 * HOUR), "critical", "seen whole 60 h ago"),
    ("seen", but("seen", newest_change_at=OLD), "critical", "changes up to 30 h ago; expected at most 26 h"),
    ("seen", but("seen", seen_at=None, verdict=""), "unknown", "not read back yet"),
    (
        "seen",
        but("seen", seen_at=None, verdict="missing", failed="There is none.", action="a"),
        "critical",
        "never seen whole",
    ),
    ("proof", but("drills", verdict="failed"), "critical", "the last drill failed 2 h ago"),
    ("proof", but("drills", verdict="unknown"), "warning", "the last drill could not decide"),
    ("proof", but("drills", proven_at=NOW - 10 * DAY), "warning", "last proven 10 d ago"),
    ("proof", but("drills", proven_at=NOW - 20 * DAY), "critical", "last proven 20 d ago"),
    ("proof", but("drills", proven_at=None, verdict="unknown"), "critical", "nothing was ever proven"),
    ("proof", but("drills", verdict=""), "critical", "no drill was ever run"),
    ("escrow", dataclasses.replace(GOOD, escrow={"pharma": NOW - 400 * DAY}), "warning", "400 d ago"),
    (
        "escrow",
        dataclasses.replace(GOOD, escrow={}),
        "warning",
        "no drill has opened a backup with the escrow key",
    ),
    (
        "stores",
        but("stores", problem="It does not answer.", action="Check it."),
        "critical",
        "It does not answer.",
    ),
    (
        "retention",
        but("prunings", verdict="blocked", failed="The clock ran back."),
        "warning",
        "blocked 60 min ago: The clock",
    ),
    ("retention", but("prunings", at=NOW - 3 * DAY), "warning", "pruned 3 d ago"),
    ("retention", but("prunings", verdict=""), "warning", "nothing was ever pruned"),
    ("secrets", but("secrets", standing="overdue", age_days=95), "warning", "95 days old, 90 are allowed"),
    ("schedule", but("timers", active=False), "critical", "pharma-backup.timer is stopped; ran 60 min ago"),
    ("schedule", but("timers", result="exit-code"), "warning", "and failed (exit-code)"),
    (
        "schedule",
        dataclasses.replace(GOOD, timers=GOOD.timers[1:]),
        "critical",
        "neither a timer nor cron starts it",
    ),
    ("telling", dataclasses.replace(GOOD, told=False), "warning", "nobody is told"),
    (
        "proof",
        dataclasses.replace(
            GOOD, unreadable=(facts.Unreadable(section="proof", name="ledger", reason="It is cut."),)
        ),
        "unknown",
        "It is cut.",
    ),
]


@pytest.mark.parametrize(("section", "known", "state", "sentence"), CASES)
def test_what_is_not_healthy_comes_first_and_says_why(
    section: str, known: Facts, state: str, sentence: str
) -> None:
    if "drill failed" in sentence:
        known = dataclasses.replace(known, drills=dataclasses.replace(known.drills, ended_at=NOW - 2 * HOUR))  # type: ignore[type-var]
    status = judge(known)
    first = status.items[0]
    assert (first.section, first.state) == (section, state)
    assert sentence in first.sentence
    assert first.action or state == "unknown" or section == "retention"
    assert int(status.exit_code) == (2 if state == "unknown" else 1)
    assert all(item.state == "healthy" for item in status.items[1:])


def test_what_is_merely_due_is_said_and_healthy() -> None:
    status = judge(but("secrets", standing="due"))
    assert status.verdict == "healthy"
    assert any("due soon: jwt" in item.sentence for item in status.items)


def test_a_wrong_thing_weighs_more_than_an_unknown_one() -> None:
    known = dataclasses.replace(
        but("backups", success_at=OLD), unreadable=(facts.Unreadable(section="proof", name="l", reason="r"),)
    )
    assert int(judge(known).exit_code) == 1


def test_nothing_at_all_is_not_healthy() -> None:
    status = judge(Facts(now=NOW, host="h", environment="lab", limits=Limits()))
    assert (status.verdict, int(status.exit_code)) == ("unknown", 2)


def test_cron_stands_for_a_timer() -> None:
    cron = facts.Timer(job="backup", unit="/etc/cron.d/pharma-backup", active=True, cron=True)
    status = judge(dataclasses.replace(GOOD, timers=(cron, *GOOD.timers[1:])))
    assert status.verdict == "healthy"
    assert any("started by cron: /etc/cron.d/pharma-backup" in item.sentence for item in status.items)


def test_times_for_a_person() -> None:
    assert [span(timedelta(minutes=minutes)) for minutes in (0, 119, 120, 72 * 60 - 1, 72 * 60)] == [
        "0 min", "119 min", "2 h", "71 h", "3 d",
    ]  # fmt: skip
    assert ago(NOW, NOW + timedelta(minutes=1)) == "0 min ago"


MOMENTS = st.none() | st.integers(-20, 400).map(lambda hours: NOW - hours * HOUR / 2)


@given(
    success=MOMENTS, seen=MOMENTS, change=MOMENTS, proven=MOMENTS,
    drill=st.sampled_from(["", "passed", "failed", "unknown", "limited"]),
    run=st.sampled_from(["", "whole", "damaged", "missing", "unknown"]),
)  # fmt: skip
def test_healthy_is_only_what_is_recent_and_whole(
    success: datetime | None,
    seen: datetime | None,
    change: datetime | None,
    proven: datetime | None,
    drill: str,
    run: str,
) -> None:
    known = dataclasses.replace(
        but("backups", success_at=success),
        seen=(
            facts.SeenSet(
                database="d", store="s", verdict=run, seen_at=seen, newest_change_at=change,
                failed="" if run in ("", "whole") else "x",
            ),
        ),
        drills=facts.Drills(verdict=drill, ended_at=proven or NOW, proven_at=proven),
    )  # fmt: skip
    status = judge(known)
    if status.verdict == "healthy":
        assert run == "whole"
        assert drill == "passed"
        for moment, limit in (
            (success, 26 * HOUR),
            (seen, 26 * HOUR),
            (change, 26 * HOUR),
            (proven, 8 * DAY),
        ):
            assert moment is not None
            assert -timedelta(minutes=5) <= NOW - moment <= limit
    ranks = [ORDER.index(item.state) for item in status.items]
    assert ranks == sorted(ranks)


SHOWN = """\
Id=pharma-backup.timer
LoadState=loaded
ActiveState=active
NextElapseUSecRealtime=Thu 2026-11-26 03:12:00 UTC
LastTriggerUSec=Wed 2026-11-25 03:12:28 UTC
Result=success

Id=pharma-drill.timer
LoadState=loaded
ActiveState=inactive
NextElapseUSecRealtime=
LastTriggerUSec=n/a
Result=success

Id=pharma-backup.service
LoadState=loaded
ActiveState=failed
Result=exit-code

Id=pharma-seen.timer
LoadState=not-found
ActiveState=inactive

Id=pharma-backup@shop.timer
LoadState=loaded
ActiveState=active
"""


def test_what_systemd_says_of_timers() -> None:
    found = {timer.unit: timer for timer in schedule.parse(SHOWN)}
    assert set(found) == {"pharma-backup.timer", "pharma-drill.timer", "pharma-backup@shop.timer"}
    backup = found["pharma-backup.timer"]
    assert (backup.job, backup.active, backup.result) == ("backup", True, "exit-code")
    assert backup.last_at == datetime(2026, 11, 25, 3, 12, 28, tzinfo=UTC)
    assert backup.next_at == datetime(2026, 11, 26, 3, 12, tzinfo=UTC)
    drill = found["pharma-drill.timer"]
    assert (drill.active, drill.next_at, drill.last_at) == (False, None, None)
    assert (drill.name, found["pharma-backup@shop.timer"].name) == ("drill", "backup of shop")
    assert schedule.parse("") == ()


def test_what_cron_starts(tmp_path: Path) -> None:
    for name in ("pharma-backup", "pharma-backup-shop", "e2scrub_all", ".placeholder"):
        (tmp_path / name).touch()
    assert [timer.job for timer in schedule.cron(tmp_path)] == ["backup", "backup"]
    assert schedule.cron(tmp_path / "no") == ()


def test_the_screens_say_the_same(root: Path) -> None:
    known = dataclasses.replace(but("backups", success_at=OLD), told=False)
    status = judge(known)
    wide = screen.table(status, width=120)
    narrow = screen.table(status, width=72)
    text = screen.plain(status)
    assert text.startswith("CRITICAL  staging1 (prod), 2026-11-25 09:00 UTC: 1 critical, 1 warning")
    assert "\x1b" not in text
    assert all(len(line) <= 110 for line in text.splitlines())
    for shown in (wide, narrow, text):
        assert "✗" in shown
        assert "neither" not in shown
        assert shown.index("backup") < shown.index("telling") < shown.index("seen")
    empty = Status(host="h", environment="lab", at=NOW, items=())
    assert "UNKNOWN" in screen.plain(empty)
    assert "UNKNOWN" in screen.table(empty, width=80)


def test_an_item_as_json() -> None:
    item = Item(section="backup", name="n", state="healthy", sentence="s", at=NOW)
    assert item.as_dict()["at"] == "2026-11-25T09:00:00.000Z"
    assert item.as_dict()["action"] is None
