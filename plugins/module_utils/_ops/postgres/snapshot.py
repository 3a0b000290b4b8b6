# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one snapshot that everything of a backup is read in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, LiteralString

from ..errors import OpsError
from .connection import Target, connect, translated, value

if TYPE_CHECKING:
    from .connection import Connection

Basis = Literal["commit_timestamp", "snapshot"]

_BEGIN: LiteralString = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_LSN: LiteralString = """
    SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                ELSE pg_catalog.pg_current_wal_lsn() END::text
"""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """An exported snapshot; it can be joined while the connection that exported it stays open.

    :ivar id: for ``pg_dump --snapshot`` and :func:`joined`.
    :ivar lsn: position in the WAL; everything committed before it is in the snapshot.
    :ivar newest_change_at: commit time of the last transaction that is surely in the snapshot, or the
        time of the snapshot where the server keeps no commit times (``newest_change_basis``).
    """

    id: str
    lsn: str
    taken_at: datetime
    newest_change_at: datetime
    newest_change_basis: Basis


@contextmanager
def exported(target: Target) -> Iterator[tuple[Connection, Snapshot]]:
    """Export a snapshot and hold it for the length of the block.

    The newest commit is read *before* the snapshot is taken, so the snapshot contains it.
    """
    with connect(target, autocommit=True) as connection:
        with translated(target, "taking the snapshot"):
            newest = _newest_commit(connection)
            lsn = value(connection, _LSN)
            connection.execute(_BEGIN)
            snapshot_id = value(connection, "SELECT pg_catalog.pg_export_snapshot()")
            taken_at = value(connection, "SELECT pg_catalog.clock_timestamp()")
        snapshot = Snapshot(
            id=snapshot_id,
            lsn=lsn,
            taken_at=taken_at.astimezone(UTC),
            newest_change_at=(newest or taken_at).astimezone(UTC),
            newest_change_basis="commit_timestamp" if newest else "snapshot",
        )
        yield connection, snapshot
        with translated(target, "ending the snapshot"):
            connection.execute("COMMIT")


def _newest_commit(connection: Connection) -> datetime | None:
    if value(connection, "SELECT pg_catalog.current_setting('track_commit_timestamp')") != "on":
        return None
    moment = value(connection, "SELECT timestamp FROM pg_catalog.pg_last_committed_xact()")
    return moment if isinstance(moment, datetime) else None


@contextmanager
def joined(target: Target, snapshot_id: str) -> Iterator[Connection]:
    """A session of its own that sees exactly the exported snapshot.

    :raises OpsError: ``SNAPSHOT_GONE`` when the exporting session ended.
    """
    if not all(character in "0123456789ABCDEFabcdef-" for character in snapshot_id):
        raise OpsError("SNAPSHOT_GONE", f"{snapshot_id!r} is not the name of a snapshot.", "")
    with connect(target, autocommit=True) as connection:
        with translated(target, f"joining the snapshot {snapshot_id}"):
            connection.execute(_BEGIN)
            connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot_id}'".encode())
        yield connection
