# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daily read-back: whether the newest set in each store is whole, seen with the reader's identity.

The writer cannot read what it wrote. So its own success says little, and the time at which a set was
last seen whole is what an alarm is for.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from .. import clock, metrics
from ..config import Config
from ..errors import ExitCode, OpsError
from ..files import write_atomic
from ..locks import held
from ..log import Log
from ..metrics import Gauge
from ..progress import Progress
from ..store.base import ObjectStore
from ..store.open import open_store
from .catalogue import checked_database, list_sets, newest_complete
from .verify import Verified, verify_set

JOB = "seen"
SCHEMA_VERSION = 1
Verdict = Literal["whole", "damaged", "missing", "unknown"]
_DAMAGED = frozenset(
    {
        "BACKUP_DAMAGED",
        "MANIFEST_INVALID",
        "MANIFEST_MISPLACED",
        "SIGNATURE_INVALID",
        "STORE_OBJECT_MISSING",
        "STORE_OBJECT_TOO_LARGE",
    }
)
"""Errors that say that the set itself is wrong; every other one says that it could not be looked at."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A set that was whole when it was read back.

    :ivar newest_change_at: of the data in it (docs/backup-format.md).
    :ivar signer: key id of the trusted key that signed its manifest.
    """

    backup_id: str
    at: datetime
    newest_change_at: datetime
    bytes: int
    manifest_sha256: str
    signer: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """The read-backs of one database at one store.

    :ivar store: its name in the configuration.
    :ivar last_seen: None: no set was ever seen whole there.
    :ivar run_at: when the last read-back ended.
    :ivar backup_id: the set that it read; empty: it came to none.
    """

    database: str
    store: str
    description: str
    last_seen: Seen | None
    run_at: datetime
    verdict: Verdict
    backup_id: str = ""
    error: dict[str, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """As it stands in the record (docs/schemas/seen.schema.json)."""
        seen = self.last_seen
        return {
            "schemaVersion": SCHEMA_VERSION,
            "database": self.database,
            "store": self.store,
            "description": self.description,
            "lastSeen": (
                {
                    "backupId": seen.backup_id,
                    "at": clock.to_text(seen.at),
                    "newestChangeAt": clock.to_text(seen.newest_change_at),
                    "bytes": seen.bytes,
                    "manifestSha256": seen.manifest_sha256,
                    "signer": seen.signer,
                }
                if seen
                else None
            ),
            "lastRun": {
                "at": clock.to_text(self.run_at),
                "verdict": self.verdict,
                "backupId": self.backup_id or None,
                "error": self.error,
            },
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Record:
        """What :meth:`as_dict` made.

        :raises KeyError, TypeError, ValueError: it is something else.
        """
        if data["schemaVersion"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {data['schemaVersion']} is not known")
        seen, run = data["lastSeen"], data["lastRun"]
        if run["verdict"] not in ("whole", "damaged", "missing", "unknown"):
            raise ValueError(f"verdict {run['verdict']!r} is not known")
        return cls(
            database=str(data["database"]),
            store=str(data["store"]),
            description=str(data["description"]),
            last_seen=(
                Seen(
                    backup_id=str(seen["backupId"]),
                    at=clock.from_text(seen["at"]),
                    newest_change_at=clock.from_text(seen["newestChangeAt"]),
                    bytes=int(seen["bytes"]),
                    manifest_sha256=str(seen["manifestSha256"]),
                    signer=str(seen["signer"]),
                )
                if seen
                else None
            ),
            run_at=clock.from_text(run["at"]),
            verdict=run["verdict"],
            backup_id=str(run["backupId"] or ""),
            error=run["error"],
        )


def targets(config: Config) -> tuple[tuple[str, str], ...]:
    """What is read back: pairs of a database and the name of a store.

    :raises OpsError: ``CONFIG_INVALID``: nothing is named, or a store that is not configured.
    """
    seen, drill = config.seen, config.drill
    stores = (seen.stores if seen else ()) or ((drill.store,) if drill else ())
    databases = (seen.databases if seen else ()) or ((drill.database,) if drill and drill.database else ())
    if not stores or not databases:
        raise OpsError(
            "CONFIG_INVALID",
            "The configuration names no store and database to read back: it has neither [seen] nor [drill].",
            "Run the role pharma.hardening.staging on this host.",
        )
    for name in stores:
        config.store(name)
    return tuple((checked_database(database), store) for database in databases for store in stores)


def record_path(config: Config, database: str, store: str) -> Path:
    """Where the record of a database at a store lies."""
    return config.state_dir / JOB / f"{database}-{store}.json"


def read_record(path: Path) -> Record | None:
    """The record in a file; None: there is none.

    :raises OpsError: ``RECORD_INVALID``.
    """
    try:
        return Record.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OpsError(
            "RECORD_INVALID",
            f"{path} is not the record of a read-back: {error!r}.",
            "Remove it and run pharma-ops backup seen: only the time of the last success is lost.",
        ) from error


def read_back(
    config: Config,
    trusted_signers_pem: bytes,
    work_dir: Path,
    log: Log,
    progress: Progress,
    *,
    opener: Callable[[str], ObjectStore] | None = None,
) -> tuple[Record, ...]:
    """Read the newest complete set of every database back from every store; write records and metrics.

    What goes wrong at one store is in its record and keeps no other from being read.

    :param work_dir: existing directory with room for the biggest object of a set, which passes through it.
    :param opener: opens a store by its name; default: as the configuration says.
    :raises OpsError: ``CONFIG_INVALID``, ``LOCK_HELD``, ``FILE_NOT_WRITTEN``.
    """
    pairs = targets(config)
    open_it = opener or (lambda name: open_store(config.store(name)))
    with held(config.lock_dir, JOB, log.run_id):
        records = []
        for database, name in pairs:
            before = _before(config, database, name, log)
            record = _look(database, name, before, open_it, trusted_signers_pem, work_dir, log, progress)
            path = record_path(config, database, name)
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_atomic(path, (json.dumps(record.as_dict(), indent=1, sort_keys=True) + "\n").encode())
            records.append(record)
        metrics.publish(config.metrics_dir, JOB, gauges(records))
    worst = worst_of(records)
    if worst is not None:
        log.error("sets_not_seen", worst, stage="read back")
    return tuple(records)


def worst_of(records: Iterable[Record]) -> OpsError | None:
    """The error that is told of a run: damage before absence before what could not be looked at."""
    order = ("damaged", "missing", "unknown")
    bad = sorted((one for one in records if one.error), key=lambda one: order.index(one.verdict))
    if not bad or bad[0].error is None:
        return None
    code, message, action = (bad[0].error[key] for key in ("code", "message", "action"))
    more = (
        f" (and {len(bad) - 1} more not seen whole: {', '.join(one.store for one in bad[1:])})"
        if bad[1:]
        else ""
    )
    return OpsError(code, message + more, action)


def _before(config: Config, database: str, store: str, log: Log) -> Record | None:
    try:
        return read_record(record_path(config, database, store))
    except OpsError as error:
        log.error("record_damaged", error, database=database, store=store)
        return None


def _look(
    database: str,
    name: str,
    before: Record | None,
    open_it: Callable[[str], ObjectStore],
    trusted_signers_pem: bytes,
    work_dir: Path,
    log: Log,
    progress: Progress,
) -> Record:
    step = f"read back {database} from {name}"
    progress.started(step)
    began = clock.now()
    record = Record(
        database=database,
        store=name,
        description=before.description if before else name,
        last_seen=before.last_seen if before else None,
        run_at=began,
        verdict="unknown",
    )
    try:
        store = open_it(name)
        record = dataclasses.replace(record, description=store.description)
        newest = newest_complete(list_sets(store, database))
        if newest is None:
            raise OpsError(
                "BACKUP_MISSING",
                f"There is no complete backup of {database} in {store.description}.",
                "Look at the backup job on the database host: pharma-ops backup create.",
                ExitCode.FAILED,
            )
        record = dataclasses.replace(record, backup_id=newest.id)
        verified = verify_set(store, database, newest.id, trusted_signers_pem, progress, work_dir)
        record = whole(record, verified, clock.now())
        summary = f"{verified.bytes} bytes of {newest.id}, signed by {verified.signer}"
    except OpsError as error:
        record = refused(record, error, clock.now())
        summary = error.message
        log.error("read_back_failed", error, database=database, store=name, stage=step)
    progress.finished(step, record.verdict, (clock.now() - began).total_seconds(), summary)
    return record


def whole(record: Record, verified: Verified, now: datetime) -> Record:
    """The record after a set was read back and found whole."""
    manifest = verified.manifest
    return dataclasses.replace(
        record,
        run_at=now,
        verdict="whole",
        error=None,
        last_seen=Seen(
            backup_id=manifest.id,
            # As they are written: what is read again must be equal.
            at=clock.from_text(clock.to_text(now)),
            newest_change_at=manifest.newest_change_at,
            bytes=verified.bytes,
            manifest_sha256=verified.manifest_sha256,
            signer=verified.signer,
        ),
    )


def refused(record: Record, error: OpsError, now: datetime) -> Record:
    """The record after a set was found damaged or missing, or could not be looked at; ``last_seen`` stays."""
    verdict: Verdict = "unknown"
    if error.code in _DAMAGED:
        verdict = "damaged"
    elif error.code == "BACKUP_MISSING":
        verdict = "missing"
    return dataclasses.replace(record, run_at=now, verdict=verdict, error=error.as_dict())


def gauges(records: Iterable[Record]) -> tuple[Gauge, ...]:
    """The metrics of all records; a set that was never seen whole has no time."""
    found = [({"database": one.database, "store": one.store}, one) for one in records]
    seen = [(labels, one.last_seen) for labels, one in found if one.last_seen]
    return (
        Gauge(
            "pharma_backup_seen_whole_timestamp_seconds",
            "When a set was last read back from the store and found whole and signed.",
            tuple((labels, one.at.timestamp()) for labels, one in seen),
        ),
        Gauge(
            "pharma_backup_seen_newest_change_timestamp_seconds",
            "Commit time of the newest change in the set that was last seen whole.",
            tuple((labels, one.newest_change_at.timestamp()) for labels, one in seen),
        ),
        Gauge(
            "pharma_backup_seen_success",
            "Whether the last read-back found the newest set whole.",
            tuple((labels, float(one.verdict == "whole")) for labels, one in found),
        ),
    )


def exit_code(records: Iterable[Record]) -> ExitCode:
    """0: everything was seen whole; 1: something is damaged or missing; 2: something could not be looked at."""
    verdicts = {record.verdict for record in records}
    if verdicts & {"damaged", "missing"}:
        return ExitCode.FAILED
    return ExitCode.PROVEN if verdicts == {"whole"} else ExitCode.COULD_NOT_RUN
