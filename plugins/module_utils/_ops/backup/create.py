# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a backup: one snapshot, dumped and fingerprinted at the same time, sealed, signed, stored.

One dump and one encryption, whatever the number of stores; each store has its own result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import __version__, _deps, clock, config, locks, metrics
from ..errors import ExitCode, OpsError
from ..log import Log
from ..postgres import catalog, programs, sequences
from ..postgres.connection import translated
from ..postgres.content import Content, read_content
from ..postgres.sequences import Position
from ..postgres.snapshot import Snapshot, exported
from ..progress import Progress
from ..sealing import signing
from ..store.base import Stored
from . import plan as planning
from . import state, stream
from .fanout import Destination, Fanout
from .manifest import DUMP_NAME, GLOBALS_NAME, MANIFEST_NAME, SIGNATURE_NAME, Manifest, ObjectEntry, Release
from .plan import Place, Plan
from .result import BackupResult, StoreResult
from .stream import Tally

if TYPE_CHECKING:
    from ..postgres.connection import Connection

STEP_DUMP = "dump"
STEP_PUBLISH = "publish"


def create_backup(
    settings: config.Config, log: Log, progress: Progress, database: str | None = None
) -> BackupResult:
    """Make a backup set of a database in every store of the configuration.

    Nothing is written before the server, the programs, the recipients, the key and the stores have
    been looked at. The manifest is written last: without it there is no backup. A store that fails is
    named in the result while the others get the set. The record of the database's backups and its
    metrics are written whatever comes of the run.

    :param database: its key in the configuration; None: the only one.
    :raises OpsError: any cause, with its object and the next step; with exit code 1 when the backup had
        begun. ``LOCK_HELD`` while another runs.
    """
    _deps.require("psycopg", "cryptography")
    place = planning.place_of(settings, database)
    job = _Job(settings, place, log)
    with locks.held(settings.lock_dir, f"backup-{place.database}", job.id):
        try:
            result = job.run(progress)
        except BaseException as error:
            job.remember_failure(error)
            raise
        return job.remember(result)


def preflight(settings: config.Config, database: str | None = None) -> tuple[StoreResult, ...]:
    """Check all that a backup checks before it writes; returns how each store was found.

    :raises OpsError: see :func:`create_backup`.
    """
    _deps.require("psycopg", "cryptography")
    place = planning.place_of(settings, database)
    fanout = Fanout(planning.destinations(settings, place.backup), place.backup.stall_seconds)
    planning.prepare(place, planning.next_id(clock.now(), None)[0])
    fanout.check()
    return _store_results(fanout.destinations)


