# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stages of one recovery share: what was asked for, and what the stages before have found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..config import Config
from ..log import Log
from ..postgres.cluster import Cluster
from ..progress import Progress
from ..restoring.context import Backup, needed
from .debian import DebianCluster
from .record import Record

MARK = ".recovering-"
ASIDE = ".before-"
UNDONE = ".undone-"


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What is about to happen, for the person who confirms it.

    :ivar aside: under which name the present data directory will lie; None: there is none.
    """

    database: str
    backup_id: str
    newest_change_at: str
    age_seconds: float
    cluster: str
    data: Path
    aside: Path | None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for.

    :ivar store: name of a store of the configuration.
    :ivar identity: the identity file that opens the set, or its content.
    :ivar backup_id: the set; None: the newest complete one.
    :ivar ledger: take the newest set that a drill of this ledger proved.
    :ivar evidence_keys_file: public keys (PEM) of the drills whose proofs count; needed with ``ledger``.
    :ivar cluster: name of Debian's cluster of the source's major version.
    :ivar confirm: asked for the database's name; anything else than it ends the recovery before it touched
        anything.
    :ivar others_too: other databases of the cluster may be set aside with it.
    """

    database: str
    store: str
    identity: Path | bytes = field(repr=False)
    signers_file: Path
    confirm: Callable[[Preview], str]
    backup_id: str | None = None
    ledger: Path | None = None
    evidence_keys_file: Path | None = None
    cluster: str = "main"
    others_too: bool = False
    jobs: int = 2
    rto_objective_seconds: float = 4 * 3600
    rpo_objective_seconds: float = 26 * 3600


@dataclass(kw_only=True)
class Recovery:
    """One recovery.

    :ivar work: the directory with everything of it until it is proven, beside the data directory.
    :ivar fresh: the new cluster, before it takes the place.
    :ivar record: on disk since the data directory was touched.
    """

    recovery_id: str
    config: Config
    request: Request
    log: Log
    progress: Progress

    backup: Backup | None = None
    bin_dir: Path | None = None
    cluster: DebianCluster | None = None
    earlier: Record | None = None
    confirmed: bool = False
    dump: Path | None = None
    globals_sql: Path | None = None
    fresh: Cluster | None = None
    system_identifier: str = ""
    was_running: bool = False
    record: Record | None = None

    @property
    def dbname(self) -> str:
        """The database's name on the server."""
        return needed(self.backup).manifest.restored_name

    def work(self, cluster: DebianCluster) -> Path:
        """Where the set is fetched to and the new cluster is made: the same filesystem as the data."""
        return cluster.data.with_name(f"{cluster.data.name}{MARK}{self.recovery_id}")

    def aside(self, cluster: DebianCluster) -> Path | None:
        """Under which name the old data directory lies afterwards; None: there is none.

        What an interrupted recovery has set aside already stays under its name.
        """
        if cluster.data.exists():
            return cluster.data.with_name(f"{cluster.data.name}{ASIDE}{self.recovery_id}")
        if self.earlier is not None and self.earlier.aside is not None and self.earlier.aside.exists():
            return self.earlier.aside
        return None
