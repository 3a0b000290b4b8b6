# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which installed releases may go."""

from __future__ import annotations

import shutil
from collections.abc import Sequence, Set
from pathlib import Path

from .layout import Layout, Release

_LEAVING = ".removing-"


def removable(installed: Sequence[Release], protected: Set[str], keep: int) -> list[Release]:
    """What is beyond the ``keep`` newest and not protected; the protected ones count.

    :param installed: the newest first.
    :param protected: versions that are in service, in a colour, or what a roll back would go to.
    """
    room = max(0, keep - sum(release.version in protected for release in installed))
    others = [release for release in installed if release.version not in protected]
    return others[room:]


def remove(layout: Layout, releases: Sequence[Release]) -> list[str]:
    """Remove releases, and what an interrupted removal left; returns the versions.

    A release loses its name first, so that half of one never stands under it.
    """
    for release in releases:
        release.directory.rename(layout.releases / f"{_LEAVING}{release.version}")
    for path in _leftovers(layout.releases):
        shutil.rmtree(path, ignore_errors=True)
    return [release.version for release in releases]


def _leftovers(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{_LEAVING}*"))
