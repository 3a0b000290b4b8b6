# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects what this host knows of the estate: records, ledger, inventory, timers; asks the stores if wanted."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from .. import clock
from ..backup import seen as seen_back
from ..config import Config
from ..custody import scan
from ..errors import OpsError
from ..evidence import ledger
from ..store.open import open_store
from . import facts, schedule

_Found = TypeVar("_Found")
_ESCROW = re.compile(
    r'^pharma_escrow_last_proven_timestamp_seconds\{database="([^"]+)"\} (\S+)$', re.MULTILINE
)


@dataclass
class _Looking:
    """Collects what could not be looked at, so that one damaged file hides nothing else."""

    config: Config
    unreadable: list[facts.Unreadable] = field(default_factory=list)

    def at(self, section: str, name: str, look: Callable[[], _Found]) -> _Found | None:
        try:
            return look()
        except OpsError as error:
            reason, action = error.message, error.action
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason, action = f"it is not what the job writes: {error!r}", "Remove it, and run the job again."
        self.unreadable.append(facts.Unreadable(section=section, name=name, reason=reason, action=action))
        return None


def gather(config: Config, *, offline: bool, now: datetime | None = None) -> facts.Facts:
    """Everything that this host knows; nothing is changed.

    :param offline: the stores are not asked.
    """
    looking = _Looking(config)
    at = looking.at
    return facts.Facts(
        now=now or clock.now(),
        host=socket.gethostname(),
        environment=config.environment,
        limits=limits(config),
        expected_jobs=expected_jobs(config),
        backups=tuple(
            one
            for database in backed_up(config)
            for one in at("backup", database, partial(_backups, config, database)) or ()
        ),
        seen=tuple(_seen(looking)),
        drills=at("proof", "ledger", partial(_drills, config)) if config.drill else None,
        stores=() if offline else _stores(config),
        secrets=at("secrets", "inventory", partial(_secrets, config)) if config.secrets else None,
        prunings=tuple(_prunings(looking)),
        timers=at("schedule", "systemd", schedule.timers) or (),
        escrow=at("escrow", "metric", partial(_escrow, config)) if config.drill else None,
        told=config.notify.mail is not None or bool(config.notify.webhooks),
        unreadable=tuple(looking.unreadable),
    )


def limits(config: Config) -> facts.Limits:
    """From when on things are too old: as retention and drill are configured."""
    hours = config.retention.max_age_hours if config.retention else 26
    age = timedelta(seconds=config.drill.rpo_objective_seconds) if config.drill else timedelta(hours=hours)
    return facts.Limits(backup=age)


def expected_jobs(config: Config) -> tuple[str, ...]:
    """The jobs that must be started by somebody on this host."""
    wanted = {
        "backup": config.backup is not None,
        "seen": config.drill is not None or config.seen is not None,
        "drill": config.drill is not None,
        "prune": config.retention is not None,
        "secrets": bool(config.secrets),
    }
    return tuple(job for job, is_wanted in wanted.items() if is_wanted)


def backed_up(config: Config) -> tuple[str, ...]:
    """The databases that this host backs up: those configured, and those that have a record."""
    if config.backup is None:
        return ()
    names = set(config.databases) | {path.stem for path in (config.state_dir / "backups").glob("*.json")}
    return tuple(sorted(names))


def _backups(config: Config, database: str) -> tuple[facts.Backup, ...]:
    path = config.state_dir / "backups" / f"{database}.json"
    if not path.exists():
        return (facts.Backup(database=database, store="", success_at=None),)
    record = json.loads(path.read_text(encoding="utf-8"))
    run = record["lastRun"]
    found = tuple(_backup(database, name, store, run) for name, store in sorted(record["stores"].items()))
    error = run.get("error") or {}
    return found or (
        facts.Backup(
            database=database,
            store="",
            success_at=None,
            failed=str(error.get("message", "")),
            action=str(error.get("action", "")),
        ),
    )


