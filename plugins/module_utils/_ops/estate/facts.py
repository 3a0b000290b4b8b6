# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host knows of the estate, before anybody judges it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """From when on something is too old.

    :ivar backup: age of the last success of a backup, and of the newest change that was seen off site.
    :ivar seen: age of the last read-back; twice that is critical.
    :ivar proof: age of the last drill that passed; twice that is critical.
    :ivar escrow: age of the last proof of an escrow key.
    """

    backup: timedelta = timedelta(hours=26)
    seen: timedelta = timedelta(hours=26)
    proof: timedelta = 8 * DAY
    escrow: timedelta = 366 * DAY
    prune: timedelta = timedelta(hours=26)


@dataclass(frozen=True, kw_only=True)
class Backup:
    """The backups of a database at a store, as the host that makes them knows them.

    :ivar store: empty: no run has come as far as a store.
    :ivar failed: why the last run did not bring a set there; empty: it did.
    """

    database: str
    store: str
    success_at: datetime | None
    bytes: int = 0
    failed: str = ""
    action: str = ""


@dataclass(frozen=True, kw_only=True)
class SeenSet:
    """The read-backs of a database at a store. ``verdict`` empty: none was done yet."""

    database: str
    store: str
    verdict: str
    seen_at: datetime | None = None
    newest_change_at: datetime | None = None
    backup_id: str = ""
    failed: str = ""
    action: str = ""


@dataclass(frozen=True, kw_only=True)
class Drills:
    """The drills of this host. ``verdict`` empty: none was run yet."""

    verdict: str
    ended_at: datetime | None = None
    proven_at: datetime | None = None
    backup_id: str = ""
    report: str = ""


@dataclass(frozen=True, kw_only=True)
class StoreAnswer:
    """What a store said when it was asked; ``problem`` empty: it is well."""

    name: str
    description: str
    problem: str = ""
    action: str = ""


@dataclass(frozen=True, kw_only=True)
class SecretAge:
    """A secret of the inventory: ``standing`` is fresh, due or overdue."""

    name: str
    standing: str
    age_days: int
    max_age_days: int


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """The last pruning of a database at a store; ``verdict`` is done, blocked or failed (empty: none yet)."""

    database: str
    store: str
    verdict: str
    at: datetime | None = None
    kept: int = 0
    removed: int = 0
    failed: str = ""
    action: str = ""


@dataclass(frozen=True, kw_only=True)
class Timer:
    """A job's timer. ``result`` is how its unit last ended; ``cron``: cron starts it and keeps no times."""

    job: str
    unit: str
    active: bool
    next_at: datetime | None = None
    last_at: datetime | None = None
    result: str = ""
    cron: bool = False

    @property
    def name(self) -> str:
        """The job, and the instance of a template's unit: ``backup of pharma``."""
        instance = self.unit.partition("@")[2].rpartition(".")[0]
        return f"{self.job} of {instance}" if instance and not self.cron else self.job


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """Something that could not be looked at."""

    section: str
    name: str
    reason: str
    action: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything; parts that this host has nothing to do with are empty or None.

    :ivar expected_jobs: jobs that the configuration asks for.
    :ivar escrow: database → when a drill last opened a set with an escrow key.
    :ivar told: whether anybody is told of failures.
    """

    now: datetime
    host: str
    environment: str
    limits: Limits
    expected_jobs: tuple[str, ...] = ()
    backups: tuple[Backup, ...] = ()
    seen: tuple[SeenSet, ...] = ()
    drills: Drills | None = None
    stores: tuple[StoreAnswer, ...] = ()
    secrets: tuple[SecretAge, ...] | None = None
    prunings: tuple[Pruning, ...] = ()
    timers: tuple[Timer, ...] = ()
    escrow: dict[str, datetime] | None = None
    told: bool = True
    unreadable: tuple[Unreadable, ...] = ()
