# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a backup: one snapshot, dumped and fingerprinted at the same time, sealed, signed, stored."""

from __future__ import annotations

import dataclasses
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__, _deps, clock, config, locks
from ..errors import OpsError
from ..log import Log
from ..postgres import catalog, programs, sequences
from ..postgres.connection import Target, connect, translated
from ..postgres.content import Content, read_content
from ..postgres.sequences import Position
from ..postgres.snapshot import Snapshot, exported
from ..progress import Progress
from ..sealing import signing
from ..sealing.recipients import Recipient, load_recipients
from ..store.base import ObjectStore
from ..store.open import open_store
from . import stream
from .catalogue import checked_database, new_id
from .manifest import DUMP_NAME, GLOBALS_NAME, MANIFEST_NAME, SIGNATURE_NAME, Manifest, ObjectEntry, Release
from .stream import Tally

if TYPE_CHECKING:
    from ..postgres.connection import Connection

STEP_DUMP = "dump"
STEP_PUBLISH = "publish"


@dataclass(frozen=True, kw_only=True)
class BackupResult:
    """What was made; ``bytes`` is what lies in the store, ``seconds`` the wall time."""

    backup_id: str
    database: str
    store: str
    bytes: int
    seconds: float
    tables: int
    rows: int
    manifest_sha256: str
    newest_change_at: datetime
    compression: str
    stale_views: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the command and the module."""
        return vars(self) | {
            "seconds": round(self.seconds, 3),
            "newest_change_at": clock.to_text(self.newest_change_at),
            "stale_views": list(self.stale_views),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Everything that was found out before anything is written."""

    id: str
    started_at: datetime
    database: str
    target: Target
    store: ObjectStore
    recipients: tuple[Recipient, ...]
    signing_key: bytes
    pg_dump: Path
    pg_dumpall: Path
    dump_major: int
    compression: str
    sessions: int

    @property
    def prefix(self) -> str:
        return f"{self.database}/{self.id}"


def create_backup(
    settings: config.Config, log: Log, progress: Progress, database: str | None = None
) -> BackupResult:
    """Make a backup set of a database in the configured store.

    Nothing is written before the server, the programs, the recipients, the key and the store have
    been looked at. The manifest is written last: without it there is no backup.

    :raises OpsError: any cause, with its object and the next step; ``LOCK_HELD`` while another runs.
    """
    _deps.require("psycopg", "cryptography")
    name, section, backup = _sections(settings, database)
    begun = time.monotonic()
    backup_id = new_id(clock.now())
    with locks.held(settings.lock_dir, f"backup-{name}", backup_id):
        plan = _prepare(settings, name, section, backup, backup_id)
        log.info("backup_started", backupId=plan.id, database=name, store=plan.store.description)
        try:
            manifest, warnings = _write(plan, section, log, progress)
            digest = _publish(plan, manifest, progress)
        except OpsError as error:
            log.error("backup_failed", error, backupId=plan.id, database=name)
            raise
        result = _result(plan, manifest, digest, warnings, time.monotonic() - begun)
        log.info("backup_finished", **result.as_dict())
        return result


def preflight(settings: config.Config, database: str | None = None) -> None:
    """Check all that a backup checks before it writes: configuration, keys, store, database, programs.

    :raises OpsError: see :func:`create_backup`.
    """
    _deps.require("psycopg", "cryptography")
    name, section, backup = _sections(settings, database)
    _prepare(settings, name, section, backup, new_id(clock.now()))


def _sections(settings: config.Config, database: str | None) -> tuple[str, config.Database, config.Backup]:
    if not settings.databases or settings.backup is None:
        missing = "[databases.<name>]" if not settings.databases else "[backup]"
        raise OpsError(
            "CONFIG_INVALID",
            f"The configuration has no section {missing}, so this host makes no backups.",
            "Run the role pharma.hardening.backup on the host that should make them.",
        )
    return *settings.database(database), settings.backup


