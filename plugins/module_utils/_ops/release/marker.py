# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The note of a deployment that is under way: a killed engine leaves it, and the next one reads it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import clock
from ..files import sync_directory, write_atomic
from .journal import Action, directory


@dataclass(frozen=True, kw_only=True)
class Marker:
    """What a deployment is about to do.

    :ivar colour: where the release is to serve; ``previous_colour`` is what served at the beginning.
    :ivar held_before: version that ``colour`` held at the beginning.
    :ivar owns_colour: the deployment has begun to change ``colour``.
    :ivar stage: the stage that runs.
    """

    id: str
    action: Action
    version: str
    digest: str
    colour: str
    previous_colour: str | None
    previous_version: str | None
    previous_digest: str | None
    held_before: str | None
    who: str
    started_at: datetime
    owns_colour: bool = False
    stage: str = "check"

    def as_dict(self) -> dict[str, Any]:
        """As the file has it, and as ``release status`` shows it."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"action": self.action.value, "started_at": clock.to_text(self.started_at)}

    def at(self, stage: str, *, owns_colour: bool | None = None) -> Marker:
        """The marker one step further."""
        owns = self.owns_colour if owns_colour is None else owns_colour
        return replace(self, stage=stage, owns_colour=owns)


def path(state_dir: Path, service: str) -> Path:
    """Where the marker of a service lies."""
    return directory(state_dir) / f"{service}.unfinished.json"


def write(place: Path, marker: Marker) -> None:
    """Write a marker durably.

    :raises OpsError: ``FILE_NOT_WRITTEN``.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(place, json.dumps(marker.as_dict()).encode())


def read(place: Path) -> Marker | None:
    """The marker that is there; None: no deployment is under way, or the note is of no use."""
    try:
        values = json.loads(place.read_text(encoding="utf-8"))
        return Marker(
            **values
            | {
                "action": Action(values["action"]),
                "started_at": clock.from_text(values["started_at"]),
            }
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        # It is written whole or not at all; one of another version of this program says nothing here.
        return None


def remove(place: Path) -> None:
    """Forget the marker; nothing happens when there is none.

    :raises OSError: it cannot be removed.
    """
    if place.exists():
        place.unlink()
        sync_directory(place.parent)
