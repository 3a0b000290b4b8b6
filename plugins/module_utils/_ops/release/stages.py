# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of a deployment up to the switch, and what undoes them."""

from __future__ import annotations

import time

from .. import files
from ..errors import OpsError
from ..evidence.record import Verdict
from ..journey import run as journey_run
from ..journey import spec
from . import units
from .deployment import Deployment, Report
from .journal import Action
from .layout import Layout, idle
from .probe import BASE_URL, Prober

_POLL_SECONDS = 0.1
SETTLE_SECONDS = 1.0
"""After a switch requests that were on their way still reach the other colour."""
_STOP_ATTEMPTS = 3


def check(deployment: Deployment, report: Report) -> None:
    """See that both sockets are open, so that neither a start nor the switch can fail for them.

    :raises OpsError: ``SYSTEMD_MISSING``, ``UNIT_NOT_CHANGED``, ``SOCKET_MISSING``.
    """
    layout = deployment.run.layout
    for colour in {deployment.colour, deployment.previous_colour} - {None}:
        units.start_socket(layout.socket_unit(str(colour)))
    if not layout.socket(deployment.colour).is_socket():
        raise OpsError(
            "SOCKET_MISSING",
            f"{layout.socket_unit(deployment.colour)} is open, but {layout.socket(deployment.colour)} is not there.",
            "Compare ListenStream= of that unit with socket_dir of the configuration.",
        )
    before = deployment.previous.version if deployment.previous else "nothing"
    report.detail = f"{deployment.release.version} for {deployment.colour}; {before} serves."


def migrate(deployment: Deployment, report: Report) -> None:
    """Run the new release's migrations; they only add, so the release in service works on.

    :raises OpsError: ``MIGRATION_FAILED``.
    """
    unit = deployment.run.layout.migrate_unit(deployment.release.version)
    try:
        units.run_to_end(
            unit,
            code="MIGRATION_FAILED",
            action=f"Correct the cause and deploy again; journalctl -u {unit} has all lines.",
        )
    except KeyboardInterrupt:
        units.stop(unit)
        raise
    report.detail = f"{unit} succeeded."


def start(deployment: Deployment, report: Report) -> None:
    """Start the release in the idle colour, and wait until its unit is up.

    :raises OpsError: ``RELEASE_DID_NOT_START``, ``UNIT_NOT_CHANGED``, ``FILE_NOT_WRITTEN``.
    """
    layout, colour = deployment.run.layout, deployment.colour
    deployment.own_colour("start")
    units.stop(layout.unit(colour))
    layout.assign(colour, deployment.release)
    units.start(layout.unit(colour))
    deadline = time.monotonic() + layout.settings.health_timeout_seconds
    state = units.state(layout.unit(colour))
    while not state.running:
        _must_live(layout.unit(colour), state)
        if time.monotonic() > deadline:
            raise _not_started(
                layout.unit(colour), f"was not up within {layout.settings.health_timeout_seconds} s"
            )
        time.sleep(_POLL_SECONDS)
        state = units.state(layout.unit(colour))
    report.detail = f"{layout.unit(colour)} runs as process {state.pid}."


def health(deployment: Deployment, report: Report) -> None:
    """Wait until the colour answers over its own socket that it is ready, as the release that it should be.

    :raises OpsError: ``RELEASE_NOT_READY``, ``RELEASE_DID_NOT_START``.
    """
    layout, colour = deployment.run.layout, deployment.colour
    socket, version = layout.socket(colour), deployment.release.version
    deadline = time.monotonic() + layout.settings.health_timeout_seconds
    while True:
        # First: a question to the socket of a service that has ended would start it.
        _must_live(layout.unit(colour), units.state(layout.unit(colour)))
        problem = deployment.run.prober.problem(socket, version)
        if not problem:
            break
        if time.monotonic() > deadline:
            raise OpsError(
                "RELEASE_NOT_READY",
                f"{deployment.release.version} was not ready on {colour} within "
                f"{layout.settings.health_timeout_seconds} s: {problem}. {units.last_words(layout.unit(colour))}",
                "Read what the release logs; it got no request of a client.",
            )
        time.sleep(_POLL_SECONDS)
    report.detail = f"{colour} answers ready over {socket}."


