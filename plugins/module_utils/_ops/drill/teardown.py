# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage ``teardown``: nothing of the drill is left, and that is looked at, not assumed."""

from __future__ import annotations

import contextlib

from ..errors import OpsError
from ..restoring.runner import Report
from . import isolation
from .context import Drill

_WHAT = {
    "units": "systemd units of the drill",
    "processes": "processes in the drill's directory",
    "sockets": "sockets in the drill's directory",
    "files": "decrypted files and data directory",
}


def teardown(drill: Drill, report: Report, swept: list[str]) -> None:
    """Stop the release and the cluster, remove the directory, and check that nothing is left.

    :param swept: ids of killed drills whose leftovers were removed before this one began.
    """
    report.facts["sweptDrills"] = swept
    workspace = drill.workspace
    if drill.application is not None:
        isolation.stop(drill.application.unit)
    if drill.cluster is not None:
        # What this leaves running is ended, and reported if that fails, by the workspace.
        with contextlib.suppress(OpsError, OSError):
            drill.cluster.stop()
    workspace.remove()
    left = workspace.leftovers()
    for kind, what in _WHAT.items():
        found = left[kind]
        report.check(what, not found, "none", "; ".join(found[:5]) or "none")
    if any(left.values()):
        report.summary = f"Something of the drill is left in {workspace.directory}."
    else:
        workspace.forget()
        report.summary = "No process, unit, socket or file of the drill is left."
