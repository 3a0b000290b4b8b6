# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup sets are kept and which go, and why: pure, from the listing and the policy alone.

Rules count periods that have a complete set, not days from now: a clock that is wrong makes no period
empty. What is in doubt is kept, and a doubt about the whole keeps everything.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from .. import clock, config
from ..errors import ExitCode, OpsError
from ..store.base import NO_END
from .catalogue import State

Action = Literal["keep", "remove"]

# How much the clocks of two hosts that are both set by NTP may differ.
CLOCK_TOLERANCE = timedelta(minutes=5)

BEYOND = "beyond all rules"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is kept. Counts are of periods in ``zone`` that have a complete set; ``newest`` is of sets.

    :ivar max_age: when the newest complete set is older, nothing is removed.
    :ivar grace: for how long a set without a manifest may still be under way.
    """

    zone: zoneinfo.ZoneInfo
    daily: int
    weekly: int
    monthly: int
    yearly: int
    newest: int
    max_age: timedelta
    grace: timedelta

    @classmethod
    def of(cls, section: config.Retention) -> Policy:
        """The policy of a configuration.

        :raises OpsError: ``CONFIG_INVALID``: a count is negative, a time not positive, the zone unknown.
        """
        for name in ("daily", "weekly", "monthly", "yearly"):
            _at_least(section, name, 0)
        for name in ("newest", "max_age_hours", "grace_hours"):
            _at_least(section, name, 1)
        try:
            zone = zoneinfo.ZoneInfo(section.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise OpsError(
                "CONFIG_INVALID",
                f"retention.timezone {section.timezone!r} is not a time zone of this host.",
                "Write it as America/Sao_Paulo; the Debian package tzdata has the list.",
            ) from error
        return cls(
            zone=zone,
            daily=section.daily,
            weekly=section.weekly,
            monthly=section.monthly,
            yearly=section.yearly,
            newest=section.newest,
            max_age=timedelta(hours=section.max_age_hours),
            grace=timedelta(hours=section.grace_hours),
        )


def _at_least(section: config.Retention, name: str, least: int) -> None:
    value: int = getattr(section, name)
    if value < least:
        raise OpsError(
            "CONFIG_INVALID", f"retention.{name} must be at least {least}, not {value}.", "Correct it."
        )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A set as the decision sees it; all times are aware.

    :ivar bytes: of all its objects together.
    :ivar changed_at: when the store last took an object or an upload of it; None: not known.
    :ivar proof: which drill proved it, in words; empty: none did.
    :ivar locked_until: until when the store refuses to remove it; None: it does not, or was not asked.
    """

    id: str
    state: State
    started_at: datetime
    bytes: int = 0
    changed_at: datetime | None = None
    proof: str = ""
    locked_until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was known before: ``at`` is the latest time that ``what`` vouches for.

    A clock that stands before it has been set back.
    """

    what: str
    at: datetime


@dataclass(frozen=True)
class Block:
    """Why nothing at all is removed."""

    code: str
    message: str
    action: str

    def error(self) -> OpsError:
        """The cause as commands and modules end with it."""
        return OpsError(self.code, self.message, self.action, ExitCode.FAILED)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of a set, and every reason for it."""

    candidate: Candidate
    action: Action
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the command and the module."""
        one = self.candidate
        return {
            "backup_id": one.id,
            "state": one.state,
            "started_at": clock.to_text(one.started_at),
            "bytes": one.bytes,
            "proven": bool(one.proof),
            "locked_until": clock.to_text(one.locked_until) if one.locked_until else None,
            "action": self.action,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The decision on every set, oldest first. With a ``block`` every one of them is kept."""

    now: datetime
    decisions: tuple[Decision, ...]
    block: Block | None

    def with_action(self, action: Action) -> tuple[Candidate, ...]:
        """The sets that are kept, or that go; oldest first."""
        return tuple(one.candidate for one in self.decisions if one.action == action)

    @property
    def removed(self) -> tuple[Candidate, ...]:
        """The sets that go, oldest first."""
        return self.with_action("remove")

    @property
    def kept(self) -> tuple[Candidate, ...]:
        """The sets that stay, oldest first."""
        return self.with_action("keep")

    @property
    def newest_proven(self) -> str | None:
        """The id of the newest set that a drill proved."""
        proven = [one.candidate.id for one in self.decisions if one.candidate.proof]
        return proven[-1] if proven else None


