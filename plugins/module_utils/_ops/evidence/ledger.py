# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: one line per drill, each bound to the line before it and signed.

A line is the canonical JSON (sorted keys, no spaces, UTF-8) of an :class:`Entry`; ``prev`` is the
sha256 of the line before, without its line feed, and the drill's signed evidence repeats it. So a line
that is removed, altered or moved breaks the chain, even for someone who can write the file. Only
lines missing at the very end need a witness elsewhere: the digest of the last line (the head).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import clock
from ..errors import OpsError
from ..files import write_atomic
from ..sealing import signing
from .envelope import pae
from .record import DrillRecord, Verdict

NAME = "ledger.jsonl"
SCHEMA_VERSION = 1
LINE_TYPE = "application/vnd.pharma.hardening.ledger+json"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One drill.

    :ivar files: sha256 of each file in the drill's directory.
    :ivar prev: sha256 of the line before; None in the first line.
    :ivar key_id: the key that signed the line, and ``signature``, base64; None: not signed.
    """

    drill_id: str
    environment: str
    scope: str
    verdict: Verdict
    finished_at: datetime
    rto_seconds: float | None
    rto_objective_seconds: float
    rpo_seconds: float | None
    rpo_objective_seconds: float
    newest_change_at: datetime | None
    backup_id: str | None
    files: dict[str, str] = field(default_factory=dict)
    prev: str | None = None
    key_id: str | None = None
    signature: str | None = None


@dataclass(frozen=True)
class Line:
    """A line of the file, read: its number from 1, its digest and what it says."""

    number: int
    sha256: str
    entry: Entry


def entry_of(record: DrillRecord, files: dict[str, str]) -> Entry:
    """The entry of a drill, not signed yet."""
    backup_id = record.backup.get("id")
    return Entry(
        drill_id=record.drill_id,
        environment=record.environment,
        scope=record.scope,
        verdict=record.verdict,
        finished_at=clock.from_text(clock.to_text(record.finished_at)),
        rto_seconds=record.rto.seconds,
        rto_objective_seconds=record.rto.objective_seconds,
        rpo_seconds=record.rpo.seconds,
        rpo_objective_seconds=record.rpo.objective_seconds,
        newest_change_at=(
            clock.from_text(clock.to_text(record.newest_change_at)) if record.newest_change_at else None
        ),
        backup_id=str(backup_id) if backup_id else None,
        files=files,
        prev=record.prev,
    )


def signed(entry: Entry, key_pem: bytes) -> Entry:
    """The entry with its signature.

    :raises OpsError: ``SIGNING_KEY_INVALID``.
    """
    named = dataclasses.replace(entry, key_id=signing.key_id(signing.public_of(key_pem)), signature=None)
    signature = signing.sign(key_pem, pae(LINE_TYPE, encode(named)))
    return dataclasses.replace(named, signature=base64.b64encode(signature).decode())


def check_signature(entry: Entry, public_keys_pem: bytes) -> str:
    """Check an entry's signature; returns the key's id.

    :raises OpsError: ``SIGNATURE_INVALID``, also for an entry that has none.
    """
    try:
        signature = base64.b64decode(entry.signature or "", validate=True)
    except binascii.Error:
        signature = b""
    body = encode(dataclasses.replace(entry, signature=None))
    key_id = signing.verify(public_keys_pem, pae(LINE_TYPE, body), signature)
    if key_id != entry.key_id or base64.b64encode(signature).decode() != entry.signature:
        raise OpsError("SIGNATURE_INVALID", "The signature's text was altered.", "Treat the line as forged.")
    return key_id


def encode(entry: Entry) -> bytes:
    """The canonical bytes of a line, without line feed."""
    table: dict[str, Any] = {
        "schemaVersion": SCHEMA_VERSION,
        "drillId": entry.drill_id,
        "environment": entry.environment,
        "scope": entry.scope,
        "verdict": entry.verdict.value,
        "finishedAt": clock.to_text(entry.finished_at),
        "rtoSeconds": entry.rto_seconds,
        "rtoObjectiveSeconds": entry.rto_objective_seconds,
        "rpoSeconds": entry.rpo_seconds,
        "rpoObjectiveSeconds": entry.rpo_objective_seconds,
        "newestChangeAt": clock.to_text(entry.newest_change_at) if entry.newest_change_at else None,
        "backupId": entry.backup_id,
        "files": entry.files,
        "prev": entry.prev,
        "keyId": entry.key_id,
        "signature": entry.signature,
    }
    return json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode(raw: bytes) -> Entry:
    """What a line says.

    :raises ValueError: it is not the canonical form of an entry.
    """
    try:
        table = json.loads(raw)
        newest = table["newestChangeAt"]
        entry = Entry(
            drill_id=table["drillId"],
            environment=table["environment"],
            scope=table["scope"],
            verdict=Verdict(table["verdict"]),
            finished_at=clock.from_text(table["finishedAt"]),
            rto_seconds=table["rtoSeconds"],
            rto_objective_seconds=table["rtoObjectiveSeconds"],
            rpo_seconds=table["rpoSeconds"],
            rpo_objective_seconds=table["rpoObjectiveSeconds"],
            newest_change_at=clock.from_text(newest) if newest is not None else None,
            backup_id=table["backupId"],
            files=table["files"],
            prev=table["prev"],
            key_id=table["keyId"],
            signature=table["signature"],
        )
        _check_types(entry)
        canonical = encode(entry)
    except (KeyError, TypeError, AttributeError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError(f"it is not an entry: {error!r}") from error
    if canonical != raw:
        raise ValueError("it is not written as it was")
    return entry


def read(path: Path) -> tuple[Line, ...]:
    """All lines of a ledger, the chain checked; no file is an empty ledger.

    :raises OpsError: ``LEDGER_BROKEN`` with the number of the line.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _broken(path, 0, f"it cannot be read: {error.strerror}") from error
    if data and not data.endswith(b"\n"):
        raise _broken(path, data.count(b"\n") + 1, "it is cut")
    lines: list[Line] = []
    for number, raw in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            entry = decode(raw)
        except ValueError as error:
            raise _broken(path, number, str(error)) from error
        before = lines[-1].sha256 if lines else None
        if entry.prev != before:
            raise _broken(path, number, "the line before it was altered, moved or removed")
        lines.append(Line(number, hashlib.sha256(raw).hexdigest(), entry))
    return tuple(lines)


