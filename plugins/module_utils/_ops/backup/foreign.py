# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps made by others, catalogued as what they are: objects that look like dumps, without a manifest."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .. import clock
from ..config import Config
from ..config_foreign import Foreign
from ..errors import OpsError
from ..store.base import ObjectInfo, ObjectStore, checked_key

KIND = "foreign"
MISSING_PROOFS = ("source", "author", "newest_change", "roles")
"""What no foreign dump can prove, by name; docs/adopting-dumps.md and the report say it in words."""

TimeBasis = Literal["name", "stored"]

# 20260215, 2026-02-15, and after it 123456, 12:34, 12-34-56 …, Z
_MOMENT = re.compile(
    r"(?<!\d)(?P<year>20\d\d)(?P<dash>[-_.]?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    r"(?:[T_.-]?(?P<hour>\d\d)[:h._-]?(?P<minute>\d\d)(?:[:m._-]?(?P<second>\d\d))?)?(?P<utc>Z)?(?!\d)"
)
_CLOCK_TOLERANCE = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class ForeignDump:
    """An object that somebody else put there.

    :ivar id: its time and 6 hex digits of its key's sha256; the form of a set's id.
    :ivar source: the section ``[foreign.<source>]`` that it belongs to.
    :ivar at: when it was made, as its name says or, when that says nothing, when it was stored.
    :ivar stored_at: when the store got it: it cannot have been made later.
    """

    id: str
    source: str
    key: str
    bytes: int
    at: datetime
    basis: TimeBasis
    stored_at: datetime
    database: str

    @property
    def usable(self) -> bool:
        """Whether its name is one that the stores of this software can ask for."""
        try:
            checked_key(self.key)
        except ValueError:
            return False
        return True

    def as_dict(self) -> dict[str, Any]:
        """JSON values for listings."""
        return {
            "backup_id": self.id,
            "kind": KIND,
            "source": self.source,
            "key": self.key,
            "database": self.database or None,
            "bytes": self.bytes,
            "at": clock.to_text(self.at),
            "at_basis": self.basis,
            "stored_at": clock.to_text(self.stored_at),
            "missing_proofs": list(MISSING_PROOFS),
        }


def source(settings: Config, name: str) -> Foreign:
    """The section ``[foreign.<name>]``.

    :raises OpsError: ``CONFIG_INVALID``; lists the names there are.
    """
    if name not in settings.foreign:
        known = ", ".join(sorted(settings.foreign)) or "none"
        raise OpsError(
            "CONFIG_INVALID",
            f"No section [foreign.{name}] is configured on this host (there are: {known}).",
            "Name one of them, or add it (docs/adopting-dumps.md).",
        )
    return settings.foreign[name]


def list_dumps(store: ObjectStore, name: str, spec: Foreign) -> list[ForeignDump]:
    """The dumps of a source, oldest first.

    :raises OpsError: codes that begin with ``STORE_``; ``CONFIG_INVALID`` for an unknown time zone.
    """
    return dumps_of(store.list(spec.prefix), name, spec)


def dumps_of(listing: Iterable[ObjectInfo], name: str, spec: Foreign) -> list[ForeignDump]:
    """Those objects of a listing that match the pattern; directory markers are none."""
    zone = zone_of(name, spec)
    found = [
        _dump(item, name, spec, zone)
        for item in listing
        if not item.key.endswith("/")
        and fnmatch.fnmatchcase(item.key.removeprefix(spec.prefix), spec.pattern)
    ]
    return sorted(found, key=lambda item: (item.at, item.key))


def choose(dumps: Iterable[ForeignDump], wanted: str | None, name: str, where: str) -> ForeignDump:
    """The newest dump, or the one of a key or an id.

    :raises OpsError: ``NO_BACKUP`` when there is none, ``BACKUP_MISSING`` when the wanted one is not there,
        ``FOREIGN_NAME_UNUSABLE``.
    """
    known = list(dumps)
    if not known:
        raise OpsError(
            "NO_BACKUP",
            f"{where} has no object that matches [foreign.{name}].",
            "Look whether the job of the others still runs, and compare prefix and pattern with its names.",
        )
    fitting = [item for item in known if wanted in (None, item.key, item.id)]
    if not fitting:
        raise OpsError(
            "BACKUP_MISSING",
            f"{where} has no object {wanted} that matches [foreign.{name}]; the newest is {known[-1].key}.",
            "List them with pharma-ops backup list --foreign.",
        )
    chosen = fitting[-1]
    if not chosen.usable:
        raise OpsError(
            "FOREIGN_NAME_UNUSABLE",
            f"{chosen.key!r} in {where} has a name with other characters than letters, digits, '.', '_', '-' and '/'.",
            "Have it stored under a plain name; an older one can be drilled with --object.",
        )
    return chosen


def moment_in(name: str, zone: ZoneInfo) -> datetime | None:
    """The time in an object's name, which is local unless it ends in Z; None: there is none.

    A date alone is the beginning of its day.
    """
    for found in _MOMENT.finditer(name):
        numbers = [int(found[part] or 0) for part in ("year", "month", "day", "hour", "minute", "second")]
        try:
            return datetime(*numbers, tzinfo=UTC if found["utc"] else zone).astimezone(UTC)  # type: ignore[arg-type,misc]
        except ValueError:
            continue
    return None


def zone_of(name: str, spec: Foreign) -> ZoneInfo:
    """The time zone of the host that makes the dumps.

    :raises OpsError: ``CONFIG_INVALID``.
    """
    try:
        return ZoneInfo(spec.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise OpsError(
            "CONFIG_INVALID",
            f"foreign.{name}.timezone: {spec.timezone!r} is no time zone that this host knows.",
            "Write it as Area/City or UTC; the Debian package tzdata knows them.",
        ) from error


def _dump(item: ObjectInfo, name: str, spec: Foreign, zone: ZoneInfo) -> ForeignDump:
    named = moment_in(item.key.removeprefix(spec.prefix), zone)
    # A name from the future would hide every honest one that follows.
    believed = named is not None and named <= item.modified + _CLOCK_TOLERANCE
    at = named if named is not None and believed else item.modified
    digest = hashlib.sha256(item.key.encode()).hexdigest()[:6]
    return ForeignDump(
        id=f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{digest}",
        source=name,
        key=item.key,
        bytes=item.bytes,
        at=at,
        basis="name" if believed else "stored",
        stored_at=item.modified,
        database=spec.database,
    )
