# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on record of the prunings: for the next run, for the metrics, for the state of the estate.

A file for each database and store, ``<state_dir>/retention/<database>-<store>.json``;
docs/schemas/retention.schema.json describes it.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from .. import clock
from ..errors import OpsError
from ..files import write_atomic
from ..metrics import Gauge
from .prune import Outcome, Verdict
from .retention import Seen

SCHEMA_VERSION = 1
DIRECTORY = "retention"
METRICS_JOB = "prune"


@dataclass(frozen=True, kw_only=True)
class LastRun:
    """How the last run of a database and store ended; numbers are of sets, sizes in bytes."""

    at: datetime
    verdict: Verdict
    kept: int = 0
    removed: int = 0
    uploads_aborted: int = 0
    bytes_freed: int = 0
    error: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of the prunings of a database's sets in a store.

    :ivar acted_at: the clock of ``acted_host`` when a run last was allowed to remove; only this is held
        against the clock of the next run, so that a run in a wrong future leaves no trace.
    :ivar newest_proven: the newest set that a drill had proved then.
    """

    database: str
    store: str
    description: str
    last_run: LastRun
    acted_at: datetime | None = None
    acted_host: str = ""
    newest_proven: str | None = None

    def seen(self) -> tuple[Seen, ...]:
        """What the next run's clock may not stand before."""
        if self.acted_at is None:
            return ()
        return (Seen(what=f"the last run on {self.acted_host}", at=self.acted_at),)


def path_of(state_dir: Path, database: str, store: str) -> Path:
    """Where the record is."""
    return state_dir / DIRECTORY / f"{database}-{store}.json"


def updated(before: Record | None, store: str, outcome: Outcome) -> Record:
    """The record after a run that had a plan."""
    plan, error = outcome.survey.plan, outcome.error
    record = Record(
        database=outcome.survey.database,
        store=store,
        description=outcome.survey.description,
        last_run=LastRun(
            at=plan.now,
            verdict=outcome.verdict,
            kept=len(plan.decisions) - len(outcome.removed),
            removed=len(outcome.removed),
            uploads_aborted=outcome.uploads_aborted,
            bytes_freed=outcome.bytes_freed,
            error=error.as_dict() if error else None,
        ),
    )
    if plan.block:
        return carried(before, record)
    return replace(
        record, acted_at=plan.now, acted_host=socket.gethostname(), newest_proven=plan.newest_proven
    )


def failed(
    before: Record | None, database: str, store: str, description: str, now: datetime, error: OpsError
) -> Record:
    """The record after a run that came to no plan."""
    run = LastRun(at=now, verdict="failed", error=error.as_dict())
    record = Record(database=database, store=store, description=description, last_run=run)
    return carried(before, record)


def carried(before: Record | None, record: Record) -> Record:
    """The record with what an earlier one knew of the clock and the proofs."""
    if before is None:
        return record
    return replace(
        record,
        acted_at=before.acted_at,
        acted_host=before.acted_host,
        newest_proven=before.newest_proven,
    )


def write(state_dir: Path, record: Record) -> None:
    """Put the record in the place of the one before.

    :raises OpsError: ``FILE_NOT_WRITTEN``.
    """
    path = path_of(state_dir, record.database, record.store)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    run = record.last_run
    document = {
        "schemaVersion": SCHEMA_VERSION,
        "database": record.database,
        "store": record.store,
        "description": record.description,
        "lastRun": {
            "at": clock.to_text(run.at),
            "verdict": run.verdict,
            "kept": run.kept,
            "removed": run.removed,
            "uploadsAborted": run.uploads_aborted,
            "bytesFreed": run.bytes_freed,
            "error": run.error,
        },
        "lastActed": (
            {"at": clock.to_text(record.acted_at), "host": record.acted_host} if record.acted_at else None
        ),
        "newestProven": record.newest_proven,
    }
    write_atomic(path, (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode())


def read(state_dir: Path, database: str, store: str) -> Record | None:
    """The record; None when there was no run yet.

    :raises OpsError: ``RETENTION_RECORD_INVALID``.
    """
    path = path_of(state_dir, database, store)
    try:
        return _record(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        raise OpsError(
            "RETENTION_RECORD_INVALID",
            f"{path} is not the record of a pruning: {reason}.",
            "It says when this host last removed sets and which one was proven then: bring it back from a "
            "copy, or remove it when clock and ledger are known to be right.",
        ) from error


def _record(document: dict[str, Any]) -> Record:
    if document["schemaVersion"] != SCHEMA_VERSION:
        raise ValueError(f"schema version {document['schemaVersion']!r} is unknown")
    run, acted = document["lastRun"], document["lastActed"]
    return Record(
        database=str(document["database"]),
        store=str(document["store"]),
        description=str(document["description"]),
        last_run=LastRun(
            at=clock.from_text(run["at"]),
            verdict=cast(Verdict, run["verdict"]),
            kept=int(run["kept"]),
            removed=int(run["removed"]),
            uploads_aborted=int(run["uploadsAborted"]),
            bytes_freed=int(run["bytesFreed"]),
            error=run["error"],
        ),
        acted_at=clock.from_text(acted["at"]) if acted else None,
        acted_host=str(acted["host"]) if acted else "",
        newest_proven=document["newestProven"],
    )


def gauges(records: Iterable[Record]) -> tuple[Gauge, ...]:
    """What the records say, for Prometheus (docs/backup-estate.md)."""
    known = [({"database": one.database, "store": one.store}, one.last_run) for one in records]
    return (
        Gauge(
            "pharma_retention_last_run_timestamp_seconds",
            "When the sets of the database in the store were last pruned, or should have been.",
            tuple((labels, run.at.timestamp()) for labels, run in known),
        ),
        Gauge(
            "pharma_retention_last_run_success",
            "1 when that run ended well, 0 when it was blocked or failed.",
            tuple((labels, float(run.verdict == "done")) for labels, run in known),
        ),
        Gauge(
            "pharma_retention_sets",
            "Sets by what that run made of them.",
            tuple(
                (labels | {"action": action}, float(count))
                for labels, run in known
                if run.verdict != "failed" or run.kept
                for action, count in (("keep", run.kept), ("remove", run.removed))
            ),
        ),
    )
