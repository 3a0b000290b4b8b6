# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops config check``: reads the host's configuration as every job will."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import ExitCode

if TYPE_CHECKING:
    from .main import Session


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group ``config``."""
    from .main import common_options

    group = groups.add_parser("config", help="the configuration of this host")
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    check = commands.add_parser("check", parents=[common_options()], help="read it and say what it is for")
    check.set_defaults(run=_check)


def _check(session: Session, _arguments: argparse.Namespace) -> ExitCode:
    # Here, not above: every command loads this module.
    from ..backup import seen
    from ..backup.retention import Policy
    from ..estate.pruning import places
    from ..telling import tell

    config = session.config
    backup, drill = config.backup, config.drill
    for name in (*(backup.stores if backup else ()), *((drill.store,) if drill else ())):
        config.store(name)
    if config.retention is not None:
        # A time zone that is none is told now and not at night.
        Policy.of(config.retention)
        places(config, None, None)
    if config.seen is not None:
        seen.targets(config)
    tell.check(config.notify)
    sections = (("backup", backup), ("drill", drill), ("retention", config.retention), ("seen", config.seen))
    jobs = [name for name, section in sections if section]
    result = {"environment": config.environment, "jobs": jobs, "stores": sorted(config.stores)}
    session.result(
        result,
        f"environment {config.environment}; jobs: {', '.join(jobs) or 'none'}; "
        f"stores: {', '.join(sorted(config.stores)) or 'none'}",
    )
    return ExitCode.PROVEN
