# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sections ``[foreign.<name>]`` of the configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """Dumps that others make (docs/adopting-dumps.md): objects in a store that match a pattern.

    ``pattern`` is compared with the key after ``prefix``; its ``*`` crosses slashes. ``database`` is what the
    dumps must be of (empty: not looked at); ``timezone`` is the one of the host that makes them.
    """

    store: str = "offsite"
    prefix: str = ""
    pattern: str = "*"
    database: str = ""
    timezone: str = "UTC"
