# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rotation of a secret as a state machine. Pure: effects and times come from outside.

Forward: prepare (nothing changes yet), accept (both are valid, the old one signs), switch (both are valid, the new
one signs), verify, retire (the old one is void). Back, until the retirement has begun: return (the old one
signs again), withdraw (the new one is void). A phase is recorded before its effects begin and again when they are
complete; one that was interrupted counts as possibly in force, and is done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from .. import clock
from ..errors import ExitCode, OpsError

Phase = Literal["prepare", "accept", "switch", "verify", "retire", "return", "withdraw"]
State = Literal["running", "returning", "finished", "withdrawn"]
FORWARD: tuple[Phase, ...] = ("prepare", "accept", "switch", "verify", "retire")
_BACKWARD: tuple[Phase, ...] = ("return", "withdraw")
RENEWING: tuple[Phase, ...] = ("accept", "switch", "retire", "return", "withdraw")
"""Phases after which the service must be given the secret anew."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A phase that was begun; ``finished`` is None while its effects are not complete."""

    phase: Phase
    started: datetime
    finished: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """A rotation as it is recorded: fingerprints, never values.

    :param old: fingerprint of the value that is replaced; ``new``: of the one that replaces it.
    :param retired: fingerprints of all values that earlier rotations and this one made void.
    :param logins: for a database: the login roles, old and new.
    """

    name: str
    old: str
    new: str
    steps: tuple[Step, ...] = ()
    retired: tuple[str, ...] = ()
    logins: tuple[str, ...] = ()

    def step(self, phase: Phase) -> Step | None:
        """The step of that phase, if it was begun."""
        return next((step for step in self.steps if step.phase == phase), None)

    def begun(self, phase: Phase) -> bool:
        """Whether the effects of the phase may be in force."""
        return self.step(phase) is not None

    def done(self, phase: Phase) -> bool:
        """Whether the phase is complete."""
        step = self.step(phase)
        return step is not None and step.finished is not None

    @property
    def state(self) -> State:
        """Where the rotation stands."""
        if self.done("retire"):
            return "finished"
        if self.done("withdraw"):
            return "withdrawn"
        return "returning" if self.begun("return") or self.begun("withdraw") else "running"

    @property
    def over(self) -> bool:
        """Whether nothing is left to do, so that another rotation may begin."""
        return self.state in ("finished", "withdrawn")


def plan(rotation: Rotation, *, back: bool) -> tuple[Phase, ...]:
    """The phases that are left, in order.

    :param back: take the rotation back instead of going on.
    :raises OpsError: ``ROTATION_RETIRED``: it cannot be taken back any more; ``ROTATION_RETURNING``: it is
        being taken back, and does not go on.
    """
    if back and rotation.begun("retire"):
        raise OpsError(
            "ROTATION_RETIRED",
            f"The rotation of {rotation.name} cannot be taken back: the retirement of the old value has begun.",
            "Finish it without rotate_back, then rotate once more to a new value.",
            ExitCode.FAILED,
        )
    if rotation.over:
        return ()
    if rotation.state == "returning" and not back:
        raise OpsError(
            "ROTATION_RETURNING",
            f"The rotation of {rotation.name} is being taken back.",
            "Finish that with rotate_back=true, then rotate anew.",
            ExitCode.FAILED,
        )
    wanted = FORWARD
    if back:
        wanted = _BACKWARD if rotation.begun("switch") else ("withdraw",)
    return tuple(phase for phase in wanted if not rotation.done(phase))


def begin(rotation: Rotation, phase: Phase, now: datetime, overlap: timedelta) -> Rotation:
    """The record to write before the effects of a phase begin.

    :param overlap: how long what the secret signed is valid.
    :raises OpsError: ``ROTATION_ORDER``, ``ROTATION_TOO_EARLY``, and those of :func:`plan`.
    """
    if rotation.done(phase) and rotation.steps[-1].phase == phase:
        # Two hosts keep one rotation's record, and one of them may be a phase ahead after an interruption.
        return rotation
    left = plan(rotation, back=phase in _BACKWARD)
    if not left or left[0] != phase:
        raise OpsError(
            "ROTATION_ORDER",
            f"The phase {phase} of the rotation of {rotation.name} is not next ({left[0] if left else 'none'} is).",
            "Run playbooks/rotate_secrets.yml, which keeps the order.",
        )
    if (left_over := wait(rotation, phase, now, overlap)) > timedelta():
        raise OpsError(
            "ROTATION_TOO_EARLY",
            f"What the other secret of {rotation.name} signed is still valid for"
            f" {left_over.total_seconds():.0f} s: users would be logged out.",
            f"Run again after {clock.to_text(now + left_over)}, or with rotate_wait=true.",
            ExitCode.FAILED,
        )
    if rotation.begun(phase):
        return rotation
    return replace(rotation, steps=(*rotation.steps, Step(phase=phase, started=now)))


