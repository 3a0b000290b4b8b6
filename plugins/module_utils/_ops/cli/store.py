# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops store check``: what the stores answer, and what keeps the sets there from being removed."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .. import config
from ..errors import ExitCode, OpsError
from ..store.base import Protection
from ..store.findings import Finding, days, findings
from ..store.open import open_store
from . import show

if TYPE_CHECKING:
    from .main import Session


@dataclass(frozen=True, kw_only=True)
class _Report:
    """What was found out about one store."""

    name: str
    description: str
    protection: Protection | None
    findings: list[Finding]
    error: OpsError | None

    @property
    def well(self) -> bool:
        return self.error is None and all(one.level == "note" for one in self.findings)


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group ``store``."""
    from .main import common_options

    group = groups.add_parser("store", help="the places where sets are kept")
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    check = commands.add_parser(
        "check",
        parents=[common_options()],
        help="ask the stores what they answer and what protects their objects",
        description="Reads only. What an identity may do there is not tried.",
        epilog="Exit codes: 0 all is well, 1 a store does not answer as it should or has a warning.",
    )
    check.add_argument("--store", metavar="NAME", help="this one only (default: all of the configuration)")
    check.add_argument(
        "--lock-days", type=int, default=0, metavar="DAYS", help="warn when objects are locked for less"
    )
    check.set_defaults(run=_check)


def _check(session: Session, arguments: argparse.Namespace) -> ExitCode:
    names = [arguments.store] if arguments.store else sorted(session.config.stores)
    if not names:
        raise OpsError(
            "CONFIG_INVALID", "The configuration names no store.", "Add a section [stores.<name>]."
        )
    reports = [_ask(name, session.config.store(name), arguments.lock_days) for name in names]
    session.result(
        {"stores": [_as_data(report) for report in reports]}, "\n\n".join(_as_text(one) for one in reports)
    )
    return show.exit_code(all(report.well for report in reports))


def _ask(name: str, spec: config.Store, wanted_days: int) -> _Report:
    description = name
    try:
        store = open_store(spec)
        description = store.description
        store.check()
        protection = store.protection()
    except OpsError as error:
        return _Report(name=name, description=description, protection=None, findings=[], error=error)
    return _Report(
        name=name,
        description=description,
        protection=protection,
        findings=findings(spec, protection, wanted_days),
        error=None,
    )


def _as_data(report: _Report) -> dict[str, Any]:
    return {
        "name": report.name,
        "description": report.description,
        "well": report.well,
        "protection": asdict(report.protection) if report.protection else None,
        "findings": [asdict(one) for one in report.findings],
        "error": report.error.as_dict() if report.error else None,
    }


def _as_text(report: _Report) -> str:
    mark = show.MARKS["passed" if report.well else "failed"]
    lines = [f"{mark} {report.name}  {report.description}"]
    if report.error:
        lines += [f"  {report.error.code}: {report.error.message}", f"  Next: {report.error.action}"]
    if report.protection:
        lines += [f"  {word:<18} {value}" for word, value in _facts(report.protection)]
    for one in report.findings:
        lines += [f"  {one.level}: {one.text}", *([f"    Next: {one.action}"] if one.action else [])]
    return "\n".join(lines)


def _facts(protection: Protection) -> list[tuple[str, str]]:
    default = {None: "not told", "": "none"}.get(
        protection.lock_mode, f"{protection.lock_mode}, {days(protection.lock_days or 0)}"
    )
    return [
        ("versions", _word(protection.versioning)),
        ("object lock", _word(protection.locking)),
        ("default retention", default),
    ]


def _word(answer: bool | None) -> str:
    return {None: "not told", True: "yes", False: "no"}[answer]
