# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sets are kept and which go: the promises of the policy, each as a property."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops import config
from pharma_ops.backup.retention import Candidate, Plan, Policy, Seen, decide
from pharma_ops.errors import OpsError

ZONE = ZoneInfo("America/Sao_Paulo")
NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
DEFAULT = Policy.of(config.Retention())


def a_set(started_at: datetime, *, state: str = "complete", **more: object) -> Candidate:
    stamp = started_at.astimezone(UTC)
    tail = hashlib.sha256(f"{started_at}{state}".encode()).hexdigest()[:6]
    return Candidate(
        id=f"{stamp:%Y%m%dT%H%M%SZ}-{tail}", state=state, started_at=started_at, bytes=100, **more
    )  # type: ignore[arg-type]


def daily(days: int, *, until: datetime = NOW, hour: int = 5) -> list[Candidate]:
    """A set at 02:30 of the business's day for each of so many days."""
    last = until.replace(hour=hour, minute=30, second=0, microsecond=0)
    return [a_set(last - number * DAY) for number in range(days)]


def policy(**changes: object) -> Policy:
    return dataclasses.replace(DEFAULT, **changes)  # type: ignore[arg-type]


def reasons(plan: Plan, one: Candidate) -> tuple[str, ...]:
    return next(item.reasons for item in plan.decisions if item.candidate.id == one.id)


# Sets of the last 400 days, some unfinished, some proven, some locked; whole seconds as in an id.
COUNTS = st.integers(0, 12)
POLICIES = st.builds(
    policy, daily=COUNTS, weekly=COUNTS, monthly=COUNTS, yearly=st.integers(0, 3), newest=st.integers(1, 5)
)


@st.composite
def estates(draw: st.DrawFn) -> list[Candidate]:
    ages = draw(st.lists(st.integers(0, 400 * 24 * 3600), max_size=60, unique=True))
    found = []
    for age in ages:
        started = NOW - timedelta(seconds=age)
        locked = draw(st.sampled_from([None, None, None, NOW - HOUR, NOW + DAY]))
        found.append(
            a_set(
                started,
                state=draw(st.sampled_from(["complete", "complete", "complete", "unfinished"])),
                proof=draw(st.sampled_from(["", "", "drill-1 on 2026-11-22"])),
                locked_until=locked,
            )
        )
    return found


@st.composite
def healthy(draw: st.DrawFn) -> list[Candidate]:
    """An estate whose last cycle went well: its newest set is a complete one of an hour ago."""
    return [one for one in draw(estates()) if one.started_at < NOW - HOUR] + [a_set(NOW - HOUR)]


@given(healthy(), POLICIES)
def test_what_must_never_go_never_goes(sets: list[Candidate], rules: Policy) -> None:
    plan = decide(sets, rules, NOW)
    assert plan.block is None
    gone = {one.id for one in plan.removed}
    complete = sorted((one for one in sets if one.state == "complete"), key=lambda one: one.id)
    assert not gone & {one.id for one in complete[-rules.newest :]}
    proven = [one for one in complete if one.proof]
    assert not gone & {one.id for one in proven[-1:]}
    assert not [one for one in plan.removed if one.locked_until and one.locked_until > NOW]
    assert not [
        one for one in plan.removed if one.state == "unfinished" and one.started_at + rules.grace > NOW
    ]
    assert all(item.reasons for item in plan.decisions)
    assert {item.candidate.id for item in plan.decisions} == {one.id for one in sets}


@given(estates(), POLICIES)
def test_a_blocked_plan_keeps_everything(sets: list[Candidate], rules: Policy) -> None:
    plan = decide(sets, rules, NOW)
    complete = [one.started_at for one in sets if one.state == "complete"]
    if plan.block:
        assert plan.removed == ()
        assert plan.block.message
        assert plan.block.action
    else:
        assert max(complete) >= NOW - rules.max_age


