# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that is found out before a backup writes anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from .. import clock, config
from ..errors import OpsError
from ..postgres import catalog, programs
from ..postgres.connection import Target, connect, translated
from ..sealing import signing
from ..sealing.recipients import Recipient, backup_recipients
from ..store.base import UPLOAD_BUDGET_BYTES
from ..store.open import open_store
from ..store.s3_upload import MIN_BUDGET_BYTES
from . import stream
from .catalogue import checked_database, new_id, started_at
from .fanout import Destination

MAX_UPLOADS = 4
"""So many uploads share :data:`..store.base.UPLOAD_BUDGET_BYTES` out, none below what one needs."""
CLOCK_TOLERANCE = timedelta(minutes=1)
# Errors of opening a store that are the configuration's, not the store's.
_WRONG_SETTINGS = frozenset({"CONFIG_INVALID", "LIBRARY_MISSING"})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a backup is made of; ``database`` names the set, ``target`` says where the rows come from."""

    id: str
    started_at: datetime
    database: str
    section: config.Database
    target: Target
    recipients: tuple[Recipient, ...]
    signing_key: bytes
    pg_dump: Path
    pg_dumpall: Path
    dump_major: int
    compression: str
    sessions: int

    @property
    def prefix(self) -> str:
        """What the keys of the set's objects begin with, without a slash at the end."""
        return f"{self.database}/{self.id}"


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the configuration says of one database's backups."""

    database: str
    section: config.Database
    backup: config.Backup


def place_of(settings: config.Config, database: str | None) -> Place:
    """The sections for a database; None: the only one.

    :raises OpsError: ``CONFIG_INVALID``.
    """
    if not settings.databases or settings.backup is None:
        missing = "[databases.<name>]" if not settings.databases else "[backup]"
        raise OpsError(
            "CONFIG_INVALID",
            f"The configuration has no section {missing}, so this host makes no backups.",
            "Run the role pharma.hardening.backup on the host that should make them.",
        )
    name, section = settings.database(database)
    return Place(database=checked_database(name), section=section, backup=settings.backup)


def destinations(settings: config.Config, backup: config.Backup) -> tuple[Destination, ...]:
    """The stores of a backup; one that cannot be opened has its error and does not stop the others.

    :raises OpsError: ``CONFIG_INVALID``, ``LIBRARY_MISSING``.
    """
    if not backup.stores or len(set(backup.stores)) != len(backup.stores):
        raise OpsError(
            "CONFIG_INVALID",
            f"backup.stores must name one store at least and none twice, not {list(backup.stores)!r}.",
            "Correct the configuration and run again.",
        )
    specs = {name: settings.store(name) for name in backup.stores}
    # Directories keep no parts in memory.
    uploads = sum(spec.type != "local" for spec in specs.values())
    if uploads > MAX_UPLOADS:
        raise OpsError(
            "CONFIG_INVALID",
            f"backup.stores names {uploads} stores that take uploads; more than {MAX_UPLOADS} do not fit into memory.",
            "Let one of them be copied to the others by the stores themselves (replication).",
        )
    budget = max(UPLOAD_BUDGET_BYTES // max(1, uploads), MIN_BUDGET_BYTES)
    return tuple(_destination(name, spec, budget) for name, spec in specs.items())


def _destination(name: str, spec: config.Store, budget_bytes: int) -> Destination:
    try:
        store = open_store(spec, upload_budget_bytes=budget_bytes)
    except OpsError as error:
        if error.code in _WRONG_SETTINGS:
            raise
        return Destination(name=name, description=f"the store {name}", store=None, error=error)
    return Destination(name=name, description=store.description, store=store)


def next_id(now: datetime, last: str | None) -> tuple[str, str | None]:
    """An id that sorts after the last one, and a warning when the clock went back.

    The newest backup must be the one with the greatest id, whatever the clock does: a recovery goes by it.

    :param last: the id of the database's last backup on this host, if one is known.
    """
    if last is None:
        return new_id(now), None
    before = started_at(last)
    if before - now > CLOCK_TOLERANCE:
        warning = (
            f"the clock stands at {clock.to_text(now)}, before the last backup {last}: "
            "the id of this one is the second after it"
        )
        return new_id(before + timedelta(seconds=1)), warning
    return new_id(max(now, before + timedelta(seconds=1))), None


def prepare(place: Place, backup_id: str) -> Plan:
    """Look at recipients, key, database and programs.

    :raises OpsError: the cause, with its object.
    """
    recipients = backup_recipients(place.backup.recipients_file)
    key = _signing_key(place.backup.signing_key_file)
    target = Target.from_config(place.database, place.section)
    with connect(target, autocommit=True) as connection:
        version = catalog.server(connection).version
        pg_dump = programs.find("pg_dump", version)
        with translated(target, "listing the tables"):
            catalog.check_readable(target, catalog.relations(connection))
    major = programs.major_of_program(pg_dump)
    return Plan(
        id=backup_id,
        started_at=clock.now(),
        database=place.database,
        section=place.section,
        target=target,
        recipients=recipients,
        signing_key=key,
        pg_dump=pg_dump,
        pg_dumpall=programs.find("pg_dumpall", version),
        dump_major=major,
        compression=stream.compression(place.backup.compression, major),
        sessions=place.backup.fingerprint_sessions,
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