class _Job:
    """One run for one database: its id, its stores, and what it leaves on this host."""

    def __init__(self, settings: config.Config, place: Place, log: Log) -> None:
        self._settings = settings
        self._place = place
        self._log = log
        self._began = time.monotonic()
        self._started_at = clock.now()
        self._previous, unreadable = _previous(settings, place.database)
        last = self._previous["lastRun"]["backupId"] if self._previous else None
        self.id, clock_warning = planning.next_id(self._started_at, last)
        self._warnings = [text for text in (unreadable, clock_warning) if text]
        self._destinations = planning.destinations(settings, place.backup)

    def run(self, progress: Progress) -> BackupResult:
        """Make the set."""
        place, log = self._place, self._log
        for warning in self._warnings:
            log.warn("backup_warning", backupId=self.id, database=place.database, reason=warning)
        fanout = Fanout(self._destinations, place.backup.stall_seconds, self._stored, self._dropped)
        for destination in self._destinations:
            if destination.error is not None:
                self._dropped(destination)
        plan = planning.prepare(place, self.id)
        fanout.check()
        log.info("backup_started", backupId=self.id, database=place.database, stores=self._descriptions())
        try:
            manifest, warnings = _write(plan, fanout, log, progress)
            digest = _publish(plan, manifest, fanout, progress)
        except OpsError as error:
            error.exit_code = ExitCode.FAILED
            raise
        return _result(plan, manifest, digest, fanout, [*self._warnings, *warnings], self._seconds())

    def remember(self, result: BackupResult) -> BackupResult:
        """Write record and metrics; that they could not be written is a warning of the backup."""
        problems = self._write(state.run_of(result, self._started_at, clock.now()))
        result = dataclasses.replace(result, warnings=(*result.warnings, *problems))
        if result.error is not None:
            self._log.error("backup_partial", result.error, **result.as_dict())
        else:
            self._log.info("backup_finished", **result.as_dict())
        return result

    def remember_failure(self, error: BaseException) -> None:
        """Write record and metrics of a run that made no set."""
        told = _told(error)
        self._log.error("backup_failed", error, backupId=self.id, database=self._place.database)
        stores = tuple(
            StoreResult(name=item.name, description=item.description, error=item.error or told)
            for item in self._destinations
        )
        self._write(
            state.Run(
                database=self._place.database,
                backup_id=self.id,
                started_at=self._started_at,
                finished_at=clock.now(),
                seconds=self._seconds(),
                verdict="failed",
                stores=stores,
                error=told,
            )
        )

    def _write(self, run: state.Run) -> list[str]:
        """Record and metrics, each by itself: neither may change what came of the backup."""
        settings = self._settings
        record = state.updated(self._previous, run)
        problems = []
        try:
            path = state.write(settings.state_dir, record)
            self._log.info("record_written", path=str(path))
        except OpsError as error:
            problems.append(f"the record of this backup was not written: {error.message}")
            self._log.error("record_not_written", error)
        try:
            path = metrics.publish(settings.metrics_dir, state.job_of(run.database), state.gauges(record))
            self._log.info("metrics_written", path=str(path))
        except (OpsError, OSError) as error:
            problems.append(f"the metrics of this backup were not written: {error}")
            self._log.error("metrics_not_written", error)
        return problems

    def _stored(self, destination: Destination, stored: Stored) -> None:
        self._log.info("object_stored", store=destination.name, key=stored.key, bytes=stored.bytes)

    def _dropped(self, destination: Destination) -> None:
        if destination.error is not None:
            self._log.error("store_failed", destination.error, store=destination.name, backupId=self.id)

    def _descriptions(self) -> dict[str, str]:
        return {item.name: item.description for item in self._destinations}

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def _previous(settings: config.Config, database: str) -> tuple[dict[str, Any] | None, str | None]:
    """The record so far; one that cannot be read is a warning, for a backup is worth more."""
    try:
        return state.read(settings.state_dir, database), None
    except OpsError as error:
        return None, error.message


def _told(error: BaseException) -> OpsError:
    """An error as the record holds it."""
    if isinstance(error, OpsError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return OpsError(
            "INTERRUPTED",
            "The run was interrupted.",
            "Find out who stopped it: a person, a shutdown, or the deadline of its job.",
        )
    return OpsError("INTERNAL", f"{type(error).__name__}: {error}", "Report it as a defect, with the log.")


def _store_results(destinations: tuple[Destination, ...]) -> tuple[StoreResult, ...]:
    return tuple(
        StoreResult(name=item.name, description=item.description, error=item.error) for item in destinations
    )


def _write(plan: Plan, fanout: Fanout, log: Log, progress: Progress) -> tuple[Manifest, list[str]]:
    """Store the globals and the dump, read the content in the same snapshot meanwhile."""
    with exported(plan.target) as (connection, snapshot):
        server = catalog.server(connection)
        before = sequences.read(connection)
        release, head, warnings = _application(connection, plan.section)
        for warning in warnings:
            log.warn("application_unknown", reason=warning)
        with _beside_the_dump(plan, fanout, snapshot, progress) as (globals_later, content_later):
            dump, after = _put_dump(plan, fanout, connection, snapshot, progress, content_later)
            entries = [globals_later.result()]
            content = content_later.result()
    content = dataclasses.replace(content, sequences=sequences.between(before, after))
    manifest = Manifest(
        id=plan.id,
        database=plan.database,
        dbname=plan.target.dbname,
        started_at=plan.started_at,
        finished_at=clock.now(),
        snapshot_at=snapshot.taken_at,
        snapshot_lsn=snapshot.lsn,
        newest_change_at=snapshot.newest_change_at,
        newest_change_basis=snapshot.newest_change_basis,
        tool_version=__version__,
        source_host=socket.gethostname(),
        server_version=server.version,
        server_version_text=server.version_text,
        dump_format="custom",
        dump_compression=plan.compression,
        dump_program=programs.version_text(plan.pg_dump),
        dump_program_major=plan.dump_major,
        recipients=tuple(recipient.fingerprint for recipient in plan.recipients),
        objects=(dump, *entries),
        content=content,
        release=release,
        migration_head=head,
    )
    return manifest, warnings


@contextmanager
def _beside_the_dump(
    plan: Plan, fanout: Fanout, snapshot: Snapshot, progress: Progress
) -> Iterator[tuple[Future[ObjectEntry], Future[Content]]]:
    """Store the globals and read the content while the block runs; when it fails, cancel the reading.

    The globals are small and so in the store long before the dump: a backup that is killed is then
    listed as unfinished.
    """
    abandoned = threading.Event()
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="beside-dump") as pool:
        try:
            globals_later = pool.submit(_put_globals, plan, fanout)
            content_later = pool.submit(
                read_content,
                plan.target,
                snapshot=snapshot.id,
                sessions=plan.sessions,
                progress=progress,
                abandoned=abandoned,
            )
            yield globals_later, content_later
        except BaseException:
            abandoned.set()
            raise