def smoke(deployment: Deployment, report: Report) -> None:
    """Walk the smoke journey on the colour's own socket.

    :raises OpsError: ``JOURNEY_MISSING``, ``JOURNEY_INVALID``, ``JOURNEY_NEEDS_DATABASE``, ``SMOKE_FAILED``.
    """
    run, settings = deployment.run, deployment.run.layout.settings
    if settings.smoke_journey_file is None:
        raise OpsError("JOURNEY_MISSING", "No smoke journey is configured.", "Set smoke_journey_file.")
    plan = spec.load(settings.smoke_journey_file)
    outcome = journey_run.run(
        plan,
        base_url=BASE_URL,
        socket=run.layout.socket(deployment.colour),
        given={"username": "", "password": "", "run_id": run.id},
        connection=None,
        on_step=lambda _name, done, total: run.progress.advanced("smoke", done, total, "steps"),
    )
    failed = [finding for finding in outcome.findings if finding.met is False]
    if not outcome.met:
        first = failed[0]
        raise OpsError(
            "SMOKE_FAILED",
            f"The smoke journey {plan.name} failed at {first.name}: expected {first.expected}, "
            f"observed {first.observed}.",
            "Correct the release; it got no request of a client.",
        )
    report.detail = f"The journey {plan.name} succeeded in {len(plan.steps)} steps."


def switch(deployment: Deployment, report: Report) -> None:
    """Flip the link, then have the rest follow it."""
    layout = deployment.run.layout
    began = time.monotonic()
    layout.flip(deployment.colour)
    deployment.switched_at = time.time()
    milliseconds = (time.monotonic() - began) * 1000
    report.detail = f"{deployment.colour} serves; the link was replaced in {milliseconds:.1f} ms."
    try:
        follow(layout, deployment.colour)
    except OpsError as problem:
        # It serves; what starts at boot is put right by the next command, and this one says so.
        report.verdict = Verdict.UNKNOWN
        report.detail += f" {problem.message}"


def follow(layout: Layout, active: str) -> bool:
    """Have all that is derived from the link agree with it: ``current``, and what starts at boot.

    :returns: whether another release was in service by ``current``.
    """
    release = layout.held(active)
    moved = release is not None and layout.point_current(release)
    units.enable_only(layout.unit(active), layout.unit(idle(active)))
    return moved


def record(layout: Layout, version: str) -> str:
    """Have it recorded that a version serves, so that a backup names it; why that failed, in words.

    It serves in any case, and whoever goes back because the database is ill must be able to.
    """
    unit = layout.record_unit(version)
    try:
        units.run_to_end(unit, code="SERVING_NOT_RECORDED", action=f"Start {unit} when its database answers.")
    except OpsError as problem:
        return str(problem)
    return ""


def withdraw(deployment: Deployment) -> None:
    """Undo what a refused deployment did to the idle colour: stopped, holding what it held."""
    if deployment.owns_colour:
        layout = deployment.run.layout
        units.stop(layout.unit(deployment.colour))
        held = deployment.held_before.version if deployment.held_before else None
        restore_slot(layout, deployment.colour, held)


def restore_slot(layout: Layout, colour: str, version: str | None) -> None:
    """Let a stopped colour hold what it held; nothing, when it held nothing that is still there."""
    known = {release.version: release for release in layout.installed()}
    if version in known:
        layout.assign(colour, known[version])
    else:
        (layout.slots / colour).unlink(missing_ok=True)
        files.sync_directory(layout.slots)


def serve_again(layout: Layout, colour: str) -> None:
    """Put the colour that served before back into service, started first when it does not run."""
    if not units.state(layout.unit(colour)).running:
        # Its socket is open: whoever is sent there before it is up waits and is served.
        units.start(layout.unit(colour))
    layout.flip(colour)
    follow(layout, colour)


def retire(layout: Layout, colour: str) -> str:
    """Stop a colour that served until now, after what was on its way has arrived; what there is to say.

    Connections that still wait in its socket start it again, and are served.
    """
    for _attempt in range(_STOP_ATTEMPTS):
        time.sleep(SETTLE_SECONDS)
        units.stop(layout.unit(colour))
        if units.state(layout.unit(colour)).dead:
            return f"{colour} was stopped."
    return f"{colour} runs on: connections that wait in its socket start it again."


def ready_to_flip(deployment: Deployment) -> bool:
    """Whether a roll back needs nothing but the link: the colour runs the wanted release and is ready."""
    layout, colour = deployment.run.layout, deployment.colour
    held = layout.held(colour)
    if deployment.action is not Action.ROLLBACK or held is None or held != deployment.release:
        return False
    return is_ready(layout, deployment.run.prober, colour, held.version)


def is_ready(layout: Layout, prober: Prober, colour: str, version: str) -> bool:
    """Whether a colour runs and says that it is ready with that version; a stopped one is not asked."""
    if not units.state(layout.unit(colour)).running:
        return False
    return not prober.problem(layout.socket(colour), version)


def _must_live(unit: str, state: units.State) -> None:
    if state.dead or state.restarts:
        raise _not_started(unit, "ended before it was ready")


def _not_started(unit: str, how: str) -> OpsError:
    return OpsError(
        "RELEASE_DID_NOT_START",
        f"{unit} {how}. {units.last_words(unit)}",
        f"Read journalctl -u {unit}; the release got no request of a client.",
    )
