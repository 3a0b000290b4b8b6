# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What serves, what each colour is, what is installed; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import clock
from ..config import Config
from . import journal, marker, retention, units
from .journal import Action, Past
from .layout import COLOURS, Layout, Release, idle
from .marker import Marker
from .plan import back_to, make_plan
from .probe import Prober
from .run import is_in_service, protected


@dataclass(frozen=True, kw_only=True)
class Colour:
    """A colour: the release it holds, its unit's state, why it is not ready (empty: it is)."""

    name: str
    release: Release | None
    state: units.State
    enabled: bool
    problem: str

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "version": self.release.version if self.release else None,
            "state": self.state.active,
            "enabled": self.enabled,
            "ready": not self.problem,
            "problem": self.problem,
        }


@dataclass(frozen=True, kw_only=True)
class Status:
    """What a service is at this moment.

    :ivar unfinished: the deployment that is under way or was killed.
    """

    service: str
    active: str | None
    colours: tuple[Colour, ...]
    previous: str | None
    unfinished: Marker | None
    last: dict[str, Any] | None
    problems: tuple[str, ...]

    @property
    def serving(self) -> Colour | None:
        """The colour in service."""
        return next((colour for colour in self.colours if colour.name == self.active), None)

    @property
    def healthy(self) -> bool:
        """Whether something serves, is ready, and nothing waits to be repaired."""
        return self.serving is not None and not self.problems

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        release = self.serving.release if self.serving else None
        return {
            "service": self.service,
            "active": self.active,
            "version": release.version if release else None,
            "digest": release.digest if release else None,
            "previousVersion": self.previous,
            "healthy": self.healthy,
            "problems": list(self.problems),
            "colours": {colour.name: colour.as_dict() for colour in self.colours},
            "unfinished": self.unfinished.as_dict() if self.unfinished else None,
            "last": self.last,
        }


def status(config: Config, service: str | None) -> Status:
    """Look at everything.

    :raises OpsError: ``CONFIG_INVALID``, ``SYSTEMD_MISSING``, ``RELEASE_LINK_INVALID``, ``JOURNAL_UNREADABLE``.
    """
    name, settings = config.release(service)
    layout = Layout(name, settings)
    units.require_systemd()
    past = journal.read(journal.path(config.state_dir, name))
    noted = marker.read(marker.path(config.state_dir, name))
    active = layout.active()
    with Prober(settings) as prober:
        colours = tuple(_colour(layout, prober, colour) for colour in COLOURS)
    serving = next((colour.release for colour in colours if colour.name == active), None)
    other = next((colour.release for colour in colours if active and colour.name == idle(active)), None)
    return Status(
        service=name,
        active=active,
        colours=colours,
        previous=back_to(serving.version, other.version if other else None, past.records)
        if serving
        else None,
        unfinished=noted,
        last=past.records[-1] if past.records else None,
        problems=tuple(problems(layout, active, colours, noted, past)),
    )


def problems(
    layout: Layout, active: str | None, colours: Sequence[Colour], noted: Marker | None, past: Past
) -> list[str]:
    """Sentences for what is not as it should be."""
    found = []
    if noted is not None:
        found.append(
            f"{noted.action.value} of {noted.version} ({noted.id}) is in {noted.stage}, or was killed there: "
            "unless it runs, pharma-ops release repair brings it to an end."
        )
    for colour in colours:
        serves = colour.name == active
        if serves and colour.problem:
            found.append(f"{colour.name} is in service and not ready: {colour.problem}.")
        if active is not None and colour.enabled is not serves:
            word = "not started" if serves else "started"
            found.append(f"{colour.name} would be {word} at boot: pharma-ops release repair puts it right.")
    release = next((colour.release for colour in colours if colour.name == active), None)
    if release is not None and not _leads_to(layout, release):
        found.append(
            f"{layout.current} does not lead to {release.version}: pharma-ops release repair does it."
        )
    found += [f"Line {number} of the journal is no record." for number in past.unreadable]
    return found


def _leads_to(layout: Layout, release: Release) -> bool:
    try:
        return layout.current.readlink() == release.directory
    except OSError:
        return False


def _colour(layout: Layout, prober: Prober, name: str) -> Colour:
    unit = layout.unit(name)
    state, release = units.state(unit), layout.held(name)
    if release is None:
        problem = "it holds no release"
    elif not state.running:
        # Its socket is not asked: that would start it.
        problem = f"{unit} is {state.active}"
    else:
        problem = prober.problem(layout.socket(name), release.version)
    return Colour(name=name, release=release, state=state, enabled=units.enabled(unit), problem=problem)


def would_change(config: Config, service: str | None, action: Action, version: str | None) -> Release | None:
    """What a command would put into service; None: nothing would be done. Nothing is touched.

    :raises OpsError: as :func:`.run.release` for what keeps it from beginning.
    """
    name, settings = config.release(service)
    layout = Layout(name, settings)
    units.require_systemd()
    plan = make_plan(layout, action, version, journal.read(journal.path(config.state_dir, name)).records)
    with Prober(settings) as prober:
        return None if is_in_service(layout, prober, action, plan) else plan.release


def installed(config: Config, service: str | None) -> list[dict[str, Any]]:
    """The installed releases, the newest first, with what each is at the moment.

    :raises OpsError: ``CONFIG_INVALID``, ``RELEASE_LINK_INVALID``, ``JOURNAL_UNREADABLE``.
    """
    name, settings = config.release(service)
    layout = Layout(name, settings)
    records = journal.read(journal.path(config.state_dir, name)).records
    active = layout.active()
    held = {colour: layout.held(colour) for colour in COLOURS}
    releases, safe = layout.installed(), protected(layout, records)
    going = {release.version for release in retention.removable(releases, safe, settings.releases_keep)}
    return [
        {
            "version": release.version,
            "digest": release.digest,
            "installedAt": clock.to_text(release.installed_at),
            "colours": [colour for colour, other in held.items() if other == release],
            "active": active is not None and held[active] == release,
            "removable": release.version in going,
        }
        for release in releases
    ]


def serving(config: Config, service: str) -> dict[str, Any]:
    """Version and colour in service as the links have them, as fast as can be; None: nothing is.

    :raises OpsError: ``CONFIG_INVALID``, ``RELEASE_LINK_INVALID``.
    """
    layout = Layout(*config.release(service))
    active = layout.active()
    release = layout.held(active) if active else None
    return {"version": release.version if release else None, "active": active}
