# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment, a renewal or a roll back from the lock to the record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .. import locks
from ..config import Config
from ..errors import ExitCode, OpsError
from ..evidence.record import Verdict
from ..interruptions import Interruptions
from ..log import Log
from ..progress import Progress
from . import journal, retention, stages, units, watch
from .access import Tail
from .deployment import Deployment, Run, new_run
from .journal import DONE, Action, Record, Result
from .layout import Layout, Release
from .plan import Plan, back_to, make_plan
from .probe import Prober
from .repair import repair


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended.

    :ivar record: what was done; None: nothing was to do.
    :ivar repaired: the record of a killed deployment that was brought to an end first.
    """

    version: str
    colour: str
    record: Record | None
    repaired: Record | None

    @property
    def exit_code(self) -> ExitCode:
        """0 when what was asked for serves well, 1 when it was refused, switched back or has failed its gate."""
        if self.record is None:
            return ExitCode.PROVEN
        return ExitCode.FAILED if self.record.cause else self.record.verdict.exit_code

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the command and the module."""
        return {
            "changed": self.record is not None,
            "version": self.version,
            "colour": self.colour,
            "record": self.record.as_dict() if self.record else None,
            "repaired": self.repaired.as_dict() if self.repaired else None,
        }


def lock_name(service: str) -> str:
    """The job that is locked while a service is released."""
    return f"release-{service}"


def release(
    config: Config,
    service: str | None,
    action: Action,
    *,
    version: str | None = None,
    who: str,
    log: Log,
    progress: Progress,
) -> Outcome:
    """Put a release into service, or say why not.

    :param service: None: the only one that is configured.
    :param version: what to deploy, or to go back to (None: what was before).
    :raises OpsError: nothing was done (``CONFIG_INVALID``, ``LOCK_HELD``, ``SYSTEMD_MISSING`` and what
        :func:`.plan.make_plan` raises), or the record could not be written (``JOURNAL_NOT_WRITTEN``).
        What goes wrong within a stage is in the record instead.
    """
    with _alone(config, service, who=who, log=log, progress=progress) as (run, waited):
        return _perform(run, action, version, waited)


def repair_only(
    config: Config, service: str | None, *, who: str, log: Log, progress: Progress
) -> Record | None:
    """Finish what a killed engine left, and nothing else; the record of it, None when nothing was left.

    :raises OpsError: ``CONFIG_INVALID``, ``LOCK_HELD``, ``SYSTEMD_MISSING``, ``RELEASE_LINK_INVALID``.
    """
    with _alone(config, service, who=who, log=log, progress=progress) as (run, _waited):
        return repair(run)


@contextlib.contextmanager
def _alone(
    config: Config, service: str | None, *, who: str, log: Log, progress: Progress
) -> Iterator[tuple[Run, float]]:
    """A run that holds the lock of its service, and the seconds that it waited for it."""
    name, settings = config.release(service)
    layout = Layout(name, settings)
    units.require_systemd()
    interruptions = Interruptions()
    with Prober(settings) as prober:
        run = new_run(
            config, layout, who=who, log=log, progress=progress, prober=prober, interruptions=interruptions
        )
        began = time.monotonic()
        with locks.held(config.lock_dir, lock_name(name), run.id), interruptions.handled():
            yield run, time.monotonic() - began


def _perform(run: Run, action: Action, version: str | None, waited: float) -> Outcome:
    repaired = repair(run)
    past = journal.read(run.journal)
    if past.unreadable:
        run.log.warn("journal_damaged", lines=past.unreadable)
    plan = make_plan(run.layout, action, version, past.records)
    if is_in_service(run.layout, run.prober, action, plan):
        active = plan.active or plan.colour
        return Outcome(version=plan.release.version, colour=active, record=None, repaired=repaired)
    deployment = Deployment(
        run=run,
        action=action,
        release=plan.release,
        colour=plan.colour,
        previous_colour=plan.active,
        previous=plan.serving,
        held_before=plan.held_before,
    )
    deployment.add("lock", Verdict.PASSED, waited, f"{lock_name(run.layout.service)} is held.")
    record = _carry_out(deployment)
    serves = DONE[action] is record.verdict
    now = plan.release if serves else plan.serving
    colour = plan.colour if serves else plan.active
    return Outcome(version=now.version if now else "", colour=colour or "", record=record, repaired=repaired)


def is_in_service(layout: Layout, prober: Prober, action: Action, plan: Plan) -> bool:
    """Whether there is nothing to do: what is wanted serves and is ready. A renewal always has to be done."""
    return (
        action is not Action.RENEW
        and plan.active is not None
        and not plan.changes_release
        and stages.is_ready(layout, prober, plan.active, plan.release.version)
    )


def _carry_out(deployment: Deployment) -> Record:
    tail = None
    try:
        _prepare(deployment)
        tail = _tail(deployment)
        with deployment.stage("switch", interruptible=False) as report:
            stages.switch(deployment, report)
        return _after_the_switch(deployment, tail)
    except OpsError as problem:
        if deployment.switched_at is not None:
            raise
        return _refuse(deployment, problem)
    finally:
        if tail is not None:
            tail.close()


