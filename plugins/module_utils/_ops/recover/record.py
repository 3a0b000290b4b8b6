# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recovery has done to the data directory, on disk before and after each step of it.

The record is what the next run, ``undo`` and a person at three in the morning go by: which directory is
the old one, and under which name it lies.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import OpsError
from ..files import write_atomic

SCHEMA_VERSION = 1
Step = Literal["setting_aside", "placing", "placed", "finished", "undoing", "undone"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One recovery that touched a data directory.

    :ivar data: where the cluster's data directory belongs.
    :ivar aside: where the old one lies, or is to lie; None: there was none.
    :ivar was_running: whether the old cluster ran before.
    """

    recovery_id: str
    database: str
    backup_id: str
    major: int
    cluster: str
    data: Path
    aside: Path | None
    was_running: bool
    started_at: str
    step: Step

    def at(self, step: Step) -> Record:
        """The record with another step."""
        return dataclasses.replace(self, step=step)


def directory(state_dir: Path) -> Path:
    """Where the records are."""
    return state_dir / "recover"


def write(state_dir: Path, record: Record) -> None:
    """Put a record on disk, durably.

    :raises OpsError: ``FILE_NOT_WRITTEN``.
    """
    place = directory(state_dir)
    place.mkdir(mode=0o750, parents=True, exist_ok=True)
    data = {"schemaVersion": SCHEMA_VERSION} | dataclasses.asdict(record)
    data |= {"data": str(record.data), "aside": str(record.aside) if record.aside else None}
    write_atomic(place / f"{record.recovery_id}.json", json.dumps(data, indent=1).encode() + b"\n", 0o640)


def read_all(state_dir: Path) -> list[Record]:
    """All records, oldest first.

    :raises OpsError: ``RECOVERY_RECORD_INVALID``.
    """
    return [_read(path) for path in sorted(directory(state_dir).glob("recovery-*.json"))]


def _read(path: Path) -> Record:
    try:
        data = json.loads(path.read_bytes())
        if data.pop("schemaVersion") != SCHEMA_VERSION:
            raise ValueError("of an unknown version")
        aside = data.pop("aside")
        return Record(**data | {"data": Path(data["data"]), "aside": Path(aside) if aside else None})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OpsError(
            "RECOVERY_RECORD_INVALID",
            f"The record {path} of an earlier recovery cannot be read: {error}.",
            "Look beside the data directory for names with .before-, then move the record away.",
        ) from error


def unfinished(records: list[Record], data: Path) -> Record | None:
    """The newest recovery of a data directory, when it did not come to its end."""
    last = next((record for record in reversed(records) if record.data == data), None)
    return last if last is not None and last.step not in ("finished", "undone") else None


def reversible(records: list[Record], data: Path | None = None) -> Record | None:
    """The newest recovery whose old data directory still lies aside."""
    for record in reversed(records):
        if record.aside is None or record.step == "undone" or data not in (None, record.data):
            continue
        if record.aside.is_dir():
            return record
    return None
