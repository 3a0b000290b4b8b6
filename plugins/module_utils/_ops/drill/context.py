# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stages of one drill share: what it was asked to do, and what the stages before have found."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ..backup.foreign import ForeignDump
from ..config import Config
from ..config import Drill as Settings
from ..config_foreign import Foreign
from ..log import Log
from ..postgres.cluster import Cluster
from ..postgres.content import Content
from ..progress import Progress
from ..restoring.context import Backup, needed
from ..store.base import ObjectStore
from .archive import Archive
from .isolation import Sandbox
from .workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Release:
    """The release of the application on this host; ``sha256`` as its release.json has it."""

    name: str
    version: str
    sha256: str
    directory: Path


@dataclass(frozen=True)
class Application:
    """The release that runs on the restored copy, and the user who was created in it."""

    unit: str
    socket: Path
    sandbox: Sandbox
    username: str
    password: str = field(repr=False)


@dataclass(kw_only=True)
class ForeignDrill:
    """A dump made by others: what was asked for, and what the stages have found.

    :ivar wanted: key or id of an object; None: the newest one.
    :ivar sha256: of the object as it lies in the store; empty until it was fetched.
    :ivar created_at: what the dump's header says, believed.
    """

    name: str
    spec: Foreign
    wanted: str | None = None
    store: ObjectStore | None = None
    chosen: ForeignDump | None = None
    sha256: str = ""
    created_at: datetime | None = None


@dataclass(kw_only=True)
class Drill:
    """One drill.

    :ivar backup_id: the set to prove; None: the newest complete one.
    :ivar dump_file: a bare dump instead of a set; the drill is then a limited one.
    :ivar release_version: the release to start, instead of the one that the manifest names.
    :ivar foreign: a dump of others in a store; the drill is a limited one as well.
    :ivar identity: content of an identity file that is used instead of the host's.
    """

    drill_id: str
    config: Config
    settings: Settings
    workspace: Workspace
    log: Log
    progress: Progress
    backup_id: str | None = None
    dump_file: Path | None = None
    release_version: str | None = None
    identity: bytes | None = field(default=None, repr=False)
    foreign: ForeignDrill | None = None

    archive: Archive | None = None
    backup: Backup | None = None
    release: Release | None = None
    bin_dir: Path | None = None
    dump: Path | None = None
    globals_sql: Path | None = None
    cluster: Cluster | None = None
    content: Content | None = None
    application: Application | None = None

    @property
    def key(self) -> Path | bytes:
        """What opens the set: the identity that was given, else the identity file of this host."""
        return self.identity if self.identity is not None else self.settings.identity_file

    @property
    def limited(self) -> bool:
        """Whether a bare dump file is proven, and not a backup set."""
        return self.dump_file is not None or self.foreign is not None

    @property
    def user(self) -> str | None:
        """The account that servers and the release run as."""
        return self.workspace.user

    @property
    def dbname(self) -> str:
        """The database that is restored."""
        if self.archive is not None:
            return self.archive.dbname
        return needed(self.backup).manifest.restored_name

    @property
    def server_version(self) -> int:
        """``server_version_num`` of the source."""
        if self.archive is not None:
            return self.archive.server_version
        return needed(self.backup).manifest.server_version

    def place(self, name: str) -> Path:
        """A file or directory in the drill's own directory."""
        return self.workspace.directory / name