def finish(rotation: Rotation, phase: Phase, now: datetime) -> Rotation:
    """The record to write when the effects of a phase are complete.

    :raises OpsError: ``ROTATION_ORDER``: the phase was not begun.
    """
    if not rotation.begun(phase):
        raise OpsError(
            "ROTATION_ORDER",
            f"The phase {phase} of the rotation of {rotation.name} was not begun.",
            "Run playbooks/rotate_secrets.yml, which keeps the order.",
        )
    steps = tuple(
        replace(step, finished=step.finished or now) if step.phase == phase else step
        for step in rotation.steps
    )
    retired = rotation.retired
    if phase == "retire" and rotation.old not in retired:
        retired = (*retired, rotation.old)
    return replace(rotation, steps=steps, retired=retired)


def wait(rotation: Rotation, phase: Phase, now: datetime, overlap: timedelta) -> timedelta:
    """How long a phase that makes a secret void must still wait; zero or less: not at all."""
    last = {"retire": "switch", "withdraw": "return"}.get(phase)
    if last is None or (phase == "withdraw" and not rotation.begun("switch")):
        return timedelta()
    step = next((step for step in rotation.steps if step.phase == last), None)
    if step is None or step.finished is None:
        return overlap
    return step.finished + overlap - now


def ring(phase: Phase, old: str, new: str) -> tuple[str, ...]:
    """The key ring that a phase brings into force; the first signs."""
    rings: dict[Phase, tuple[str, ...]] = {
        "prepare": (old,),
        "accept": (old, new),
        "switch": (new, old),
        "verify": (new, old),
        "retire": (new,),
        "return": (old, new),
        "withdraw": (old,),
    }
    return rings[phase]


def start(earlier: Rotation | None, name: str, old: str, new: str, logins: Sequence[str] = ()) -> Rotation:
    """The rotation to go on with, or a new one.

    :raises OpsError: ``ROTATION_OTHER``: one to another value is under way; ``SECRET_RETIRED``.
    """
    if earlier is not None and not earlier.over:
        if earlier.new == new and earlier.old == old:
            return earlier
        raise OpsError(
            "ROTATION_OTHER",
            f"Another rotation of {name} is under way, between other values than the two that were given.",
            "Give the values that it began with, and finish it or take it back.",
            ExitCode.FAILED,
        )
    if earlier is not None and earlier.state == "finished" and earlier.new == new:
        return earlier
    if new == old:
        raise OpsError("SECRET_UNFIT", f"The new value for {name} is the one in use.", "Make another one.")
    retired = earlier.retired if earlier is not None else ()
    if new in retired:
        raise retired_error(name)
    return Rotation(name=name, old=old, new=new, retired=retired, logins=tuple(logins))


def retired_error(name: str) -> OpsError:
    """The refusal of a value that a rotation made void."""
    return OpsError(
        "SECRET_RETIRED",
        f"The value given for {name} was retired by a rotation: it is void and must not come back.",
        "Move the value that the rotation brought into the vault (docs/secrets.md), and run again.",
        ExitCode.FAILED,
    )


def as_dict(rotation: Rotation) -> dict[str, Any]:
    """The record as JSON holds it."""
    return {
        "schemaVersion": 1,
        "name": rotation.name,
        "state": rotation.state,
        "old": rotation.old,
        "new": rotation.new,
        "logins": list(rotation.logins),
        "phases": [
            {
                "name": step.phase,
                "startedAt": clock.to_text(step.started),
                "finishedAt": clock.to_text(step.finished) if step.finished else None,
            }
            for step in rotation.steps
        ],
        "retired": list(rotation.retired),
    }


def from_dict(data: Mapping[str, Any]) -> Rotation:
    """What :func:`as_dict` made.

    :raises KeyError, ValueError, TypeError: it is something else.
    """
    if data["schemaVersion"] != 1:
        raise ValueError(f"schemaVersion {data['schemaVersion']!r} is not known")
    steps = []
    for item in data["phases"]:
        if item["name"] not in (*FORWARD, *_BACKWARD):
            raise ValueError(f"there is no phase {item['name']!r}")
        finished = item["finishedAt"]
        steps.append(
            Step(
                phase=item["name"],
                started=clock.from_text(item["startedAt"]),
                finished=clock.from_text(finished) if finished else None,
            )
        )
    return Rotation(
        name=str(data["name"]),
        old=str(data["old"]),
        new=str(data["new"]),
        steps=tuple(steps),
        retired=tuple(map(str, data["retired"])),
        logins=tuple(map(str, data["logins"])),
    )