def _put_dump(
    plan: Plan,
    fanout: Fanout,
    connection: Connection,
    snapshot: Snapshot,
    progress: Progress,
    content_later: Future[Content],
) -> tuple[ObjectEntry, dict[str, Position]]:
    progress.started(STEP_DUMP)
    begun = time.monotonic()
    tally = Tally()

    def advance(done: int) -> None:
        # When the fingerprints failed there is nothing left to dump for.
        if content_later.done() and (error := content_later.exception()):
            raise error
        progress.advanced(STEP_DUMP, done, None, "bytes")

    command = stream.dump_command(plan.pg_dump, snapshot.id, plan.compression, plan.dump_major)
    chunks = stream.output_of(command, plan.target, tally, advance)
    entry = stream.put_sealed(fanout, f"{plan.prefix}/{DUMP_NAME}", plan.recipients, chunks, tally)
    with translated(plan.target, "reading the sequences"):
        after = sequences.read(connection)
    progress.finished(
        STEP_DUMP, "passed", time.monotonic() - begun, f"{entry.bytes} bytes encrypted and stored"
    )
    return entry, after


def _put_globals(plan: Plan, fanout: Fanout) -> ObjectEntry:
    tally = Tally()
    command = stream.globals_command(plan.pg_dumpall, plan.target)
    chunks = stream.output_of(command, plan.target, tally, lambda _: None)
    return stream.put_sealed(fanout, f"{plan.prefix}/{GLOBALS_NAME}", plan.recipients, chunks, tally)


def _application(
    connection: Connection, application: config.Database
) -> tuple[Release | None, str | None, list[str]]:
    """Ask the database which release it belongs to; not to know it does not cost the backup."""
    warnings: list[str] = []
    release: Release | None = None
    row = _ask(connection, "release_sql", application.release_sql, 3, warnings)
    if row:
        release = Release(name=row[0], version=row[1], sha256=row[2])
    head = _ask(connection, "migration_head_sql", application.migration_head_sql, 1, warnings)
    return release, head[0] if head else None, warnings


def _ask(
    connection: Connection, name: str, query: str, width: int, warnings: list[str]
) -> tuple[str, ...] | None:
    if not query:
        return None
    psycopg = _deps.load("psycopg")
    try:
        with connection.transaction():
            rows = connection.execute(query.encode()).fetchall()
    except psycopg.Error as error:
        warnings.append(f"{name} failed: {error.diag.message_primary or error}")
        return None
    if len(rows) != 1 or len(rows[0]) != width or any(item is None for item in rows[0]):
        warnings.append(f"{name} returned {len(rows)} rows instead of one with {width} values")
        return None
    return tuple(str(item) for item in rows[0])


def _publish(plan: Plan, manifest: Manifest, fanout: Fanout, progress: Progress) -> str:
    """Store the signature, then the manifest that makes the set exist; returns its sha256."""
    progress.started(STEP_PUBLISH)
    begun = time.monotonic()
    data = manifest.to_json()
    fanout.put_bytes(f"{plan.prefix}/{SIGNATURE_NAME}", signing.sign(plan.signing_key, data))
    fanout.put_bytes(f"{plan.prefix}/{MANIFEST_NAME}", data)
    progress.finished(STEP_PUBLISH, "passed", time.monotonic() - begun, f"{plan.prefix} exists")
    return hashlib.sha256(data).hexdigest()


def _result(
    plan: Plan, manifest: Manifest, digest: str, fanout: Fanout, warnings: list[str], seconds: float
) -> BackupResult:
    tables = manifest.content.tables
    return BackupResult(
        backup_id=plan.id,
        database=manifest.database,
        stores=_store_results(fanout.destinations),
        bytes=sum(entry.bytes for entry in manifest.objects),
        seconds=seconds,
        tables=sum(table.kind == "table" for table in tables.values()),
        rows=manifest.content.rows,
        manifest_sha256=digest,
        newest_change_at=manifest.newest_change_at,
        compression=manifest.dump_compression,
        stale_views=tuple(name for name, table in tables.items() if table.stale),
        warnings=tuple(warnings),
    )
