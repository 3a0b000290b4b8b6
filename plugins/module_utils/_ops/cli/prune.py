# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops backup prune``: which sets go and why, and the removal of them."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .. import _deps, config
from ..errors import ExitCode
from . import show

if TYPE_CHECKING:
    from ..backup.prune import Outcome
    from ..backup.retention import Decision
    from ..estate.pruning import Pruned
    from .main import Session

_COLUMNS = ("id", "made", "age", "size", "decision", "reason")
_RIGHT = {"age", "size"}
_TEXT = "remove the sets that the policy lets go, and say why each is kept or goes"


def register_in(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the group ``backup``."""
    from .main import common_options

    parser = commands.add_parser(
        "prune",
        help=_TEXT,
        description=_TEXT.capitalize() + ".",
        epilog="Exit codes: 0 done, 1 blocked or not all could be removed, 2 could not run.",
        parents=[common_options()],
    )
    parser.add_argument("--dry-run", action=_DryRun, help="show the plan and remove nothing")
    parser.add_argument("--store", help="only this store (default: all of retention.stores)")
    parser.add_argument("--database", help="only this database (default: all of retention.databases)")
    parser.set_defaults(run=prune, job="prune", dry_run=False)


class _DryRun(argparse.Action):
    """A dry run is not the job that a dead man's switch waits for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=False, help=help)

    def __call__(self, _parser: object, namespace: argparse.Namespace, *_: object) -> None:
        namespace.dry_run, namespace.job = True, ""


def prune(session: Session, arguments: argparse.Namespace) -> ExitCode:
    """Plan, and unless it is a dry run, remove."""
    # Here, not above: every command loads this module, and only this one needs the ledger and the stores.
    from ..estate import pruning

    settings, only = session.config, {"store": arguments.store, "database": arguments.database}
    dry_run: bool = arguments.dry_run
    results = pruning.look(settings, **only) if dry_run else pruning.run(settings, session.log, **only)
    code = max((one.exit_code for one in results), default=ExitCode.PROVEN)
    data = {"dry_run": dry_run, "places": [one.as_dict() for one in results]}
    session.result(data, text_of(results, settings, dry_run=dry_run, pretty=sys.stdout.isatty()))
    for one in results:
        if one.problem is not None:
            show.error(one.problem, as_json=False)
    return code


def text_of(results: list[Pruned], settings: config.Config, *, dry_run: bool, pretty: bool) -> str:
    """A table for each place and a line that sums it up; ``pretty`` for a terminal."""
    from ..backup.retention import Policy

    zone = Policy.of(settings.retention or config.Retention()).zone
    parts = []
    for one in results:
        if one.outcome is None:
            parts.append(f"{one.database} in {one.store}: nothing was looked at.")
            continue
        plan = one.outcome.survey.plan
        rows = [_row(decision, plan.now, zone) for decision in plan.decisions]
        if rows:
            parts.append(_pretty(rows) if pretty else _plain(rows))
        parts += [
            f"unfinished upload of {upload.key}, begun {upload.started.astimezone(zone):%Y-%m-%d %H:%M}: goes"
            for upload in one.outcome.survey.uploads
        ]
        parts.append(_summary(one.outcome, dry_run=dry_run))
    return "\n".join(parts)


def _row(decision: Decision, now: datetime, zone: Any) -> tuple[str, ...]:
    one = decision.candidate
    return (
        one.id,
        f"{one.started_at.astimezone(zone):%a %Y-%m-%d %H:%M}",
        _age(now - one.started_at),
        show.size(one.bytes),
        decision.action,
        ", ".join(decision.reasons),
    )


def _age(span: timedelta) -> str:
    hours = span / timedelta(hours=1)
    return f"{hours:.0f} h" if abs(hours) < 48 else f"{hours / 24:.0f} d"


def _summary(outcome: Outcome, *, dry_run: bool) -> str:
    survey = outcome.survey
    where = f"{survey.database} in {survey.description}"
    count = len(survey.plan.decisions)
    if survey.plan.block:
        return f"{where}: {count} sets, all kept. Pruning is blocked: {survey.plan.block.message}"
    freed = sum(one.bytes for one in survey.plan.removed) if dry_run else outcome.bytes_freed
    gone = len(survey.plan.removed) if dry_run else len(outcome.removed)
    uploads = len(survey.uploads) if dry_run else outcome.uploads_aborted
    done = "would be removed" if dry_run else "removed"
    freed_text = f", {show.size(freed)} {'would be freed' if dry_run else 'freed'}"
    more = f"; unfinished uploads {done}: {uploads}" if uploads else ""
    left = f"; {len(outcome.not_removed)} could not be removed" if outcome.not_removed else ""
    return f"{where}: {count} sets, {count - gone} kept, {gone} {done}{freed_text}{more}{left}."


def _plain(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[place]) for row in (_COLUMNS, *rows)) for place in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(_COLUMNS, row, widths, strict=True)
        ).rstrip()
        for row in (_COLUMNS, *rows)
    )


def _pretty(rows: list[tuple[str, ...]]) -> str:
    _deps.require("rich")
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in _COLUMNS:
        table.add_column(
            name, justify="right" if name in _RIGHT else "left", no_wrap=name != "reason", overflow="fold"
        )
    for row in rows:
        table.add_row(*row, style="red" if row[4] == "remove" else None)
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, highlight=False, markup=False).print(table)
    return stream.getvalue().rstrip("\n")
