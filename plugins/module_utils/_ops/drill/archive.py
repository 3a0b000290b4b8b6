# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a custom-format dump says of itself: its table of contents, as pg_restore reads it."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .. import process
from ..errors import OpsError
from ..postgres import programs

MAGIC = b"PGDMP"
_OLDEST_SERVER = 140000
_HEADER = re.compile(r"^;\s+(?P<key>[^:]+): (?P<value>.*)$", re.MULTILINE)
_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[a-z_\u0080-\uffff][\w$]*)'
_ROLE_PLACES = (
    re.compile(rf"^ALTER .* OWNER TO ({_IDENTIFIER});$", re.MULTILINE),
    re.compile(
        rf"^(?:GRANT|ALTER DEFAULT PRIVILEGES) .* TO ({_IDENTIFIER})(?: WITH GRANT OPTION)?;$", re.MULTILINE
    ),
    re.compile(rf"^(?:REVOKE|ALTER DEFAULT PRIVILEGES) .* FROM ({_IDENTIFIER});$", re.MULTILINE),
    re.compile(rf"^ALTER DEFAULT PRIVILEGES FOR ROLE ({_IDENTIFIER}) ", re.MULTILINE),
    re.compile(rf"^SET SESSION AUTHORIZATION ({_IDENTIFIER});$", re.MULTILINE),
)
_POLICY_ROLES = re.compile(
    rf"^CREATE POLICY .*? TO ((?:{_IDENTIFIER})(?:, (?:{_IDENTIFIER}))*)(?: USING| WITH CHECK|;)",
    re.MULTILINE,
)
_NO_ROLES = frozenset({"public", "current_user", "session_user", "current_role"})
_EXTENSION = re.compile(rf"^CREATE EXTENSION (?:IF NOT EXISTS )?({_IDENTIFIER})", re.MULTILINE)
_COLLATION = re.compile(r"^CREATE DATABASE .* (?:LC_COLLATE|LOCALE) = '((?:[^']|'')*)'", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A dump's table of contents.

    :ivar server_version: ``server_version_num`` of the dumped server, the minor version left out.
    :ivar created: when it was made, as pg_dump wrote it (without a time zone).
    :ivar roles: names of roles that own something in it or were granted something.
    :ivar collation: the database's locale; empty when the dump does not say.
    """

    dbname: str
    server_version: int
    created: str
    entries: int
    roles: tuple[str, ...]
    extensions: tuple[str, ...]
    collation: str


def inspect(path: Path) -> Archive:
    """Read a dump's table of contents; nothing of its data is read.

    :raises OpsError: ``DUMP_INVALID``, ``PROGRAM_MISSING``, ``COMMAND_FAILED``.
    """
    path = path.absolute()  # children run in another directory
    _check_magic(path)
    # Any pg_restore reads the archives of older versions, so the newest one reads most.
    reader = _newest_reader()
    listing = _read(reader, path, "--list")
    header = {found["key"].strip(): found["value"].strip() for found in _HEADER.finditer(listing)}
    if header.get("Format") != "CUSTOM":
        raise _invalid(path, f"its format is {header.get('Format', 'unknown')}, not CUSTOM")
    schema = _read(reader, path, "--create", "--schema-only", "--file=-")
    collation = _COLLATION.search(schema)
    return Archive(
        dbname=header.get("dbname", ""),
        server_version=_version_number(header.get("Dumped from database version", "")),
        created=_created(listing),
        entries=int(header.get("TOC Entries", "0")),
        roles=roles_in(schema),
        extensions=tuple(dict.fromkeys(_unquoted(name) for name in _EXTENSION.findall(schema))),
        collation=collation[1].replace("''", "'") if collation else "",
    )


def roles_in(schema: str) -> tuple[str, ...]:
    """The roles that a schema, as pg_restore writes it, needs to exist, unquoted and sorted."""
    names = {name for place in _ROLE_PLACES for name in place.findall(schema)}
    for listed in _POLICY_ROLES.findall(schema):
        names.update(re.findall(_IDENTIFIER, listed))
    return tuple(sorted({_unquoted(name) for name in names if name.lower() not in _NO_ROLES}))


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            start = stream.read(len(MAGIC))
    except OSError as error:
        raise OpsError(
            "DUMP_UNREADABLE", f"{path} cannot be read: {error.strerror}.", "Name a pg_dump file."
        ) from error
    if start != MAGIC:
        kind = "a plain SQL dump" if start[:2] in (b"--", b"\n-", b"SE") else "no pg_dump archive"
        kind = "a gzip file" if start[:2] == b"\x1f\x8b" else "empty" if not start else kind
        raise _invalid(path, f"it is {kind}")


def _newest_reader() -> Path:
    return programs.find("pg_restore", max(_installed_majors()) * 10000)


def _installed_majors() -> list[int]:
    looked_for = range(programs.OLDEST_SERVER_MAJOR, programs.NEWEST_MAJOR_LOOKED_FOR)
    return [_OLDEST_SERVER // 10000] + [
        major
        for major in looked_for
        if any((Path(root.format(major=major)) / "pg_restore").is_file() for root in programs.ROOTS)
    ]


def _read(reader: Path, path: Path, *words: str) -> str:
    # A file and not a pipe: the schema of a big application has some megabytes.
    with tempfile.TemporaryFile() as stream:
        child = process.Child([reader, *words, path], stdout=stream)
        status = child.wait()
        if status != 0:
            raise _invalid(
                path, f"pg_restore cannot read it: {child.stderr_tail.strip() or f'exit {status}'}"
            )
        stream.seek(0)
        return stream.read().decode("utf-8", "replace")


def _version_number(text: str) -> int:
    found = re.match(r"(\d+)", text)
    return int(found[1]) * 10000 if found else _OLDEST_SERVER


def _created(listing: str) -> str:
    found = re.search(r"^; Archive created at (.*)$", listing, re.MULTILINE)
    return found[1].strip() if found else ""


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _invalid(path: Path, why: str) -> OpsError:
    return OpsError(
        "DUMP_INVALID",
        f"{path} is not a custom-format dump: {why}.",
        "Make one with: pg_dump -Fc -f FILE DATABASE.",
    )