def _prepare(
    settings: config.Config, name: str, database: config.Database, backup: config.Backup, backup_id: str
) -> _Plan:
    checked_database(name)
    recipients = tuple(load_recipients(backup.recipients_file))
    key = _signing_key(backup.signing_key_file)
    store = open_store(settings.store(backup.stores[0]))
    store.check()
    target = Target.from_config(name, database)
    with connect(target, autocommit=True) as connection:
        version = catalog.server(connection).version
        pg_dump = programs.find("pg_dump", version)
        with translated(target, "listing the tables"):
            catalog.check_readable(target, catalog.relations(connection))
    major = programs.major_of_program(pg_dump)
    return _Plan(
        id=backup_id,
        started_at=clock.now(),
        database=name,
        target=target,
        store=store,
        recipients=recipients,
        signing_key=key,
        pg_dump=pg_dump,
        pg_dumpall=programs.find("pg_dumpall", version),
        dump_major=major,
        compression=stream.compression(backup.compression, major),
        sessions=backup.fingerprint_sessions,
    )


def _signing_key(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except OSError as error:
        raise OpsError(
            "SIGNING_KEY_MISSING",
            f"The signing key {path} cannot be read: {error.strerror}.",
            "Deploy it (the role pharma.hardening.backup does) or correct backup.signing_key_file.",
        ) from error
    signing.public_of(key)
    return key


def _write(
    plan: _Plan, application: config.Database, log: Log, progress: Progress
) -> tuple[Manifest, list[str]]:
    """Store the globals and the dump, read the content in the same snapshot meanwhile."""
    with exported(plan.target) as (connection, snapshot):
        server = catalog.server(connection)
        before = sequences.read(connection)
        release, head, warnings = _application(connection, application)
        for warning in warnings:
            log.warn("application_unknown", reason=warning)
        with _beside_the_dump(plan, snapshot, progress) as (globals_later, content_later):
            dump, after = _put_dump(plan, connection, snapshot, progress, content_later)
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
    plan: _Plan, snapshot: Snapshot, progress: Progress
) -> Iterator[tuple[Future[ObjectEntry], Future[Content]]]:
    """Store the globals and read the content while the block runs; when it fails, cancel the reading.

    The globals are small and so in the store long before the dump: a backup that is killed is then
    listed as unfinished.
    """
    abandoned = threading.Event()
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="beside-dump") as pool:
        try:
            globals_later = pool.submit(_put_globals, plan)
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
    plan: _Plan,
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
    entry = stream.put_sealed(plan.store, f"{plan.prefix}/{DUMP_NAME}", plan.recipients, chunks, tally)
    with translated(plan.target, "reading the sequences"):
        after = sequences.read(connection)
    progress.finished(
        STEP_DUMP, "passed", time.monotonic() - begun, f"{entry.bytes} bytes encrypted and stored"
    )
    return entry, after


def _put_globals(plan: _Plan) -> ObjectEntry:
    tally = Tally()
    command = stream.globals_command(plan.pg_dumpall, plan.target)
    chunks = stream.output_of(command, plan.target, tally, lambda _: None)
    return stream.put_sealed(plan.store, f"{plan.prefix}/{GLOBALS_NAME}", plan.recipients, chunks, tally)


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


def _publish(plan: _Plan, manifest: Manifest, progress: Progress) -> str:
    """Store the signature, then the manifest that makes the set exist; returns its sha256."""
    progress.started(STEP_PUBLISH)
    begun = time.monotonic()
    data = manifest.to_json()
    plan.store.put_bytes(f"{plan.prefix}/{SIGNATURE_NAME}", signing.sign(plan.signing_key, data))
    plan.store.put_bytes(f"{plan.prefix}/{MANIFEST_NAME}", data)
    progress.finished(STEP_PUBLISH, "passed", time.monotonic() - begun, f"{plan.prefix} exists")
    return hashlib.sha256(data).hexdigest()


def _result(
    plan: _Plan, manifest: Manifest, digest: str, warnings: list[str], seconds: float
) -> BackupResult:
    tables = manifest.content.tables
    return BackupResult(
        backup_id=plan.id,
        database=manifest.database,
        store=plan.store.description,
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
