# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From facts to a judgement of each thing: healthy or not, and one sentence that says why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from .. import clock
from ..errors import ExitCode
from . import facts
from .facts import DAY, Facts

State = Literal["healthy", "warning", "critical", "unknown"]
SCHEMA_VERSION = 1
ORDER: tuple[State, ...] = ("critical", "warning", "unknown", "healthy")
SECTIONS = ("backup", "seen", "proof", "escrow", "stores", "retention", "secrets", "schedule", "telling")
_FAR_AHEAD = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One line of the screen.

    :ivar section: one of :data:`SECTIONS`.
    :ivar at: the time that the sentence is about.
    :ivar action: the next step; empty when there is nothing to do.
    """

    section: str
    name: str
    state: State
    sentence: str
    at: datetime | None = None
    action: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "section": self.section,
            "name": self.name,
            "state": self.state,
            "sentence": self.sentence,
            "at": clock.to_text(self.at) if self.at else None,
            "action": self.action or None,
        }


@dataclass(frozen=True, kw_only=True)
class Status:
    """The estate as this host knows it; items that are not healthy come first."""

    host: str
    environment: str
    at: datetime
    items: tuple[Item, ...]

    @property
    def verdict(self) -> State:
        """The worst state of all; nothing at all is unknown."""
        states = {item.state for item in self.items}
        return next((state for state in ORDER if state in states), "unknown")

    @property
    def exit_code(self) -> ExitCode:
        """0 healthy, 1 not, 2 something could not be looked at and nothing else is wrong."""
        if self.verdict == "healthy":
            return ExitCode.PROVEN
        return ExitCode.COULD_NOT_RUN if self.verdict == "unknown" else ExitCode.FAILED

    def as_dict(self) -> dict[str, Any]:
        """JSON values (docs/schemas/status.schema.json)."""
        return {
            "schemaVersion": SCHEMA_VERSION,
            "host": self.host,
            "environment": self.environment,
            "at": clock.to_text(self.at),
            "verdict": self.verdict,
            "items": [item.as_dict() for item in self.items],
        }


def judge(known: Facts) -> Status:
    """Judge everything that is known."""
    items = [
        *(_backup(known, one) for one in known.backups),
        *(_seen(known, one) for one in known.seen),
        *_proof(known),
        *_escrow(known),
        *(_store(one) for one in known.stores),
        *(_pruning(known, one) for one in known.prunings),
        *_secrets(known),
        *_schedule(known),
        *_telling(known),
        *(
            Item(section=one.section, name=one.name, state="unknown", sentence=one.reason, action=one.action)
            for one in known.unreadable
        ),
    ]
    return Status(
        host=known.host, environment=known.environment, at=known.now, items=tuple(sorted(items, key=_rank))
    )


def _rank(item: Item) -> tuple[int, int, str]:
    return ORDER.index(item.state), SECTIONS.index(item.section), item.name


def ago(now: datetime, moment: datetime) -> str:
    """How long ago, for a person: ``3 h ago``; a time ahead of the clock is said to be one."""
    age = now - moment
    if age < -_FAR_AHEAD:
        return f"in the future ({clock.to_text(moment)[:16].replace('T', ' ')} UTC)"
    return f"{span(age)} ago"


def span(length: timedelta) -> str:
    """A length of time in its two biggest units at most: ``45 min``, ``3 h``, ``12 d``."""
    minutes = max(0, int(length.total_seconds() // 60))
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 72 * 60 else f"{minutes // 1440} d"


def aged(now: datetime, moment: datetime, limit: timedelta, worst: timedelta | None = None) -> State:
    """Healthy up to ``limit``, then a warning and, from ``worst`` on (None: at once), critical.

    A time ahead of the clock cannot be judged.
    """
    age = now - moment
    if age < -_FAR_AHEAD:
        return "unknown"
    if age <= limit:
        return "healthy"
    return "warning" if worst is not None and age <= worst else "critical"


def _worse(*states: State) -> State:
    return min(states, key=ORDER.index)


def _backup(known: Facts, one: facts.Backup) -> Item:
    name = f"{one.database} in {one.store}" if one.store else one.database
    if one.success_at is None:
        why = f"no backup was ever made: {one.failed}" if one.failed else "no backup was ever made"
        action = one.action or "Run: pharma-ops backup create"
        return Item(section="backup", name=name, state="critical", sentence=why, action=action)
    age = aged(known.now, one.success_at, known.limits.backup)
    sentence = f"backed up {ago(known.now, one.success_at)}, {size(one.bytes)}"
    action = one.action if one.failed else ""
    if one.failed:
        sentence += f"; the last run failed: {one.failed.rstrip('.')}"
    elif age == "critical":
        sentence += f"; expected every {span(known.limits.backup)}"
        action = "Look why it did not run: systemctl list-timers 'pharma-*'"
    state = _worse(age, "warning" if one.failed else "healthy")
    return Item(section="backup", name=name, state=state, sentence=sentence, at=one.success_at, action=action)


def _seen(known: Facts, one: facts.SeenSet) -> Item:
    name = f"{one.database} in {one.store}"
    if one.seen_at is None or one.newest_change_at is None:
        sentence = f"never seen whole: {one.failed}" if one.failed else "not read back yet"
        state: State = "critical" if one.verdict in ("damaged", "missing") else "unknown"
        action = one.action or "Run: pharma-ops backup seen"
        return Item(section="seen", name=name, state=state, sentence=sentence, action=action)
    data = aged(known.now, one.newest_change_at, known.limits.backup)
    look = aged(known.now, one.seen_at, known.limits.seen, 2 * known.limits.seen)
    changes = span(known.now - one.newest_change_at)
    sentence = f"seen whole {ago(known.now, one.seen_at)}, with changes up to {changes} ago"
    action = one.action if one.failed else ""
    run: State = "healthy"
    if one.failed:
        run = "critical" if one.verdict in ("damaged", "missing") else "warning"
        sentence = f"{one.verdict}: {one.failed.rstrip('.')}; last {sentence}"
    elif data == "critical":
        sentence += f"; expected at most {span(known.limits.backup)}"
        action = "Look at the backup on the database host."
    elif look != "healthy":
        action = "Run: pharma-ops backup seen"
    return Item(
        section="seen",
        name=name,
        state=_worse(data, look, run),
        sentence=sentence,
        at=one.seen_at,
        action=action,
    )


def _proof(known: Facts) -> Iterator[Item]:
    drills = known.drills
    if drills is None:
        return
    if not drills.verdict or drills.ended_at is None:
        yield Item(
            section="proof",
            name="drill",
            state="critical",
            sentence="no drill was ever run: nothing is proven",
            action="Run: pharma-ops drill run",
        )
        return
    age: State = "critical"
    proven = "nothing was ever proven"
    if drills.proven_at is not None:
        proven = f"last proven {ago(known.now, drills.proven_at)}"
        age = aged(known.now, drills.proven_at, known.limits.proof, 2 * known.limits.proof)
    run: State = "healthy"
    sentence = f"{proven}: backup {drills.backup_id}"
    action = "" if age == "healthy" else "Run: pharma-ops drill run"
    if drills.verdict != "passed":
        run = "critical" if drills.verdict == "failed" else "warning"
        sentence = f"the last drill {_DRILL[drills.verdict]} {ago(known.now, drills.ended_at)}; {proven}"
        action = f"Open {drills.report}; docs/runbooks/drill.md says what to do."
    yield Item(
        section="proof",
        name="drill",
        state=_worse(run, age),
        sentence=sentence,
        at=drills.proven_at or drills.ended_at,
        action=action,
    )


_DRILL = {
    "failed": "failed",
    "unknown": "could not decide",
    "limited": "was a limited one",
    "not_run": "did not run",
}


def _escrow(known: Facts) -> Iterator[Item]:
    for database, at in sorted((known.escrow or {}).items()):
        state = aged(known.now, at, known.limits.escrow)
        yield Item(
            section="escrow",
            name=database,
            state="warning" if state == "critical" else state,
            sentence=f"the escrow key opened a backup {ago(known.now, at)}",
            at=at,
            action=""
            if state == "healthy"
            else "Fetch the key from the safe: pharma-ops drill run --identity",
        )
    if known.escrow == {}:
        yield Item(
            section="escrow",
            name="escrow key",
            state="warning",
            sentence="no drill has opened a backup with the escrow key yet",
            action="Fetch the key from the safe: pharma-ops drill run --identity",
        )


def _store(one: facts.StoreAnswer) -> Item:
    if one.problem:
        return Item(
            section="stores", name=one.name, state="critical", sentence=one.problem, action=one.action
        )
    return Item(section="stores", name=one.name, state="healthy", sentence=f"answers: {one.description}")


def _pruning(known: Facts, one: facts.Pruning) -> Item:
    name = f"{one.database} in {one.store}" if one.store else one.database
    if not one.verdict or one.at is None:
        sentence, action = "nothing was ever pruned", "Run: pharma-ops backup prune --dry-run"
        return Item(section="retention", name=name, state="warning", sentence=sentence, action=action)
    state = aged(known.now, one.at, known.limits.prune, 7 * DAY)
    sentence = f"pruned {ago(known.now, one.at)}: {one.kept} kept, {one.removed} removed"
    if one.verdict != "done":
        state = _worse(state, "warning")
        sentence = f"{one.verdict} {ago(known.now, one.at)}: {one.failed or 'no reason given'}"
    return Item(section="retention", name=name, state=state, sentence=sentence, at=one.at, action=one.action)


def _secrets(known: Facts) -> Iterator[Item]:
    """One line while all are fresh, else one for each that is not."""
    if known.secrets is None:
        return
    overdue = [one for one in known.secrets if one.standing == "overdue"]
    for one in overdue:
        yield Item(
            section="secrets",
            name=one.name,
            state="warning",
            sentence=f"{one.age_days} days old, {one.max_age_days} are allowed",
            action="docs/secrets.md says how it is replaced.",
        )
    due = sorted(one.name for one in known.secrets if one.standing == "due")
    fresh = len(known.secrets) - len(overdue) - len(due)
    sentence = f"{fresh} of {len(known.secrets)} fresh" + (f"; due soon: {', '.join(due)}" if due else "")
    yield Item(section="secrets", name="inventory", state="healthy", sentence=sentence)


def _schedule(known: Facts) -> Iterator[Item]:
    for timer in known.timers:
        yield _timer(known, timer)
    missing = [job for job in known.expected_jobs if all(timer.job != job for timer in known.timers)]
    for job in missing:
        yield Item(
            section="schedule",
            name=job,
            state="critical",
            sentence="neither a timer nor cron starts it",
            action="Run playbooks/site.yml on this host.",
        )


def _timer(known: Facts, timer: facts.Timer) -> Item:
    if timer.cron:
        return Item(
            section="schedule", name=timer.name, state="healthy", sentence=f"started by cron: {timer.unit}"
        )
    last = f"ran {ago(known.now, timer.last_at)}" if timer.last_at else "has not run yet"
    if not timer.active:
        return Item(
            section="schedule",
            name=timer.name,
            state="critical",
            sentence=f"{timer.unit} is stopped; {last}",
            action=f"Run: systemctl enable --now {timer.unit}",
        )
    following = f"next in {span(timer.next_at - known.now)}" if timer.next_at else "runs now"
    failed = timer.result not in ("", "success")
    if failed:
        last = f"{last} and failed ({timer.result})" if timer.last_at else f"failed ({timer.result})"
    return Item(
        section="schedule",
        name=timer.name,
        state="warning" if failed else "healthy",
        sentence=f"{last}; {following}",
        at=timer.last_at,
        action=f"Read: journalctl -u {timer.unit.replace('.timer', '.service')} -n 100" if failed else "",
    )


def _telling(known: Facts) -> Iterable[Item]:
    if known.told:
        return
    yield Item(
        section="telling",
        name="failures",
        state="warning",
        sentence="nobody is told when a job fails",
        action="Set ops_notify_mail or ops_notify_webhooks, then run: pharma-ops notify --test",
    )


def size(count: float) -> str:
    """Bytes for a person."""
    unit = 0
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    while count >= 1024 and unit < len(units) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} bytes" if unit == 0 else f"{count:.1f} {units[unit]}"