@given(healthy(), POLICIES, st.integers(0, 10 * 3600))
def test_deciding_again_removes_nothing_more(sets: list[Candidate], rules: Policy, later: int) -> None:
    first = decide(sets, rules, NOW)
    assert decide(first.kept, rules, NOW).removed == ()
    # Later on the same day nothing but a lock or a grace may have ended.
    again = decide(first.kept, rules, NOW + timedelta(seconds=later))
    kept_for_a_time = {
        item.candidate.id
        for item in first.decisions
        if any(reason.startswith(("locked", "unfinished")) for reason in item.reasons)
    }
    assert {one.id for one in again.removed} <= kept_for_a_time


@given(healthy(), POLICIES, st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, st.integers(0, 4)))
def test_a_stricter_policy_keeps_a_subset(
    sets: list[Candidate], rules: Policy, less: tuple[int, int, int, int, int]
) -> None:
    names = ("daily", "weekly", "monthly", "yearly")
    counts = {name: max(0, getattr(rules, name) - cut) for name, cut in zip(names, less[:4], strict=True)}
    stricter = dataclasses.replace(rules, newest=max(1, rules.newest - less[4]), **counts)
    kept = {one.id for one in decide(sets, stricter, NOW).kept}
    assert kept <= {one.id for one in decide(sets, rules, NOW).kept}


@given(estates(), POLICIES, st.randoms(use_true_random=False))
def test_the_order_of_the_input_is_irrelevant(
    sets: list[Candidate], rules: Policy, shuffler: random.Random
) -> None:
    shuffled = list(sets)
    shuffler.shuffle(shuffled)
    assert decide(sets, rules, NOW) == decide(shuffled, rules, NOW)


@given(healthy(), POLICIES, st.data())
def test_a_set_from_the_future_justifies_no_removal(
    sets: list[Candidate], rules: Policy, data: st.DataObject
) -> None:
    """Beyond the tolerance it blocks; within it, it is kept and the others fare as if it were not there."""
    seconds = data.draw(st.integers(1, 3 * 24 * 3600))
    future = a_set(NOW + timedelta(seconds=seconds))
    plan = decide([*sets, future], rules, NOW)
    if seconds > 300:
        assert plan.block is not None
        assert plan.block.code == "RETENTION_CLOCK_BEHIND"
    else:
        assert plan.removed == decide(sets, rules, NOW).removed
    assert future in plan.kept


@given(healthy(), st.integers(301, 10_000_000))
def test_a_clock_before_what_was_seen_blocks(sets: list[Candidate], seconds: int) -> None:
    seen = Seen(what="the last run on staging1", at=NOW + timedelta(seconds=seconds))
    plan = decide(sets, DEFAULT, NOW, seen=[seen])
    assert plan.block is not None
    assert plan.block.code == "RETENTION_CLOCK_BEHIND"
    assert "the last run on staging1" in plan.block.message
    assert plan.removed == ()
    assert decide(sets, DEFAULT, NOW, seen=[Seen(what="it", at=NOW + timedelta(minutes=5))]).block is None


def simulate(days: int, rules: Policy, start: date, *, skip: frozenset[int] = frozenset()) -> list[Plan]:
    """A set and a pruning each day at 02:30 and 04:00 of the business's day, in its own time zone."""
    sets: list[Candidate] = []
    plans = []
    for number in range(days):
        day = start + number * DAY
        if number not in skip:
            sets.append(a_set(datetime.combine(day, clock_time(2, 30), rules.zone).astimezone(UTC)))
        plan = decide(sets, rules, datetime.combine(day, clock_time(4), rules.zone).astimezone(UTC))
        sets = list(plan.kept)
        plans.append(plan)
    return plans


def test_daily_runs_reach_a_steady_state() -> None:
    plans = simulate(3 * 365, DEFAULT, date(2023, 11, 26))
    assert not any(plan.block for plan in plans)
    assert [len(plan.kept) for plan in plans[:30]] == list(range(1, 31))
    last = plans[-1]
    by_rule = [reason.split()[0] for item in last.decisions for reason in item.reasons]
    counts = {name: by_rule.count(name) for name in ("daily", "weekly", "monthly", "yearly")}
    assert counts == {"daily": 30, "weekly": 8, "monthly": 12, "yearly": 2}
    # 30 days, 3 or 4 weeks and 8 to 10 months before them, and in December the end of the year before.
    assert {len(plan.kept) for plan in plans[-365:]} == {41, 42, 43, 44}
    assert max(len(plan.removed) for plan in plans) == 3, "a day, a week and a month may end at once"
    oldest = last.kept[0].started_at.astimezone(ZONE)
    assert (oldest.year, oldest.month, oldest.day) == (2025, 12, 31)
    print(f"steady state: {len(last.kept)} sets, the oldest of {oldest:%Y-%m-%d}")


