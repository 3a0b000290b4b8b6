# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command comes to: which release into which colour, or nothing at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import OpsError
from .journal import Action, previous_version, was_deployed
from .layout import Layout, Release, idle


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The release that is to serve, the colour that it is to serve in, and what is there now.

    :ivar active: the colour in service, with the release ``serving`` (None: it cannot be told).
    :ivar held_before: the release that ``colour`` holds.
    """

    release: Release
    colour: str
    active: str | None
    serving: Release | None
    held_before: Release | None

    @property
    def changes_release(self) -> bool:
        """Whether another version is to serve than the one that does."""
        return self.serving is None or self.serving.version != self.release.version


def make_plan(
    layout: Layout, action: Action, version: str | None, records: Sequence[Mapping[str, Any]]
) -> Plan:
    """Look at what is there and decide.

    :raises OpsError: ``ARGUMENT_INVALID``, ``RELEASE_NOT_INSTALLED``, ``RELEASE_NOT_DEPLOYED``,
        ``RELEASE_PREVIOUS_UNKNOWN``, ``RELEASE_LINK_INVALID``.
    """
    active = layout.active()
    serving = layout.held(active) if active else None
    colour = idle(active)
    other = layout.held(colour) if active else None
    if action is Action.DEPLOY:
        wanted = version
    elif serving is None:
        raise OpsError(
            "RELEASE_NOT_DEPLOYED",
            f"{layout.service} has no release in service that is installed whole.",
            "Deploy one: pharma-ops release deploy VERSION.",
        )
    elif action is Action.RENEW:
        wanted = serving.version
    else:
        wanted = version or back_to(serving.version, other.version if other else None, records)
    if wanted is None:
        raise OpsError(
            "RELEASE_PREVIOUS_UNKNOWN",
            f"It is not known which release of {layout.service} served before.",
            "Name it: pharma-ops release rollback VERSION (pharma-ops release list shows what is installed).",
        )
    return Plan(
        release=layout.release(wanted), colour=colour, active=active, serving=serving, held_before=other
    )


def back_to(serving: str, other: str | None, records: Sequence[Mapping[str, Any]]) -> str | None:
    """What to go back to: what the journal says was replaced; without its word what the other colour holds.

    :param other: version that the colour out of service holds. After a roll back that is the newer one,
        which is why the journal is asked first.
    """
    if was_deployed(records, serving):
        return previous_version(records, serving)
    return other if other != serving else None
