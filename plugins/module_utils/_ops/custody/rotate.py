# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries a rotation out on a host: the record and the credential file, phase by phase.

What makes the service take the credential anew, and what the database is told, is done between :func:`begin` and
:func:`finish` by whoever calls them (playbooks/rotate_secrets.yml).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from .. import clock
from ..config import Config
from ..errors import ExitCode, OpsError
from ..locks import held
from . import record, ring, rotation
from .rotation import Phase, Rotation


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is to be replaced, by what, and where.

    :param file: the credential that the service reads; None on a host that has none (the database's).
    :param is_ring: the file is a key ring; else it holds one value.
    :param overlap: how long what the secret signed is valid.
    """

    name: str
    old: str
    new: str
    file: Path | None = None
    is_ring: bool = True
    overlap: timedelta = timedelta()
    logins: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is left of a rotation."""

    rotation: Rotation
    phases: tuple[Phase, ...]
    wait: timedelta


def plan(config: Config, change: Change, *, back: bool, now: datetime | None = None) -> Plan:
    """What running the rotation would do; nothing is touched.

    ``wait`` is what is left of the overlap before the secret that goes may become void; the whole overlap when
    its last phase of use is still to come.

    :raises OpsError: ``SECRET_UNFIT``, ``SECRET_RETIRED``, ``SECRET_DIFFERS``, ``ROTATION_OTHER``,
        ``ROTATION_RETIRED``, ``ROTATION_RETURNING``, ``ROTATION_NONE``.
    """
    current = _open(config, change, back=back)
    phases = rotation.plan(current, back=back)
    if not current.steps and phases:
        _check_in_use(change)
    left = max(
        (rotation.wait(current, phase, now or clock.now(), change.overlap) for phase in phases),
        default=timedelta(),
    )
    return Plan(rotation=current, phases=phases, wait=max(left, timedelta()))


def begin(config: Config, change: Change, phase: Phase, run_id: str) -> tuple[Rotation, bool]:
    """Record that a phase begins and make the credential file what it wants; whether the file changed.

    :raises OpsError: those of :func:`plan`, ``ROTATION_ORDER``, ``ROTATION_TOO_EARLY``, ``FILE_NOT_WRITTEN``,
        ``LOCK_HELD``.
    """
    with held(config.lock_dir, f"rotation-{change.name}", run_id):
        current = _open(config, change, back=phase in ("return", "withdraw"))
        if not current.steps:
            _check_in_use(change)
        begun = rotation.begin(current, phase, clock.now(), change.overlap)
        record.save(config, begun)
        if change.file is None:
            return begun, False
        wanted = rotation.ring(phase, change.old, change.new)
        return begun, ring.write(change.file, wanted if change.is_ring else wanted[:1])


def finish(config: Config, name: str, phase: Phase, run_id: str) -> Rotation:
    """Record that the effects of a phase are complete.

    :raises OpsError: ``ROTATION_NONE``, ``ROTATION_ORDER``, ``FILE_NOT_WRITTEN``, ``LOCK_HELD``.
    """
    with held(config.lock_dir, f"rotation-{name}", run_id):
        current = record.load(config, name)
        if current is None:
            raise _none(name)
        finished = rotation.finish(current, phase, clock.now())
        record.save(config, finished)
        return finished


def _open(config: Config, change: Change, *, back: bool) -> Rotation:
    """The rotation on record that these values belong to, or a new one."""
    if change.is_ring:
        ring.check(change.name, change.new)
    elif not change.new.strip():
        raise OpsError(
            "SECRET_UNFIT", f"The new value for {change.name} is empty.", "Give it, see docs/secrets.md."
        )
    old, new = record.prints(config, (change.old, change.new))
    earlier = record.load(config, change.name)
    if back and (earlier is None or earlier.over):
        if earlier is not None and earlier.state == "withdrawn":
            return earlier
        if earlier is None:
            raise _none(change.name)
    return rotation.start(earlier, change.name, old, new, change.logins)


def _check_in_use(change: Change) -> None:
    """Before anything is done: the old value is the one that the service has, and the only one."""
    if change.file is None:
        return
    found = ring.read(change.file)
    if found == (change.old,):
        return
    what = f"{len(found)} secrets" if len(found) != 1 else "another value than the one given as the old one"
    raise OpsError(
        "SECRET_DIFFERS",
        f"{change.file} holds {what}.",
        "Deploy the service with the value that is to be replaced, alone, then rotate.",
        ExitCode.FAILED,
    )


def _none(name: str) -> OpsError:
    return OpsError(
        "ROTATION_NONE", f"No rotation of {name} is on record on this host.", "There is nothing to take back."
    )