def _prepare(deployment: Deployment) -> None:
    """Everything before the switch."""
    settings = deployment.run.layout.settings
    with deployment.stage("check") as report:
        stages.check(deployment, report)
    if deployment.action is Action.DEPLOY:
        if settings.migrate_unit:
            with deployment.stage("migrate") as report:
                stages.migrate(deployment, report)
        else:
            deployment.skip("migrate", "The service has no migrations.")
    if stages.ready_to_flip(deployment):
        deployment.skip("start", f"{deployment.colour} runs {deployment.release.version} and is ready.")
        return
    with deployment.stage("start") as report:
        stages.start(deployment, report)
    with deployment.stage("health") as report:
        stages.health(deployment, report)
    if deployment.action is Action.ROLLBACK:
        return
    if settings.smoke_journey_file is None:
        deployment.skip("smoke", "No smoke journey is configured.")
        return
    with deployment.stage("smoke") as report:
        stages.smoke(deployment, report)


def _refuse(deployment: Deployment, problem: OpsError) -> Record:
    """The idle colour is stopped and what served serves on."""
    try:
        stages.withdraw(deployment)
    except OpsError as second:
        deployment.run.log.error("withdrawal_failed", second)
    served = deployment.previous
    words = f"{served.version} serves on." if served else "Nothing serves yet."
    return deployment.finish(Result.REFUSED, OpsError(problem.code, f"{problem.message} {words}"))


def _tail(deployment: Deployment) -> Tail | None:
    """The access log from here on; None when there is nothing to watch."""
    path = deployment.run.layout.settings.access_log
    watched = deployment.action is not Action.ROLLBACK and deployment.previous_colour is not None
    return Tail(path) if watched and path is not None else None


def _after_the_switch(deployment: Deployment, tail: Tail | None) -> Record:
    problem = _watch(deployment, tail)
    if problem is not None:
        return _switch_back(deployment, problem)
    _record(deployment)
    if deployment.action is Action.DEPLOY:
        with deployment.stage("keep", interruptible=False) as report:
            removed = keep(deployment.run)
            report.detail = f"Removed: {', '.join(removed)}." if removed else "Nothing had to be removed."
    watched = next((stage for stage in deployment.stages if stage.name == "watch"), None)
    failed = watched is not None and watched.verdict == Verdict.FAILED.value
    return deployment.finish(
        DONE[deployment.action], cause=watched.detail if watched is not None and failed else ""
    )


def _record(deployment: Deployment) -> None:
    """Have the release recorded that serves for good; one that had to go never is."""
    if not deployment.run.layout.settings.record_unit:
        deployment.skip("record", "No record_unit is configured.")
        return
    with deployment.stage("record", interruptible=False) as report:
        problem = stages.record(deployment.run.layout, deployment.release.version)
        report.verdict = Verdict.UNKNOWN if problem else report.verdict
        report.detail = problem or f"{deployment.release.version} is on record as the release that serves."


def _watch(deployment: Deployment, tail: Tail | None) -> OpsError | None:
    """Why to switch back; None: the release stays."""
    if deployment.action is Action.ROLLBACK:
        return None
    if tail is None:
        first = deployment.previous_colour is None
        deployment.skip(
            "watch", "There is nothing to go back to." if first else "No access log is configured."
        )
        return None
    try:
        with deployment.stage("watch") as report:
            cause = watch.watch(deployment, tail, report)
    except OpsError as problem:
        # Nobody watches any more, so the release that was proven before serves again.
        return problem
    return (
        OpsError("GATE_EXCEEDED", f"{deployment.release.version} was switched back: {cause}.")
        if cause
        else None
    )


def _switch_back(deployment: Deployment, problem: OpsError) -> Record:
    layout, old = deployment.run.layout, deployment.previous_colour
    if old is None:
        raise problem
    with deployment.stage("switch_back", interruptible=False) as report:
        stages.serve_again(layout, old)
        retired = stages.retire(layout, deployment.colour)
        report.detail = f"{old} serves again. {retired}"
    before = deployment.previous.version if deployment.previous else old
    return deployment.finish(
        Result.SWITCHED_BACK, OpsError(problem.code, f"{problem.message} {before} serves again.")
    )


def protected(layout: Layout, records: list[dict[str, Any]]) -> set[str]:
    """Versions that must stay: in service, in a colour, and what a roll back would go to."""
    active = layout.active()
    held: dict[str, Release | None] = {colour: layout.held(colour) for colour in ("blue", "green")}
    versions = {release.version for release in held.values() if release}
    serving = held.get(active) if active else None
    previous = back_to(serving.version, None, records) if serving else None
    return versions | ({previous} if previous else set())


def keep(run: Run) -> list[str]:
    """Remove releases beyond ``releases_keep``; returns their versions."""
    layout = run.layout
    safe = protected(layout, journal.read(run.journal).records)
    return retention.remove(
        layout, retention.removable(layout.installed(), safe, layout.settings.releases_keep)
    )
