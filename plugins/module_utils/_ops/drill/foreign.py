# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages ``select``, ``fetch`` and ``inspect`` of a dump made by others: from a store to a bare dump."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from .. import clock
from ..backup import foreign
from ..errors import OpsError
from ..evidence.record import Subject
from ..files import sha256_of
from ..restoring.context import needed
from ..restoring.host import SPARE_BYTES
from ..restoring.runner import Report
from ..sealing import age, keys
from ..store.open import open_store
from . import archive
from .context import Drill, ForeignDrill

BASIS = "dump_header"
CLOCK_TOLERANCE_SECONDS = 60.0
_SEALED = (b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE-----")


def select(drill: Drill, report: Report) -> None:
    """Choose the object: the newest one, or the one that was named.

    :raises OpsError: see :func:`..backup.foreign.choose`.
    """
    asked = needed(drill.foreign)
    store = open_store(drill.config.store(asked.spec.store))
    dumps = foreign.list_dumps(store, asked.name, asked.spec)
    report.facts |= {"store": store.description, "source": asked.name, "objects": len(dumps)}
    chosen = foreign.choose(dumps, asked.wanted, asked.name, store.description)
    asked.store, asked.chosen = store, chosen
    report.facts |= {"backupId": chosen.id, "key": chosen.key, "bytes": chosen.bytes}
    report.facts |= {"at": clock.to_text(chosen.at), "atBasis": chosen.basis}
    # Encrypted it lies there twice for a moment.
    wanted = 2 * chosen.bytes + SPARE_BYTES
    free = shutil.disk_usage(drill.workspace.directory).free
    report.check(
        f"free disk for the object in {drill.workspace.base}",
        True if free >= wanted else None,
        f"at least {wanted} bytes",
        f"{free} bytes",
    )
    report.summary = (
        f"{chosen.key} from {store.description}, one of {len(dumps)} dumps of {asked.name}; made by others: "
        "it has no manifest and no signature."
    )


def fetch(drill: Drill, report: Report) -> None:
    """Bring the object into the drill's directory and take its digest."""
    asked = needed(drill.foreign)
    chosen, store = needed(asked.chosen), needed(asked.store)
    path = drill.place("object")

    def advance(done: int, total: int | None) -> None:
        drill.progress.advanced("fetch", done, total, "bytes")

    store.get_file(chosen.key, path, advance)
    size, asked.sha256 = path.stat().st_size, sha256_of(path)
    report.facts |= {"bytes": size, "sha256": asked.sha256}
    report.check("size as the store lists it", size == chosen.bytes, f"{chosen.bytes} bytes", f"{size} bytes")
    if report.verdict == "passed":
        report.summary = f"{size} bytes with sha256 {asked.sha256} from {store.description}."


def inspect(drill: Drill, report: Report) -> None:
    """Open the object if it is encrypted, and read what the dump says of itself.

    :raises OpsError: ``DUMP_INVALID``, ``IDENTITY_WRONG``, ``CIPHERTEXT_DAMAGED``.
    """
    asked = needed(drill.foreign)
    chosen = needed(asked.chosen)
    dump = _opened(drill, report)
    try:
        found = archive.inspect(dump)
    except OpsError as error:
        where = f"{chosen.key} in {needed(asked.store).description}"
        raise OpsError(error.code, error.message.replace(str(dump), where), error.action) from error
    drill.archive, drill.dump = found, dump
    if asked.spec.database:
        report.check(
            "dump of the right database",
            found.dbname == asked.spec.database,
            asked.spec.database,
            found.dbname,
        )
    asked.created_at = created_at(found.created, foreign.zone_of(asked.name, asked.spec))
    _check_time(asked, report, found.created)
    report.facts |= {
        "database": found.dbname,
        "serverVersion": str(found.server_version // 10000),
        "created": found.created,
        "missingProofs": list(foreign.MISSING_PROOFS),
    }
    if report.verdict == "passed":
        sealed = (
            "encrypted" if report.facts["encrypted"] else "NOT encrypted: who can read the store can read it"
        )
        report.summary = (
            f"A custom-format dump of {found.dbname} from PostgreSQL {found.server_version // 10000}, made at "
            f"{clock.to_text(needed(asked.created_at))}; in the store it is {sealed}."
        )


def _opened(drill: Drill, report: Report) -> Path:
    """The plain dump, owned by the drill's account."""
    path, plain = drill.place("object"), drill.place("dump")
    with path.open("rb") as stream:
        sealed = stream.read(64).startswith(_SEALED)
    report.facts["encrypted"] = sealed
    if sealed:
        known = keys.read_identities(drill.key)
        age.decrypt_file("".join(item.text for item in known).encode(), path, plain)
        report.facts["plaintextSha256"] = sha256_of(plain)
        if len(known) == 1:
            report.facts["keyFingerprint"] = known[0].fingerprint
        path.unlink()
    else:
        path.rename(plain)
    if drill.user is not None and os.geteuid() == 0:
        shutil.chown(plain, drill.user)
    return plain


def _check_time(asked: ForeignDrill, report: Report, header: str) -> None:
    chosen = needed(asked.chosen)
    created = asked.created_at
    behind = (chosen.stored_at - created).total_seconds() if created else None
    plausible = behind is not None and behind > -CLOCK_TOLERANCE_SECONDS
    report.check(
        "made before it was stored",
        True if plausible else None,
        f"a time in {asked.spec.timezone} before {clock.to_text(chosen.stored_at)}",
        header or "no time in the header",
        ""
        if plausible
        else f"Set foreign.{asked.name}.timezone to the zone of the host that makes the dumps.",
    )
    if not plausible:
        # A recovery point that cannot be right is not reported.
        asked.created_at = None


def created_at(header: str, zone: ZoneInfo) -> datetime | None:
    """When a dump was begun: its header has the local time of its host, without the zone.

    pg_restore prints ``2026-02-15 12:34:56 UTC``, where the zone is its own and means nothing.
    """
    try:
        return datetime.strptime(header[:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=zone).astimezone(UTC)
    except ValueError:
        return None


def facts(asked: ForeignDrill, found: archive.Archive | None) -> dict[str, object]:
    """What the record says of the dump, as ``backup``."""
    known: dict[str, object] = {
        "kind": foreign.KIND,
        "source": asked.name,
        "missingProofs": list(foreign.MISSING_PROOFS),
    }
    if asked.chosen is not None:
        known |= {"id": asked.chosen.id, "file": asked.chosen.key, "bytes": asked.chosen.bytes}
        known |= {"store": needed(asked.store).description}
    if found is not None:
        known |= {
            "database": found.dbname,
            "serverVersion": str(found.server_version // 10000),
            "created": found.created,
        }
    return known


def subject(asked: ForeignDrill) -> tuple[Subject, ...]:
    """The object as it lies in the store, bound by its digest; empty before it was fetched."""
    if asked.chosen is None or not asked.sha256:
        return ()
    return (Subject(name=asked.chosen.key, sha256=asked.sha256),)
