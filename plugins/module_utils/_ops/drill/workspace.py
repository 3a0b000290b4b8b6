# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything a drill leaves on the host while it runs: made, marked, removed, and proven gone.

All of it carries the drill's id: one directory with everything in it, units whose names begin with
``pharma-<drill id>``, and a marker beside the directory, so that the next drill can sweep what a
killed one left.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import clock
from ..errors import OpsError
from ..files import write_atomic
from ..postgres.cluster import own_directory
from ..restoring.processes import end_processes, processes_of
from . import isolation

_DRILL_ID = re.compile(r"^drill-\d{8}T\d{6}Z-[0-9a-f]{6}$")
_MARKER_SUFFIX = ".running.json"


@dataclass(frozen=True)
class Workspace:
    """The places of one drill.

    :ivar base: ``drill.work_dir``; others may look into it.
    :ivar drill_id: names everything.
    :ivar user: account that owns the directory.
    """

    base: Path
    drill_id: str
    user: str | None

    @property
    def directory(self) -> Path:
        """Holds decrypted data: only the drill's account and root may enter."""
        return self.base / self.drill_id

    @property
    def marker(self) -> Path:
        """Exists as long as anything of the drill may."""
        return self.base / f"{self.drill_id}{_MARKER_SUFFIX}"

    @property
    def log(self) -> Path:
        """The drill's log until the evidence takes it over."""
        return self.base / f"{self.drill_id}.log"

    @property
    def unit_prefix(self) -> str:
        """All units of the drill begin with it."""
        return f"pharma-{self.drill_id}"

    def create(self) -> None:
        """Write the marker, then make the directory.

        :raises OpsError: ``WORK_DIR_UNUSABLE``.
        """
        marker = {"drillId": self.drill_id, "pid": os.getpid(), "startedAt": clock.to_text(clock.now())}
        try:
            write_atomic(self.marker, json.dumps(marker | {"unitPrefix": self.unit_prefix}).encode())
            own_directory(self.directory, self.user)
        except OSError as error:
            raise _unusable(self.base, error) from error

    def remove(self) -> None:
        """Stop and remove everything that carries the drill's id. The marker stays."""
        for unit in isolation.units(self.unit_prefix):
            isolation.stop(unit)
        end_processes(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)

    def leftovers(self) -> dict[str, list[str]]:
        """What is still there: by kind, empty lists when nothing is."""
        sockets = sorted(_bound_sockets(self.directory))
        return {
            "units": isolation.units(self.unit_prefix),
            "processes": [f"{pid} {command}" for pid, command in processes_of(self.directory).items()],
            "sockets": sockets,
            "files": [str(self.directory)] if self.directory.exists() else [],
        }

    def forget(self) -> None:
        """Remove the marker, after it was proven that nothing is left."""
        self.marker.unlink(missing_ok=True)


def prepare_base(base: Path) -> None:
    """Make the directory that drills work in, or check it.

    :raises OpsError: ``WORK_DIR_UNUSABLE``.
    """
    try:
        if not base.is_dir():
            base.mkdir(parents=True)
            # Whatever the umask is: the account of the server has to pass through.
            base.chmod(0o755)
        if not os.access(base, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "Permission denied")
        owner = base.stat()
        if owner.st_uid not in (0, os.geteuid()) or owner.st_mode & stat.S_IWOTH:
            raise PermissionError(errno.EPERM, f"uid {owner.st_uid} owns it or everybody may write to it")
    except OSError as error:
        raise _unusable(base, error) from error


def sweep(base: Path, user: str | None, keep: str) -> list[str]:
    """Remove what drills left that were killed; the caller holds the lock, so none of them runs.

    :param keep: id of the drill that is just beginning.
    :returns: the ids of the drills that had left something.
    :raises OpsError: ``LEFTOVERS`` when something cannot be removed.
    """
    swept = []
    for drill_id in sorted(set(_left_ids(base)) - {keep}):
        old = Workspace(base, drill_id, user)
        old.remove()
        left = {kind: found for kind, found in old.leftovers().items() if found}
        if left:
            raise OpsError(
                "LEFTOVERS",
                f"A killed drill, {drill_id}, left what cannot be removed: {left}.",
                f"Remove it by hand, then {old.marker}.",
            )
        old.forget()
        old.log.unlink(missing_ok=True)
        swept.append(drill_id)
    return swept


def _left_ids(base: Path) -> Iterator[str]:
    names = set()
    for path in base.iterdir():
        names.add(path.name.removesuffix(_MARKER_SUFFIX).removesuffix(".log"))
    yield from (name for name in names if _DRILL_ID.match(name))


def _bound_sockets(directory: Path) -> set[str]:
    """Unix sockets below ``directory`` that some process still listens on, by the kernel's list."""
    prefix = f"{directory}/"
    lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]
    paths = (line.split(maxsplit=7)[7] for line in lines if len(line.split(maxsplit=7)) == 8)
    return {path for path in paths if path.startswith(prefix)}


def _unusable(base: Path, error: OSError) -> OpsError:
    return OpsError(
        "WORK_DIR_UNUSABLE",
        f"Drills cannot work in {base}: {error.strerror or error}.",
        "Correct drill.work_dir, or run as root.",
    )
