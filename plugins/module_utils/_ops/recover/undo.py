# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the data directory back that a recovery has set aside; what it replaces is kept as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import locks
from ..config import Config
from ..errors import OpsError
from ..postgres import programs
from . import debian, record
from .context import UNDONE
from .deciding import refuse_sessions
from .record import Record
from .stages import move, sweep

LOCK = "recover"


@dataclass(frozen=True, kw_only=True)
class Undone:
    """What an undo did.

    :ivar kept: where the data directory lies that was in the place; None: there was none.
    :ivar started: whether the cluster runs again, as it did before the recovery.
    """

    recovery_id: str
    database: str
    data: Path
    kept: Path | None
    started: bool

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the command and the module."""
        return {
            "recovery_id": self.recovery_id,
            "database": self.database,
            "data_directory": str(self.data),
            "kept": str(self.kept) if self.kept else None,
            "started": self.started,
        }


def undo(config: Config, recovery_id: str | None, confirm: Callable[[Record], str]) -> Undone:
    """Put the old data directory back into its place.

    :param recovery_id: which recovery; None: the newest that has an old directory set aside.
    :param confirm: asked for the database's name.
    :raises OpsError: ``NOTHING_TO_UNDO``, ``RECOVERY_NOT_CONFIRMED``, ``SESSIONS_EXIST``, ``LOCK_HELD``,
        ``DATA_NOT_MOVED``, ``CLUSTER_NOT_STOPPED``, ``CLUSTER_NOT_STARTED``.
    """
    with locks.held(config.lock_dir, LOCK, f"undo-{recovery_id or 'newest'}"):
        chosen = _chosen(record.read_all(config.state_dir), recovery_id)
        aside = chosen.aside
        if aside is None:
            raise _nothing(f"{chosen.recovery_id} found no data directory that it could set aside")
        typed = confirm(chosen)
        if typed != chosen.database:
            raise OpsError(
                "RECOVERY_NOT_CONFIRMED",
                f"The undo of {chosen.recovery_id} was not confirmed: {typed!r} is not the name of its "
                "database. Nothing was touched.",
                f"Give --confirm {chosen.database}.",
            )
        bin_dir = programs.find("postgres", chosen.major * 10000).parent
        cluster = debian.find(chosen.major, chosen.cluster, bin_dir)
        refuse_sessions(cluster)
        cluster.stop()
        sweep(chosen.data, keep="")
        record.write(config.state_dir, chosen.at("undoing"))
        kept = None
        if chosen.data.exists():
            kept = _free(chosen.data.with_name(f"{chosen.data.name}{UNDONE}{chosen.recovery_id}"))
            move(chosen.data, kept)
        move(aside, chosen.data)
        record.write(config.state_dir, chosen.at("undone"))
        if chosen.was_running:
            cluster.start()
    return Undone(
        recovery_id=chosen.recovery_id,
        database=chosen.database,
        data=chosen.data,
        kept=kept,
        started=chosen.was_running,
    )


def _chosen(records: list[Record], recovery_id: str | None) -> Record:
    if recovery_id is None:
        found = record.reversible(records)
        if found is None:
            raise _nothing("no recovery of this host has a data directory set aside")
        return found
    named = next((item for item in records if item.recovery_id == recovery_id), None)
    if named is None:
        raise _nothing(f"this host knows no recovery {recovery_id} that touched a data directory")
    if named.aside is None or not named.aside.is_dir():
        raise _nothing(f"the data directory that {recovery_id} set aside is not at {named.aside}")
    return named


def _free(path: Path) -> Path:
    """The path, or with a number when the name is taken."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def _nothing(why: str) -> OpsError:
    return OpsError("NOTHING_TO_UNDO", f"There is nothing to undo: {why}.", "Look for names with .before-.")
