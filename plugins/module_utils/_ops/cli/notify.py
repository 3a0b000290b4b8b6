# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops notify``: tells everybody who is to know that a unit failed."""

from __future__ import annotations

import argparse
import os
import socket
from typing import TYPE_CHECKING

from .. import clock
from ..errors import ExitCode, OpsError
from ..telling import unit as units
from ..telling.message import Failure
from ..telling.tell import Delivery, tell
from . import show

if TYPE_CHECKING:
    from .main import Session


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``notify``."""
    from .main import common_options

    text = "tell by mail and webhook that a unit failed: cause, stage, next step"
    parser = groups.add_parser(
        "notify",
        help=text,
        description=f"{text[:1].upper()}{text[1:]}. Meant for OnFailure= of the jobs' units.",
        epilog="Exit codes: 0 at least one channel took it, 1 none did, 2 could not run.",
        parents=[common_options()],
    )
    about = parser.add_mutually_exclusive_group(required=True)
    about.add_argument("--unit", metavar="UNIT", help="the unit that failed, as pharma-backup.service")
    about.add_argument("--test", action="store_true", help="send a test message instead")
    parser.set_defaults(run=run)


def run(session: Session, arguments: argparse.Namespace) -> ExitCode:
    """Tell all channels."""
    unit = "" if arguments.test else units.checked(arguments.unit)
    failure = _of_unit(session, unit) if unit else _trial(session)
    deliveries = tell(session.config.notify, failure, clock.now())
    for delivery in deliveries:
        _log(session, delivery)
    data = {
        "failure": {"job": failure.job, "code": failure.code or None, "stage": failure.stage or None},
        "deliveries": [delivery.as_dict() for delivery in deliveries],
    }
    session.result(data, "\n".join(_line(delivery) for delivery in deliveries))
    return show.exit_code(any(delivery.error is None for delivery in deliveries))


def _log(session: Session, delivery: Delivery) -> None:
    if delivery.error:
        session.log.error("notification_failed", delivery.error, channel=delivery.channel)
    else:
        session.log.info("notification_sent", channel=delivery.channel, refused=list(delivery.refused))


def _line(delivery: Delivery) -> str:
    if delivery.error:
        return f"✗ {delivery.channel}: {delivery.error}"
    refused = f", but refused {', '.join(delivery.refused)}" if delivery.refused else ""
    return f"✓ {delivery.channel} took it{refused}"


def _trial(session: Session) -> Failure:
    return Failure(
        job="test",
        host=socket.gethostname(),
        environment=session.config.environment,
        at=clock.now(),
        test=True,
        run_id=session.run_id,
    )


def _of_unit(session: Session, unit: str) -> Failure:
    """What is known of the failure; what cannot be asked is left out, for the message must go all the same."""
    ended, cause = units.Ended(unit=unit), units.Cause()
    try:
        ended = units.ended(unit)
        lines = units.journal(ended, _invocation(unit)) or units.journal_of_cron(unit)
        cause = units.cause_of(lines, ended.result)
    except OpsError as error:
        session.log.error("unit_not_asked", error, unit=unit)
    return Failure(
        job=units.job_of(unit),
        host=socket.gethostname(),
        environment=session.config.environment,
        at=clock.now(),
        unit=unit,
        code=cause.code,
        cause=cause.message,
        action=cause.action,
        stage=cause.stage,
        started_at=ended.started_at,
        result=ended.words,
        run_id=cause.run_id,
        lines=cause.lines,
    )


def _invocation(unit: str) -> str:
    """The run that failed, as systemd names it to a unit of ``OnFailure=``: it may have been started anew since."""
    return os.environ.get("MONITOR_INVOCATION_ID", "") if os.environ.get("MONITOR_UNIT") == unit else ""
