# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a service's releases, colours and links lie (docs/releases.md), and the one switch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import files
from ..config import Release as Settings
from ..errors import OpsError

COLOURS = ("blue", "green")
IDENTITY = "release.json"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Release:
    """An installed release; ``digest`` as its release.json has it, ``installed_at`` when that was written."""

    version: str
    digest: str
    directory: Path
    installed_at: datetime


@dataclass(frozen=True)
class Layout:
    """The paths and units of one service."""

    service: str
    settings: Settings

    @property
    def releases(self) -> Path:
        """Directory of the installed releases."""
        return self.settings.root / "releases"

    @property
    def slots(self) -> Path:
        """Directory of the links that say what each colour runs."""
        return self.settings.root / "slots"

    @property
    def active_link(self) -> Path:
        """The link that the proxy connects to: the only truth of what serves."""
        return self.slots / "active.sock"

    @property
    def current(self) -> Path:
        """Link to the release in service, for people and tools."""
        return self.settings.root / "current"

    def socket(self, colour: str) -> Path:
        """The socket of a colour."""
        return self.settings.socket_dir / f"{colour}.sock"

    def unit(self, colour: str) -> str:
        """The service of a colour."""
        return self.settings.unit.replace("{colour}", colour)

    def socket_unit(self, colour: str) -> str:
        """The unit that makes a colour's socket."""
        return self.settings.socket_unit.replace("{colour}", colour)

    def migrate_unit(self, version: str) -> str:
        """The unit that migrates for a version; empty when the service has no migrations."""
        return self.settings.migrate_unit.replace("{version}", version)

    def record_unit(self, version: str) -> str:
        """The unit that records where it belongs that a version serves; empty when there is none."""
        return self.settings.record_unit.replace("{version}", version)

    def active(self) -> str | None:
        """The colour in service; None before the first deployment.

        :raises OpsError: ``RELEASE_LINK_INVALID``.
        """
        target = _link(self.active_link)
        if target is None:
            return None
        for colour in COLOURS:
            if target == self.socket(colour):
                return colour
        raise OpsError(
            "RELEASE_LINK_INVALID",
            f"{self.active_link} leads to {target}, which is no colour's socket.",
            f"Point it to {self.socket(COLOURS[0])} or {self.socket(COLOURS[1])}, whichever serves well.",
        )

    def held(self, colour: str) -> Release | None:
        """The release that a colour runs or would run; None when it holds none."""
        directory = _link(self.slots / colour)
        if directory is None:
            return None
        try:
            return self.release(directory.name)
        except OpsError:
            return None

    def release(self, version: str) -> Release:
        """An installed release.

        :raises OpsError: ``ARGUMENT_INVALID``, ``RELEASE_NOT_INSTALLED``.
        """
        if not _VERSION.fullmatch(version):
            raise OpsError("ARGUMENT_INVALID", f"{version!r} is no version of a release.", "Correct it.")
        directory = self.releases / version
        path = directory / IDENTITY
        try:
            identity = json.loads(path.read_text(encoding="utf-8"))
            modified = path.stat().st_mtime
        except (OSError, ValueError):
            identity, modified = None, 0.0
        if not _names(identity, version):
            raise OpsError(
                "RELEASE_NOT_INSTALLED",
                f"{self.service} {version} is not installed whole: {path} does not name it.",
                "Install it with the role backend; pharma-ops release list shows what is there.",
            )
        return Release(
            version=version,
            digest=str(identity["digest"]),
            directory=directory,
            installed_at=datetime.fromtimestamp(modified, tz=UTC),
        )

    def installed(self) -> list[Release]:
        """The releases that are installed whole, the newest first."""
        found = []
        for path in self.releases.glob(f"*/{IDENTITY}"):
            try:
                found.append(self.release(path.parent.name))
            except OpsError:
                continue
        return sorted(found, key=lambda release: (release.installed_at, release.version), reverse=True)

    def assign(self, colour: str, release: Release) -> None:
        """Say what a colour runs from its next start on."""
        files.link_atomic(self.slots / colour, release.directory)

    def flip(self, colour: str) -> None:
        """Put a colour into service: from here on every new connection meets it."""
        files.link_atomic(self.active_link, self.socket(colour))

    def point_current(self, release: Release) -> bool:
        """Name the release in service for people and tools; whether it was another one."""
        if _link(self.current) == release.directory:
            return False
        files.link_atomic(self.current, release.directory)
        return True


def idle(active: str | None) -> str:
    """The colour that is not in service; the first one when none is."""
    return COLOURS[1] if active == COLOURS[0] else COLOURS[0]


def _names(identity: Any, version: str) -> bool:
    return (
        isinstance(identity, dict)
        and identity.get("version") == version
        and isinstance(identity.get("digest"), str)
    )


def _link(path: Path) -> Path | None:
    try:
        return path.readlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OpsError(
            "RELEASE_LINK_INVALID",
            f"{path} is no link: {error.strerror}.",
            "Move away what stands there and run the role backend again.",
        ) from error
