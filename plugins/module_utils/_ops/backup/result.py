# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of a backup, in all and at each store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from .. import clock
from ..errors import ExitCode, OpsError

Verdict = Literal["complete", "partial", "failed"]


@dataclass(frozen=True, kw_only=True)
class StoreResult:
    """What came of the backup at one store; without an error the set is complete there."""

    name: str
    description: str
    error: OpsError | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the command and the module."""
        return {
            "name": self.name,
            "description": self.description,
            "verdict": "failed" if self.error else "complete",
            "error": self.error.as_dict() if self.error else None,
        }


@dataclass(frozen=True, kw_only=True)
class BackupResult:
    """A set that exists in one store at least; ``bytes`` is what lies in each, ``seconds`` the wall time."""

    backup_id: str
    database: str
    stores: tuple[StoreResult, ...]
    bytes: int
    seconds: float
    tables: int
    rows: int
    manifest_sha256: str
    newest_change_at: datetime
    compression: str
    stale_views: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """``complete`` or ``partial``; a run that ``failed`` everywhere has no result but an error."""
        return "partial" if self.missing else "complete"

    @property
    def missing(self) -> tuple[StoreResult, ...]:
        """The stores that have no set of this backup."""
        return tuple(store for store in self.stores if store.error)

    @property
    def error(self) -> OpsError | None:
        """What is wrong with a partial backup, in one sentence."""
        if not self.missing:
            return None
        told = "; ".join(f"{store.name}: {store.error.message}" for store in self.missing if store.error)
        steps = dict.fromkeys(store.error.action for store in self.missing if store.error)
        return OpsError(
            "BACKUP_PARTIAL",
            f"Backup {self.backup_id} of {self.database} is not in every store. {told}",
            " ".join(steps),
            ExitCode.FAILED,
        )

    @property
    def exit_code(self) -> ExitCode:
        """0 when every store has the set."""
        return ExitCode.FAILED if self.missing else ExitCode.PROVEN

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the command and the module."""
        return vars(self) | {
            "verdict": self.verdict,
            "stores": [store.as_dict() for store in self.stores],
            "seconds": round(self.seconds, 3),
            "newest_change_at": clock.to_text(self.newest_change_at),
            "stale_views": list(self.stale_views),
            "warnings": list(self.warnings),
        }