def decide(
    candidates: Iterable[Candidate],
    policy: Policy,
    now: datetime,
    *,
    seen: Sequence[Seen] = (),
    proven_before: str | None = None,
) -> Plan:
    """Decide on every set; the order of the input is irrelevant.

    :param now: aware.
    :param seen: times that are known to be past.
    :param proven_before: the id that an earlier run knew as the newest proven one.
    """
    ordered = sorted(candidates, key=lambda one: (one.started_at, one.id))
    block = _blocked(ordered, policy, now, seen, proven_before)
    reasons = _reasons_to_keep(ordered, policy, now)
    return Plan(
        now=now,
        decisions=tuple(_decision(one, reasons.get(one.id, []), policy, block) for one in ordered),
        block=block,
    )


def _decision(one: Candidate, reasons: list[str], policy: Policy, block: Block | None) -> Decision:
    if reasons:
        return Decision(candidate=one, action="keep", reasons=tuple(reasons))
    cause = BEYOND if one.state == "complete" else f"unfinished for more than {_hours(policy.grace)}"
    if block is not None:
        return Decision(candidate=one, action="keep", reasons=("pruning is blocked", f"else {cause}"))
    return Decision(candidate=one, action="remove", reasons=(cause,))


def _reasons_to_keep(ordered: list[Candidate], policy: Policy, now: datetime) -> dict[str, list[str]]:
    """Every reason by the set's id; a set without one goes."""
    found: dict[str, list[str]] = {}
    for one, reason in (*_by_rules(ordered, policy, now), *_by_itself(ordered, policy, now)):
        found.setdefault(one.id, []).append(reason)
    return found


def _by_rules(ordered: list[Candidate], policy: Policy, now: datetime) -> Iterator[tuple[Candidate, str]]:
    """What is kept for its place among the others. A set from the future has none."""
    past = [one for one in ordered if one.started_at <= now]
    complete = [one for one in reversed(past) if one.state == "complete"]
    for place, one in enumerate(complete[: policy.newest]):
        yield one, "newest" if place == 0 else f"among the newest {policy.newest}"
    if proven := next((one for one in complete if one.proof), None):
        yield proven, f"newest proven by {proven.proof}"
    for name, count, period in _rules(policy):
        for one, label in _newest_of_periods(complete, count, period, policy.zone):
            yield one, f"{name} {label}"
    if past and past[-1].state == "unfinished":
        yield past[-1], "newest attempt"


def _by_itself(ordered: list[Candidate], policy: Policy, now: datetime) -> Iterator[tuple[Candidate, str]]:
    """What is kept for what it is."""
    for one in ordered:
        if one.started_at > now:
            yield one, "its id lies in the future"
        if one.locked_until is not None and one.locked_until > now:
            yield one, _lock(one.locked_until)
        grace_ends = _last_sign(one) + policy.grace
        if one.state == "unfinished" and grace_ends > now:
            yield one, f"unfinished, may be under way until {clock.to_text(grace_ends)}"


def _lock(until: datetime) -> str:
    return "locked by a legal hold" if until == NO_END else f"locked until {clock.to_text(until)}"


def _last_sign(one: Candidate) -> datetime:
    """When an unfinished set last gave a sign of life."""
    return max(one.started_at, one.changed_at or one.started_at)


def _rules(policy: Policy) -> tuple[tuple[str, int, Callable[[datetime], str]], ...]:
    return (
        ("daily", policy.daily, lambda local: f"{local:%Y-%m-%d}"),
        ("weekly", policy.weekly, _week),
        ("monthly", policy.monthly, lambda local: f"{local:%Y-%m}"),
        ("yearly", policy.yearly, lambda local: f"{local:%Y}"),
    )