def test_two_years_later_the_yearly_rule_is_what_is_left_of_the_year_before() -> None:
    last = simulate(1000, DEFAULT, date(2024, 1, 1))[-1]
    yearly = [item for item in last.decisions if any(one.startswith("yearly") for one in item.reasons)]
    assert [item.candidate.started_at.astimezone(ZONE).date().isoformat() for item in yearly] == [
        "2025-12-31",
        "2026-09-26",
    ]


def test_days_without_a_set_do_not_cost_older_ones() -> None:
    """30 daily ones are 30 days that have a set: ten lost nights keep ten older days longer."""
    rules = policy(weekly=0, monthly=0, yearly=0)
    plans = simulate(80, rules, date(2026, 1, 1), skip=frozenset(range(60, 70)))
    assert all(plan.block and not plan.removed for plan in plans[61:70])
    assert len(plans[-1].kept) == 30
    assert plans[-1].kept[0].started_at.astimezone(ZONE).date().isoformat() == "2026-02-10"


@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Europe/Lisbon", "America/Santiago", "Pacific/Apia"])
@pytest.mark.parametrize("start", [datetime(2017, 9, 1, tzinfo=UTC), datetime(2011, 11, 1, tzinfo=UTC)])
def test_changes_of_the_clock_neither_lose_nor_double_a_day(zone: str, start: datetime) -> None:
    """Sao Paulo had no midnight in October and two in February; Apia had no 30th of December in 2011."""
    rules = policy(zone=ZoneInfo(zone), daily=200, weekly=0, monthly=0, yearly=0)
    sets = [a_set(start + number * HOUR) for number in range(200 * 24)]
    plan = decide(sets, rules, start + 200 * DAY)
    labels = [reason for item in plan.decisions for reason in item.reasons if reason.startswith("daily")]
    assert len(labels) == len(set(labels)) == 200
    days = {one.started_at.astimezone(rules.zone).date() for one in sets}
    assert {reason.removeprefix("daily ") for reason in labels} >= {
        day.isoformat() for day in sorted(days)[1:]
    }


def test_the_day_is_the_businesss_not_utcs() -> None:
    """23:30 in Sao Paulo is the next day in UTC: both of these sets are of the 20th."""
    morning = a_set(datetime(2026, 11, 20, 11, 0, tzinfo=UTC))
    evening = a_set(datetime(2026, 11, 21, 2, 30, tzinfo=UTC))
    sets = [morning, evening, *daily(3)]
    plan = decide(sets, policy(weekly=0, monthly=0, yearly=0), NOW)
    assert plan.removed == (morning,)
    assert reasons(plan, evening) == ("daily 2026-11-20",)


def test_every_reason_is_named() -> None:
    sets = daily(60)
    sets[20] = dataclasses.replace(sets[20], proof="drill-7 on 2026-11-08")
    sets[50] = dataclasses.replace(sets[50], locked_until=NOW + DAY)
    stray = a_set(NOW - 40 * DAY, state="unfinished")
    fresh = a_set(NOW - HOUR, state="unfinished")
    plan = decide([*sets, stray, fresh], DEFAULT, NOW)
    assert plan.block is None
    assert reasons(plan, sets[0]) == (
        "newest",
        "daily 2026-11-25",
        "weekly 2026-W48",
        "monthly 2026-11",
        "yearly 2026",
    )
    assert reasons(plan, sets[1]) == ("among the newest 3", "daily 2026-11-24")
    assert "newest proven by drill-7 on 2026-11-08" in reasons(plan, sets[20])
    assert reasons(plan, sets[50]) == ("locked until 2026-11-26T09:00:00.000Z",)
    assert reasons(plan, sets[40]) == ("beyond all rules",)
    assert reasons(plan, stray) == ("unfinished for more than 48 hours",)
    assert reasons(plan, fresh) == (
        "newest attempt",
        "unfinished, may be under way until 2026-11-27T08:00:00.000Z",
    )
    assert plan.newest_proven == sets[20].id


