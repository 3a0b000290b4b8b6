# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a backup set: what is in it, and what a restore of it must hold.

docs/schemas/manifest.schema.json describes the JSON. The signature is over its exact bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from .. import clock
from ..errors import ExitCode, OpsError
from ..postgres.content import Content
from ..postgres.snapshot import Basis

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.json.sig"
DUMP_NAME = "dump.age"
GLOBALS_NAME = "globals.sql.age"


@dataclass(frozen=True, kw_only=True)
class ObjectEntry:
    """One encrypted object of a set; sizes in bytes, digests in hex."""

    name: str
    bytes: int
    sha256: str
    plaintext_bytes: int
    plaintext_sha256: str


@dataclass(frozen=True, kw_only=True)
class Release:
    """The release of the application that the database belongs to, as the database itself tells."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup set says of itself.

    :ivar id: ``YYYYMMDDTHHMMSSZ-<6 hex>``.
    :ivar dbname: the database's name on its server and so in the dump; empty: ``database``.
    :ivar newest_change_basis: ``commit_timestamp`` or ``snapshot`` (the server keeps no commit times).
    :ivar dump_program: what ``pg_dump --version`` printed; ``pg_restore`` must not be older.
    :ivar dump_program_major: its major version.
    :ivar recipients: fingerprints of the age recipients.
    :ivar content: tables, sequences, structure… as read in the snapshot of the dump.
    """

    id: str
    database: str
    started_at: datetime
    finished_at: datetime
    snapshot_at: datetime
    snapshot_lsn: str
    newest_change_at: datetime
    newest_change_basis: Basis
    tool_version: str
    source_host: str
    server_version: int
    server_version_text: str
    dump_format: str
    dump_compression: str
    dump_program: str
    dump_program_major: int
    recipients: tuple[str, ...]
    objects: tuple[ObjectEntry, ...]
    content: Content
    release: Release | None = None
    migration_head: str | None = None
    dbname: str = ""

    @property
    def restored_name(self) -> str:
        """The name of the database that a restore makes."""
        return self.dbname or self.database

    def object(self, name: str) -> ObjectEntry:
        """The entry of an object.

        :raises OpsError: ``MANIFEST_INVALID``.
        """
        for entry in self.objects:
            if entry.name == name:
                return entry
        raise _invalid(f"the manifest of {self.id} names no object {name}")

    def to_json(self) -> bytes:
        """The bytes that are signed and stored."""
        data = {
            "schemaVersion": SCHEMA_VERSION,
            "id": self.id,
            "database": self.database,
            "startedAt": clock.to_text(self.started_at),
            "finishedAt": clock.to_text(self.finished_at),
            "snapshotAt": clock.to_text(self.snapshot_at),
            "snapshotLsn": self.snapshot_lsn,
            "newestChangeAt": clock.to_text(self.newest_change_at),
            "newestChangeBasis": self.newest_change_basis,
            "tool": {"name": "pharma-ops", "version": self.tool_version},
            "sourceHost": self.source_host,
            "server": {"versionNumber": self.server_version, "version": self.server_version_text},
            "application": {
                "release": vars(self.release) if self.release else None,
                "migrationHead": self.migration_head,
            },
            "dump": {
                "format": self.dump_format,
                "compression": self.dump_compression,
                "program": self.dump_program,
                "programMajor": self.dump_program_major,
            },
            "encryption": {"tool": "age", "recipients": list(self.recipients)},
            "objects": [
                {
                    "name": entry.name,
                    "bytes": entry.bytes,
                    "sha256": entry.sha256,
                    "plaintextBytes": entry.plaintext_bytes,
                    "plaintextSha256": entry.plaintext_sha256,
                }
                for entry in self.objects
            ],
            "content": self.content.to_dict(),
        }
        if self.restored_name != self.database:
            data["dbname"] = self.dbname
        return (json.dumps(data, ensure_ascii=False, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read a manifest; every key must be there, of its type, and known.

        :raises OpsError: ``MANIFEST_INVALID`` (cut, altered, not a manifest) or
            ``MANIFEST_VERSION_UNKNOWN``; names the key.
        """
        document = _parse(data)
        version = document.get("schemaVersion")
        if version != SCHEMA_VERSION:
            raise OpsError(
                "MANIFEST_VERSION_UNKNOWN",
                f"The manifest has schema version {version!r}; this tool reads version {SCHEMA_VERSION}.",
                "Use the version of pharma-ops that made this backup, or a newer one.",
            )
        try:
            return _manifest(_Reader(document))
        except ValueError as error:
            raise _invalid(str(error)) from error


def _parse(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, UnicodeDecodeError) as error:
        raise _invalid(f"it is cut or not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _invalid("it is not a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _invalid(reason: str) -> OpsError:
    return OpsError(
        "MANIFEST_INVALID",
        f"The manifest cannot be used: {reason}.",
        "Take another backup for the restore, and find out who altered this one.",
        ExitCode.FAILED,
    )


class _Reader:
    """Takes keys out of a JSON object, each once; what is left over is unknown."""

    def __init__(self, data: Any, where: str = "") -> None:
        if not isinstance(data, dict):
            raise ValueError(f"{where or 'the manifest'} is not an object")
        self._data = dict(data)
        self._where = where

    def take(self, key: str, kind: type | tuple[type, ...]) -> Any:
        name = f"{self._where}.{key}" if self._where else key
        if key not in self._data:
            raise ValueError(f"{name} is missing")
        value = self._data.pop(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{name} has a value of the wrong type")
        return value

    def has(self, key: str) -> bool:
        return key in self._data

    def text(self, key: str) -> str:
        return str(self.take(key, str))

    def number(self, key: str) -> int:
        value = int(self.take(key, int))
        if value < 0:
            raise ValueError(f"{key} is negative")
        return value

    def moment(self, key: str) -> datetime:
        try:
            return clock.from_text(self.text(key))
        except ValueError as error:
            raise ValueError(f"{key} is not a time: {error}") from error

    def inside(self, key: str) -> _Reader:
        return _Reader(self.take(key, dict), key)

    def end(self) -> None:
        if self._data:
            where = f" in {self._where}" if self._where else ""
            raise ValueError(f"the key {min(self._data)!r}{where} is unknown")


def _manifest(reader: _Reader) -> Manifest:
    reader.take("schemaVersion", int)
    tool, server = reader.inside("tool"), reader.inside("server")
    application, dump = reader.inside("application"), reader.inside("dump")
    encryption = reader.inside("encryption")
    tool.text("name")
    encryption.text("tool")
    basis = reader.text("newestChangeBasis")
    if basis not in ("commit_timestamp", "snapshot"):
        raise ValueError(f"newestChangeBasis {basis!r} is unknown")
    manifest = Manifest(
        id=reader.text("id"),
        database=reader.text("database"),
        started_at=reader.moment("startedAt"),
        finished_at=reader.moment("finishedAt"),
        snapshot_at=reader.moment("snapshotAt"),
        snapshot_lsn=reader.text("snapshotLsn"),
        newest_change_at=reader.moment("newestChangeAt"),
        newest_change_basis=cast(Basis, basis),
        tool_version=tool.text("version"),
        source_host=reader.text("sourceHost"),
        server_version=server.number("versionNumber"),
        server_version_text=server.text("version"),
        dump_format=dump.text("format"),
        dump_compression=dump.text("compression"),
        dump_program=dump.text("program"),
        dump_program_major=dump.number("programMajor"),
        recipients=tuple(_strings(encryption.take("recipients", list), "encryption.recipients")),
        objects=tuple(_list(reader.take("objects", list), "objects", _object)),
        content=_content(reader.take("content", dict)),
        release=_release(application.take("release", (dict, type(None)))),
        migration_head=application.take("migrationHead", (str, type(None))),
        dbname=reader.text("dbname") if reader.has("dbname") else "",
    )
    for part in (reader, tool, server, application, dump, encryption):
        part.end()
    return manifest


def _list(values: list[Any], where: str, make: Callable[[_Reader], ObjectEntry]) -> list[ObjectEntry]:
    return [make(_Reader(value, f"{where}[{number}]")) for number, value in enumerate(values)]


def _strings(values: list[Any], where: str) -> list[str]:
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"{where} has a value that is not text")
    return values


def _object(reader: _Reader) -> ObjectEntry:
    entry = ObjectEntry(
        name=reader.text("name"),
        bytes=reader.number("bytes"),
        sha256=reader.text("sha256"),
        plaintext_bytes=reader.number("plaintextBytes"),
        plaintext_sha256=reader.text("plaintextSha256"),
    )
    reader.end()
    return entry


def _release(data: Mapping[str, Any] | None) -> Release | None:
    if data is None:
        return None
    reader = _Reader(data, "application.release")
    release = Release(name=reader.text("name"), version=reader.text("version"), sha256=reader.text("sha256"))
    reader.end()
    return release


def _content(data: Mapping[str, Any]) -> Content:
    try:
        return Content.from_dict(data)
    except ValueError as error:
        raise ValueError(f"in content, {error}") from error
