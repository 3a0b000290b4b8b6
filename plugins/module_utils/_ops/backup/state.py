# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a database's backups: what the last run did at each store, as a file and as metrics.

It lies in ``<state_dir>/backups/<database>.json`` (docs/schemas/backup-state.schema.json). A production
host cannot read its stores, so this is all that it knows of its backups.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import clock, metrics
from ..errors import OpsError
from ..files import write_atomic
from .result import BackupResult, StoreResult, Verdict

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run came to. ``bytes``, ``rows`` and ``manifest_sha256`` are None when it made no set."""

    database: str
    backup_id: str
    started_at: datetime
    finished_at: datetime
    seconds: float
    verdict: Verdict
    stores: tuple[StoreResult, ...]
    bytes: int | None = None
    rows: int | None = None
    manifest_sha256: str | None = None
    error: OpsError | None = None


def run_of(result: BackupResult, started_at: datetime, finished_at: datetime) -> Run:
    """The run that made a set."""
    return Run(
        database=result.database,
        backup_id=result.backup_id,
        started_at=started_at,
        finished_at=finished_at,
        seconds=result.seconds,
        verdict=result.verdict,
        stores=result.stores,
        bytes=result.bytes,
        rows=result.rows,
        manifest_sha256=result.manifest_sha256,
        error=result.error,
    )


def path_of(state_dir: Path, database: str) -> Path:
    """Where the record of a database's backups lies."""
    return state_dir / "backups" / f"{database}.json"


def read(state_dir: Path, database: str) -> dict[str, Any] | None:
    """The record of a database's backups; None when there is none yet.

    :raises OpsError: ``BACKUP_RECORD_INVALID``; names the file.
    """
    path = path_of(state_dir, database)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schemaVersion"] != SCHEMA_VERSION or record["database"] != database:
            raise ValueError(f"it is of version {record['schemaVersion']!r} or of another database")
        clock.from_text(record["lastRun"]["finishedAt"])
        str(record["lastRun"]["backupId"])
        dict(record["stores"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OpsError(
            "BACKUP_RECORD_INVALID",
            f"The record {path} cannot be read: {error}.",
            "Move it away; the next backup writes a new one.",
        ) from error
    found: dict[str, Any] = record
    return found


def updated(previous: dict[str, Any] | None, run: Run) -> dict[str, Any]:
    """The record after a run: stores keep their last success and failure; those not asked any more go."""
    known = (previous or {}).get("stores", {})
    return {
        "schemaVersion": SCHEMA_VERSION,
        "database": run.database,
        "lastRun": {
            "backupId": run.backup_id,
            "startedAt": clock.to_text(run.started_at),
            "finishedAt": clock.to_text(run.finished_at),
            "verdict": run.verdict,
            "bytes": run.bytes,
            "rows": run.rows,
            "seconds": round(run.seconds, 3),
            "error": run.error.as_dict() if run.error else None,
        },
        "stores": {store.name: _store(known.get(store.name, {}), store, run) for store in run.stores},
    }


def _store(known: dict[str, Any], store: StoreResult, run: Run) -> dict[str, Any]:
    entry = {
        "description": store.description,
        "lastSuccess": known.get("lastSuccess"),
        "lastFailure": known.get("lastFailure"),
    }
    mark = {"backupId": run.backup_id, "at": clock.to_text(run.finished_at)}
    if store.error is None:
        success = {"bytes": run.bytes, "manifestSha256": run.manifest_sha256}
        return entry | {"lastSuccess": mark | success}
    return entry | {"lastFailure": mark | {"error": store.error.as_dict()}}


def write(state_dir: Path, record: dict[str, Any]) -> Path:
    """Put the record in place, whole; returns its path.

    :raises OpsError: ``FILE_NOT_WRITTEN``.
    """
    path = path_of(state_dir, record["database"])
    text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True, parents=True)
    except OSError as error:
        raise OpsError(
            "FILE_NOT_WRITTEN",
            f"The directory {path.parent} cannot be made: {error.strerror}.",
            "Check the free space and the permissions of state_dir.",
        ) from error
    write_atomic(path, text.encode(), mode=0o640)
    return path


def gauges(record: dict[str, Any]) -> list[metrics.Gauge]:
    """What Prometheus is told of a record (docs/backup-estate.md)."""
    last = record["lastRun"]
    labels = {"database": record["database"]}
    stores = {name: labels | {"store": name} for name in record["stores"]}
    successes = {name: entry["lastSuccess"] for name, entry in record["stores"].items()}
    finished = _seconds(last["finishedAt"])

    def now_there(name: str) -> float:
        return float(bool(successes[name]) and successes[name]["backupId"] == last["backupId"])

    def of_stores(values: dict[str, float]) -> tuple[tuple[dict[str, str], float], ...]:
        return tuple((stores[name], value) for name, value in values.items())

    found = [
        metrics.Gauge(
            "pharma_backup_last_run_timestamp_seconds",
            "When the last backup ended, whatever came of it.",
            of_stores(dict.fromkeys(stores, finished)),
        ),
        metrics.Gauge(
            "pharma_backup_last_run_success",
            "Whether the store acknowledged every object of the last backup (1) or not (0).",
            of_stores({name: now_there(name) for name in stores}),
        ),
        metrics.Gauge(
            "pharma_backup_last_success_timestamp_seconds",
            "When the store last acknowledged a whole backup.",
            of_stores({name: _seconds(done["at"]) for name, done in successes.items() if done}),
        ),
        metrics.Gauge(
            "pharma_backup_bytes",
            "Size of the last whole backup in the store.",
            of_stores({name: float(done["bytes"]) for name, done in successes.items() if done}),
        ),
        metrics.Gauge(
            "pharma_backup_duration_seconds", "How long the last backup took.", ((labels, last["seconds"]),)
        ),
    ]
    if last["rows"] is not None:
        found.append(
            metrics.Gauge("pharma_backup_rows", "Rows in the last backup.", ((labels, float(last["rows"])),))
        )
    return found


def job_of(database: str) -> str:
    """The name of the file of metrics: one for each database, because each has a run of its own."""
    return f"backup_{database}"


def _seconds(text: str) -> float:
    return clock.from_text(text).timestamp()
