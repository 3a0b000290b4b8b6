# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is what was restored what was backed up? The whole database against the manifest."""

from __future__ import annotations

from ..postgres.connection import Target
from ..postgres.content import Content, compare, read_content
from ..progress import Progress
from .runner import Report

MAX_DIFFERENCES = 200


def compare_content(
    expected: Content, target: Target, sessions: int, progress: Progress, report: Report
) -> Content:
    """Read the whole restored database and compare it with the manifest: every difference is a check.

    :returns: what was read.
    """
    observed = read_content(target, snapshot=None, sessions=sessions, progress=progress)
    differences = compare(expected, observed)
    for item in differences[:MAX_DIFFERENCES]:
        report.check(f"{item.kind} {item.name}", False, item.expected, item.observed)
    report.facts |= {
        "tables": len(observed.tables),
        "rows": observed.rows,
        "differences": len(differences),
        "hashVersion": observed.hash_version,
    }
    _tell_equal(report, expected, {item.kind for item in differences})
    if differences:
        names = ", ".join(f"{item.kind} {item.name}" for item in differences[:3])
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        report.summary = f"The restored copy differs from its source in {names}{more}."
    else:
        report.summary = (
            f"{len(observed.tables)} tables with {observed.rows} rows equal their source exactly."
        )
    return observed


def _tell_equal(report: Report, expected: Content, differing: set[str]) -> None:
    """One passed check for each kind of thing in which nothing differs."""
    objects = expected.large_objects
    kinds = {
        "table": f"rows and content hash of {len(expected.tables)} tables, {expected.rows} rows",
        "sequence": f"{len(expected.sequences)} sequences",
        "structure": f"{len(expected.structure)} definitions",
        "extension": f"{len(expected.extensions)} extensions",
        "role": f"{len(expected.roles)} roles",
        "large objects": f"{objects.count} large objects, {objects.bytes} bytes",
        "encoding": expected.encoding,
    }
    if "hash version" in differing:
        return
    for kind, what in kinds.items():
        if kind not in differing and not (kind == "table" and "materialized view" in differing):
            report.check(f"{kind}: all equal", True, what, "equal")
