# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup sets a store holds."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from .. import clock
from ..errors import OpsError
from ..store.base import ObjectInfo, ObjectStore
from .manifest import MANIFEST_NAME

_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
_DATABASE = re.compile(r"[A-Za-z0-9._-]+")

State = Literal["complete", "unfinished"]


@dataclass(frozen=True, kw_only=True)
class SetInfo:
    """One backup set as the store lists it.

    :ivar state: ``complete`` when it has a manifest; an ``unfinished`` one is never restored.
    :ivar started_at: the moment in its id.
    :ivar bytes: of all its objects together.
    :ivar objects: names below the set's prefix.
    """

    id: str
    database: str
    state: State
    started_at: datetime
    bytes: int
    objects: tuple[str, ...]

    @property
    def prefix(self) -> str:
        """Key prefix of the set's objects, without a slash at the end."""
        return f"{self.database}/{self.id}"

    def as_dict(self) -> dict[str, object]:
        """JSON values for listings and module results."""
        return {
            "backup_id": self.id,
            "database": self.database,
            "state": self.state,
            "started_at": clock.to_text(self.started_at),
            "bytes": self.bytes,
            "objects": list(self.objects),
        }


def new_id(moment: datetime) -> str:
    """An id for a backup that starts now: its time and six random hex digits."""
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def is_set_id(name: str) -> bool:
    """Whether a name has the form of a set's id."""
    return _ID.fullmatch(name) is not None


def started_at(backup_id: str) -> datetime:
    """The time in an id.

    :raises OpsError: ``BACKUP_ID_INVALID``.
    """
    try:
        if _ID.fullmatch(backup_id):
            return datetime.strptime(backup_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        pass
    raise OpsError(
        "BACKUP_ID_INVALID",
        f"{backup_id!r} is not the id of a backup.",
        "An id looks like 20260215T123456Z-0a1b2c; pharma-ops backup list shows them.",
    )


def checked_database(name: str) -> str:
    """Return a database's name when it can stand in the keys of a store.

    :raises OpsError: ``CONFIG_INVALID``.
    """
    if not _DATABASE.fullmatch(name) or name in {".", ".."}:
        raise OpsError(
            "CONFIG_INVALID",
            f"The database name {name!r} cannot be part of an object's name.",
            "Only databases named with letters, digits, '.', '_' and '-' can be backed up.",
        )
    return name


def list_sets(store: ObjectStore, database: str) -> list[SetInfo]:
    """Every set of a database, finished or not, oldest first.

    :raises OpsError: codes that begin with ``STORE_``.
    """
    return sets_of(store.list(f"{checked_database(database)}/"), database)


def sets_of(listing: Iterable[ObjectInfo], database: str) -> list[SetInfo]:
    """Group a listing into sets; keys that belong to no set are left alone."""
    found: dict[str, list[ObjectInfo]] = {}
    for item in listing:
        parts = item.key.split("/")
        if len(parts) >= 3 and parts[0] == database and _ID.fullmatch(parts[1]):
            found.setdefault(parts[1], []).append(item)
    return [_set(database, backup_id, items) for backup_id, items in sorted(found.items())]


def _set(database: str, backup_id: str, items: list[ObjectInfo]) -> SetInfo:
    names = tuple(sorted(item.key.removeprefix(f"{database}/{backup_id}/") for item in items))
    return SetInfo(
        id=backup_id,
        database=database,
        state="complete" if MANIFEST_NAME in names else "unfinished",
        started_at=started_at(backup_id),
        bytes=sum(item.bytes for item in items),
        objects=names,
    )


def newest_complete(sets: Iterable[SetInfo]) -> SetInfo | None:
    """The newest set that can be restored."""
    return max((item for item in sets if item.state == "complete"), key=lambda item: item.id, default=None)
