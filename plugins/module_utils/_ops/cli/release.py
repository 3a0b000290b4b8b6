# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops release deploy|renew|rollback|status|list|repair``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ExitCode
from ..progress import Progress, Silent
from . import show

if TYPE_CHECKING:
    from ..release.journal import Record
    from ..release.run import Outcome
    from ..release.status import Status
    from .main import Session

_EPILOG = "Exit codes: 0 it serves, 1 refused or switched back, 2 could not run."


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group ``release``."""
    group = groups.add_parser("release", help="put releases of a service into service, and back")
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    deploy = _add(commands, "deploy", "put an installed release into service", _deploy)
    deploy.add_argument("version", help="version of the release, as its directory is called")
    renew = _add(
        commands, "renew", "start the same release anew, with settings and secrets as they are now", _renew
    )
    rollback = _add(commands, "rollback", "go back to the release before", _rollback)
    rollback.add_argument("version", nargs="?", help="go back to this one instead")
    repair = _add(commands, "repair", "bring to an end what a killed deployment left", _repair)
    for parser in (deploy, renew, rollback, repair):
        parser.add_argument(
            "--who", help="who asks for it, for the journal (default: the person at the shell)"
        )
    for parser in (deploy, renew, rollback):
        parser.epilog = _EPILOG
    look = _add(commands, "status", "show what serves and what is not as it should be", _status)
    look.epilog = "Exit codes: 0 all well, 1 something is not as it should be, 2 could not run."
    _add(commands, "list", "list the installed releases", _list)


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    run: Callable[[Session, argparse.Namespace], ExitCode],
) -> argparse.ArgumentParser:
    from .main import common_options

    parser = commands.add_parser(name, help=text, description=text.capitalize(), parents=[common_options()])
    parser.add_argument("--service", help="name of the service (default: the only one on this host)")
    parser.set_defaults(run=run)
    return parser


def _deploy(session: Session, arguments: argparse.Namespace) -> ExitCode:
    return _release(session, arguments, "deploy", arguments.version)


def _renew(session: Session, arguments: argparse.Namespace) -> ExitCode:
    return _release(session, arguments, "renew", None)


def _rollback(session: Session, arguments: argparse.Namespace) -> ExitCode:
    return _release(session, arguments, "rollback", arguments.version)


def _release(session: Session, arguments: argparse.Namespace, action: str, version: str | None) -> ExitCode:
    # Here, not above: every command loads this module.
    from ..release import deployment, journal, run

    outcome = run.release(
        session.config,
        arguments.service,
        journal.Action(action),
        version=version,
        who=arguments.who or deployment.whoami(),
        log=session.log,
        progress=session.progress,
    )
    session.result(outcome.as_dict(), text_of(outcome))
    return outcome.exit_code


def text_of(outcome: Outcome) -> str:
    """The result for a person."""
    lines = [_line(record) for record in (outcome.repaired, outcome.record) if record]
    if outcome.record is None:
        lines.append(f"{outcome.version} is in service on {outcome.colour} and ready; nothing was to do.")
    return "\n".join(lines)


def _line(record: Record) -> str:
    seconds = (record.finished_at - record.started_at).total_seconds()
    cause = f"\n{record.cause}" if record.cause else ""
    requests = record.requests
    watched = (
        f"\nWatched: {requests.total} requests, {requests.errors5xx} failed with 5xx, p95 {requests.p95_seconds} s."
        if requests
        else ""
    )
    return (
        f"{record.verdict.value.upper()}  {record.service} {record.version} on {record.colour}  "
        f"{seconds:.1f} s  {record.id}{cause}{watched}"
    )


def _repair(session: Session, arguments: argparse.Namespace) -> ExitCode:
    from ..release import deployment, run

    quiet: Progress = session.progress if session.terminal else Silent()
    record = run.repair_only(
        session.config,
        arguments.service,
        who=arguments.who or deployment.whoami(),
        log=session.log,
        progress=quiet,
    )
    text = (
        _line(record)
        if record
        else "No deployment was left unfinished; what follows the link agrees with it."
    )
    session.result({"repaired": record.as_dict() if record else None}, text)
    return ExitCode.PROVEN


def _status(session: Session, arguments: argparse.Namespace) -> ExitCode:
    from ..release.status import status

    found = status(session.config, arguments.service)
    session.result(found.as_dict(), _status_text(found))
    return show.exit_code(found.healthy)


def _status_text(found: Status) -> str:
    serving = found.serving
    version = serving.release.version if serving and serving.release else "nothing"
    before = found.previous or "nothing to go back to"
    lines = [f"{found.service}: {version} serves on {found.active or 'no colour'}; before: {before}"]
    for colour in found.colours:
        held = colour.release.version if colour.release else "–"
        boot = "starts at boot" if colour.enabled else ""
        lines.append(
            f"  {colour.name:<6} {held:<20} {colour.state.active:<12} {colour.problem or 'ready'}  {boot}".rstrip()
        )
    if found.last:
        lines.append(
            f"  last: {found.last['verdict']} {found.last['version']} {found.last.get('finishedAt', '')}"
        )
    return "\n".join([*lines, *(f"✗ {problem}" for problem in found.problems)])


def _list(session: Session, arguments: argparse.Namespace) -> ExitCode:
    from ..release.status import installed

    releases = installed(session.config, arguments.service)
    lines = [
        f"{item['version']:<20} {item['installedAt']}  {item['digest'][:12]:<12}  "
        f"{'in service' if item['active'] else ', '.join(item['colours'])}"
        f"{'will be removed' if item['removable'] else ''}".rstrip()
        for item in releases
    ]
    session.result({"releases": releases}, "\n".join(lines) or "No release is installed.")
    return ExitCode.PROVEN