def append(path: Path, entry: Entry) -> None:
    """Add a line; the file is replaced as a whole, so it is never cut.

    :raises OpsError: ``LEDGER_BROKEN``, ``FILE_NOT_WRITTEN``.
    """
    lines = read(path)
    if entry.prev != head(lines):
        raise _broken(path, len(lines), "another drill was added meanwhile")
    data = path.read_bytes() if path.exists() else b""
    write_atomic(path, data + encode(entry) + b"\n")


def head(lines: tuple[Line, ...]) -> str | None:
    """The digest of the last line, which stands for the whole ledger."""
    return lines[-1].sha256 if lines else None


def last_proven(lines: tuple[Line, ...]) -> Entry | None:
    """The newest drill that passed."""
    return next((line.entry for line in reversed(lines) if line.entry.verdict is Verdict.PASSED), None)


def _check_types(entry: Entry) -> None:
    numbers = (entry.rto_seconds, entry.rpo_seconds, entry.rto_objective_seconds, entry.rpo_objective_seconds)
    texts = (entry.backup_id, entry.prev, entry.key_id, entry.signature)
    words = (entry.drill_id, entry.environment, entry.scope, *entry.files.keys(), *entry.files.values())
    if not (
        all(isinstance(one, int | float) for one in numbers if one is not None)
        and all(isinstance(one, str) for one in texts if one is not None)
        and all(isinstance(one, str) for one in words)
    ):
        raise TypeError("a value is of another type")


def _broken(path: Path, number: int, reason: str) -> OpsError:
    return OpsError(
        "LEDGER_BROKEN",
        f"{path}, line {number}: {reason}.",
        "Compare it with a copy from another place; nothing is added to a broken ledger.",
    )