def _week(local: datetime) -> str:
    """ISO 8601: weeks begin on Monday, and the first one of a year has its first Thursday."""
    year, week, _day = local.isocalendar()
    return f"{year}-W{week:02d}"


def _newest_of_periods(
    newest_first: Iterable[Candidate],
    count: int,
    period: Callable[[datetime], str],
    zone: zoneinfo.ZoneInfo,
) -> Iterator[tuple[Candidate, str]]:
    """The newest set of each of the newest ``count`` periods, with the period's name."""
    # A set, not the label before: a clock that goes back over midnight makes a day begin twice.
    seen: set[str] = set()
    for one in newest_first:
        if len(seen) >= count:
            return
        label = period(one.started_at.astimezone(zone))
        if label not in seen:
            seen.add(label)
            yield one, label


def _blocked(
    ordered: list[Candidate],
    policy: Policy,
    now: datetime,
    seen: Sequence[Seen],
    proven_before: str | None,
) -> Block | None:
    return (
        _clock_is_behind(ordered, now, seen)
        or _proof_is_gone(ordered, proven_before)
        or _cycle_failed(ordered, policy, now)
    )


def _clock_is_behind(ordered: list[Candidate], now: datetime, seen: Sequence[Seen]) -> Block | None:
    known = list(seen)
    if ordered:
        known.append(Seen(what=f"the set {ordered[-1].id}", at=ordered[-1].started_at))
    latest = max(known, key=lambda one: one.at, default=None)
    if latest is None or now + CLOCK_TOLERANCE >= latest.at:
        return None
    return Block(
        "RETENTION_CLOCK_BEHIND",
        f"clock ran backwards: this host says {clock.to_text(now)}, but {latest.what} is of "
        f"{clock.to_text(latest.at)}.",
        "Compare the clocks of this host and of the one that makes the backups with NTP, then run again; "
        "docs/runbooks/retention.md says how to go on when a clock was ahead.",
    )


def _proof_is_gone(ordered: list[Candidate], proven_before: str | None) -> Block | None:
    """Lines cut off at the end of a ledger leave no other trace than what an earlier run remembers."""
    gone = any(one.id == proven_before and not one.proof for one in ordered)
    if not gone:
        return None
    return Block(
        "RETENTION_PROOF_GONE",
        f"proof is gone: an earlier run knew {proven_before} as proven by a drill, and the ledger shows no "
        "proof of it now.",
        "Bring the ledger back from its copy, or name the public key of the drills before "
        "(retention.evidence_keys_file); nothing is removed before.",
    )


def _cycle_failed(ordered: list[Candidate], policy: Policy, now: datetime) -> Block | None:
    past = [one for one in ordered if one.started_at <= now]
    newest = next((one for one in reversed(past) if one.state == "complete"), None)
    if newest is None:
        return Block(
            "RETENTION_NOTHING_COMPLETE",
            "cycle failed: there is no complete set, so nothing may be removed.",
            "Look at the last run of the backup: systemctl status pharma-backup@NAME.service on the database's host.",
        )
    last = past[-1]
    if last.state == "unfinished" and _last_sign(last) + policy.grace <= now:
        return Block(
            "RETENTION_CYCLE_FAILED",
            f"cycle failed: the last attempt, {last.id}, was never finished; the newest complete set is "
            f"{newest.id}.",
            "Find out why in the journal of pharma-backup@NAME.service on the database's host, and make a set: "
            "pharma-ops backup create.",
        )
    if now - newest.started_at > policy.max_age:
        return Block(
            "RETENTION_NEWEST_TOO_OLD",
            f"cycle failed: the newest complete set, {newest.id}, is {_hours(now - newest.started_at)} old; "
            f"at most {_hours(policy.max_age)} are allowed.",
            "Find out why no newer one came (pharma-backup@NAME.timer on the database's host), and make one: "
            "pharma-ops backup create.",
        )
    return None


def _hours(span: timedelta) -> str:
    hours = span / timedelta(hours=1)
    return f"{hours:.0f} hours" if hours < 100 else f"{hours / 24:.0f} days"