def _backup(database: str, name: str, store: dict[str, Any], run: dict[str, Any]) -> facts.Backup:
    success, failure = store.get("lastSuccess"), store.get("lastFailure")
    error: dict[str, Any] = {}
    if failure and (not success or failure["at"] > success["at"]):
        error = failure["error"]
    elif run["verdict"] == "failed" and run.get("error"):
        # The run ended before it came to any store.
        error = run["error"]
    return facts.Backup(
        database=database,
        store=name,
        success_at=clock.from_text(success["at"]) if success else None,
        bytes=int(success["bytes"] or 0) if success else 0,
        failed=str(error.get("message", "")),
        action=str(error.get("action", "")),
    )


def _seen(looking: _Looking) -> Iterator[facts.SeenSet]:
    config = looking.config
    if config.drill is None and config.seen is None:
        return
    for database, store in looking.at("seen", "configuration", partial(seen_back.targets, config)) or ():
        path = seen_back.record_path(config, database, store)
        found = looking.at("seen", path.name, partial(_seen_set, database, store, path))
        if found is not None:
            yield found


def _seen_set(database: str, store: str, path: Path) -> facts.SeenSet:
    record = seen_back.read_record(path)
    if record is None:
        return facts.SeenSet(database=database, store=store, verdict="")
    error = record.error or {}
    last = record.last_seen
    return facts.SeenSet(
        database=database,
        store=store,
        verdict=record.verdict,
        seen_at=last.at if last else None,
        newest_change_at=last.newest_change_at if last else None,
        backup_id=last.backup_id if last else "",
        failed=error.get("message", ""),
        action=error.get("action", ""),
    )


def _drills(config: Config) -> facts.Drills:
    lines = [line.entry for line in ledger.read(config.evidence.dir / ledger.NAME)]
    full = [entry for entry in lines if entry.scope == "full"]
    if not full:
        return facts.Drills(verdict="")
    proven = next((entry for entry in reversed(full) if entry.verdict.value == "passed"), None)
    return facts.Drills(
        verdict=full[-1].verdict.value,
        ended_at=full[-1].finished_at,
        proven_at=proven.finished_at if proven else None,
        backup_id=(proven.backup_id if proven else full[-1].backup_id) or "",
        report=str(config.evidence.dir / full[-1].drill_id / "report.html"),
    )


def _stores(config: Config) -> tuple[facts.StoreAnswer, ...]:
    """Ask all stores at once: one that hangs costs its own timeout only."""
    names = sorted(config.stores)
    if not names:
        return ()
    with ThreadPoolExecutor(len(names), thread_name_prefix="store") as pool:
        return tuple(pool.map(lambda name: _ask(config, name), names))


def _ask(config: Config, name: str) -> facts.StoreAnswer:
    description = name
    try:
        store = open_store(config.store(name))
        description = store.description
        store.check()
    except OpsError as error:
        return facts.StoreAnswer(
            name=name, description=description, problem=error.message, action=error.action
        )
    return facts.StoreAnswer(name=name, description=description)


def _secrets(config: Config) -> tuple[facts.SecretAge, ...]:
    now = clock.now()
    return tuple(
        facts.SecretAge(
            name=entry.name,
            standing=entry.standing(now),
            age_days=entry.age(now).days,
            max_age_days=entry.max_age_days,
        )
        for entry in scan.read(config)
    )


def _prunings(looking: _Looking) -> Iterator[facts.Pruning]:
    config = looking.config
    if config.retention is None:
        return
    paths = sorted((config.state_dir / "retention").glob("*.json"))
    for path in paths:
        found = looking.at("retention", path.name, partial(_pruning, path))
        if found is not None:
            yield found
    if not paths:
        for database in config.retention.databases or ("all databases",):
            yield facts.Pruning(database=database, store="", verdict="")


def _pruning(path: Path) -> facts.Pruning:
    record = json.loads(path.read_text(encoding="utf-8"))
    run = record["lastRun"]
    error = run.get("error") or {}
    return facts.Pruning(
        database=str(record["database"]),
        store=str(record["store"]),
        verdict=str(run["verdict"]),
        at=clock.from_text(run["at"]),
        kept=int(run["kept"]),
        removed=int(run["removed"]),
        failed=str(error.get("message", "")),
        action=str(error.get("action", "")),
    )


def _escrow(config: Config) -> dict[str, datetime]:
    try:
        text = (config.metrics_dir / "pharma_escrow.prom").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return {name: datetime.fromtimestamp(float(value), tz=UTC) for name, value in _ESCROW.findall(text)}
