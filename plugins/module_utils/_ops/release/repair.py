# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a killed engine left is brought to an end: the link says what serves, the rest follows it."""

from __future__ import annotations

from ..errors import OpsError
from ..evidence.record import Verdict
from . import journal, marker, stages, units
from .deployment import Run, record_of, summary
from .journal import DONE, Record, Result, StageResult
from .marker import Marker

_BACK = "switch_back"
_LAST = ("record", "keep")


def repair(run: Run) -> Record | None:
    """Finish what was left; the record that was written for it, None when nothing was.

    The caller holds the lock, so whoever wrote the marker is gone.
    """
    noted = marker.read(run.marker)
    known = noted is not None and any(item["id"] == noted.id for item in journal.read(run.journal).records)
    record = _finish(run, noted) if noted is not None and not known else None
    try:
        if record is not None:
            journal.append(run.journal, record)
        marker.remove(run.marker)
    except (OpsError, OSError) as problem:
        # Whoever wants to go back must be able to; the marker stays, and with it the chance to record this.
        run.log.error("killed_release_not_recorded", problem)
    if record is not None:
        run.log.warn("killed_release_finished", **summary(record))
    active = run.layout.active()
    if active is not None:
        # Somebody may have set the link by hand.
        moved = stages.follow(run.layout, active)
        if moved or record is not None:
            _put_on_record(run, active)
    return record


def _put_on_record(run: Run, active: str) -> None:
    """Whoever was killed may not have come to it."""
    serving = run.layout.held(active)
    if serving is None or not run.layout.settings.record_unit:
        return
    if problem := stages.record(run.layout, serving.version):
        run.log.warn("serving_not_recorded", version=serving.version, reason=problem)


def _finish(run: Run, noted: Marker) -> Record:
    unit = run.layout.migrate_unit(noted.version)
    if unit and units.state(unit).active in ("active", "activating"):
        units.stop(unit)
    serves = run.layout.active() == noted.colour
    verdict, cause = judge(noted, serves=serves)
    if verdict is Result.SWITCHED_BACK:
        if serves and noted.previous_colour is not None:
            stages.serve_again(run.layout, noted.previous_colour)
        stages.retire(run.layout, noted.colour)
    elif verdict is Result.REFUSED and noted.owns_colour:
        units.stop(run.layout.unit(noted.colour))
        stages.restore_slot(run.layout, noted.colour, noted.held_before)
    return record_of(
        noted,
        run.layout.service,
        verdict,
        cause=cause,
        code="INTERRUPTED",
        stages=(
            StageResult(
                name=noted.stage, verdict=Verdict.UNKNOWN.value, seconds=0.0, detail="The engine was killed."
            ),
        ),
    )


def judge(noted: Marker, *, serves: bool) -> tuple[Result, str]:
    """How a killed deployment ended, and the sentence for it.

    :param serves: whether the link leads to the colour that it was to serve in.
    """
    killed = f"The engine was killed in {noted.stage}"
    before = noted.previous_version or "nothing"
    if noted.stage == _BACK and noted.previous_colour is not None:
        return (
            Result.SWITCHED_BACK,
            f"{killed}; the switch back to {before} was finished by the next command.",
        )
    if not serves:
        return Result.REFUSED, f"{killed}, before the switch; {before} served on."
    if noted.stage in _LAST:
        return DONE[noted.action], f"{killed}, when {noted.version} served and its watch was over."
    return DONE[
        noted.action
    ], f"{killed}, after the switch; {noted.version} serves, but was not watched to the end."