@pytest.mark.parametrize(
    ("sets", "code"),
    [
        ([], "RETENTION_NOTHING_COMPLETE"),
        ([a_set(NOW - 90 * DAY, state="unfinished")], "RETENTION_NOTHING_COMPLETE"),
        ([*daily(60)[2:]], "RETENTION_NEWEST_TOO_OLD"),
        ([*daily(60), a_set(NOW + HOUR)], "RETENTION_CLOCK_BEHIND"),
        ([*daily(60), a_set(NOW + HOUR, state="unfinished")], "RETENTION_CLOCK_BEHIND"),
    ],
)
def test_what_blocks(sets: list[Candidate], code: str) -> None:
    plan = decide(sets, DEFAULT, NOW)
    assert plan.block is not None
    assert plan.block.code == code
    assert plan.removed == ()
    assert plan.block.error().exit_code == 1
    if len(sets) > 50:
        assert reasons(plan, sets[40]) == ("pruning is blocked", "else beyond all rules")


def test_a_last_attempt_that_never_ended_blocks_although_the_one_before_is_young_enough() -> None:
    rules = policy(max_age=timedelta(days=10), grace=2 * HOUR)
    failed = a_set(NOW - 3 * HOUR, state="unfinished")
    sets = [*daily(60)[1:], failed]
    plan = decide(sets, rules, NOW)
    assert plan.block is not None
    assert plan.block.code == "RETENTION_CYCLE_FAILED"
    assert failed.id in plan.block.message
    # While it may be under way it does not; after the next good one it is swept.
    assert decide(sets, rules, NOW - 2 * HOUR).block is None
    good = a_set(NOW - HOUR)
    assert failed in decide([*sets, good], rules, NOW).removed


def test_an_upload_that_goes_on_keeps_its_set_from_being_swept() -> None:
    slow = a_set(NOW - 3 * DAY, state="unfinished", changed_at=NOW - HOUR)
    assert slow in decide([*daily(5), slow], DEFAULT, NOW).kept
    still = dataclasses.replace(slow, changed_at=NOW - 2 * DAY - HOUR)
    assert still in decide([*daily(5), still], DEFAULT, NOW).removed


def test_a_proof_that_vanished_blocks() -> None:
    sets = daily(60)
    plan = decide(sets, DEFAULT, NOW, proven_before=sets[45].id)
    assert plan.block is not None
    assert plan.block.code == "RETENTION_PROOF_GONE"
    known = [dataclasses.replace(one, proof="drill-1 on x" if one is sets[45] else "") for one in sets]
    plan = decide(known, DEFAULT, NOW, proven_before=sets[45].id)
    assert plan.block is None
    assert "newest proven by drill-1 on x" in reasons(plan, sets[45])
    # A set that is no longer in the store needs no proof.
    assert decide(sets, DEFAULT, NOW, proven_before="20200101T000000Z-000000").block is None


def test_ten_thousand_sets_are_planned_in_less_than_a_second() -> None:
    sets = [
        a_set(NOW - number * timedelta(minutes=47), proof="drill-1 on x" if number % 70 == 69 else "")
        for number in range(10_000)
    ]
    began = time.perf_counter()
    plan = decide(sets, DEFAULT, NOW)
    seconds = time.perf_counter() - began
    print(f"10,000 sets planned in {seconds:.3f} s: {len(plan.removed)} go")
    assert len(plan.removed) > 9_900
    assert seconds < 1


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"daily": -1}, "daily"),
        ({"newest": 0}, "newest"),
        ({"grace_hours": 0}, "grace_hours"),
        ({"max_age_hours": 0}, "max_age_hours"),
        ({"timezone": "Brazil/Nowhere"}, "timezone"),
        ({"timezone": "../etc/passwd"}, "timezone"),
        ({"timezone": ""}, "timezone"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(changes: dict[str, object], word: str) -> None:
    with pytest.raises(OpsError, match=word) as caught:
        Policy.of(config.Retention(**changes))  # type: ignore[arg-type]
    assert caught.value.code == "CONFIG_INVALID"
