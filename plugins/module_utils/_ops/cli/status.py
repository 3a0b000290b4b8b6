# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops status``: the whole estate on one screen, as far as this host knows it."""

from __future__ import annotations

import argparse
import io
import sys
import textwrap
from typing import TYPE_CHECKING

from .. import _deps
from ..errors import ExitCode
from ..estate.gather import gather
from ..estate.judge import Item, State, Status, judge

if TYPE_CHECKING:
    from rich.text import Text

    from .main import Session

MARKS: dict[State, str] = {"healthy": "✓", "warning": "!", "critical": "✗", "unknown": "?"}
_STYLES: dict[State, str] = {
    "healthy": "green",
    "warning": "yellow",
    "critical": "bold red",
    "unknown": "magenta",
}
_PLAIN_COLUMNS = 110


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``status``."""
    from .main import common_options

    text = "the whole estate on one screen, as far as this host knows it, problems first"
    parser = groups.add_parser(
        "status",
        help=text,
        description=f"{text[:1].upper()}{text[1:]}.",
        epilog="Exit codes: 0 healthy, 1 not healthy, 2 something could not be looked at.",
        parents=[common_options()],
    )
    parser.add_argument("--offline", action="store_true", help="do not ask the stores")
    parser.set_defaults(run=run)


def run(session: Session, arguments: argparse.Namespace) -> ExitCode:
    """Show the estate."""
    status = judge(gather(session.config, offline=arguments.offline))
    text = table(status) if sys.stdout.isatty() and not session.as_json else plain(status)
    session.result(status.as_dict(), text)
    return status.exit_code


def headline(status: Status) -> str:
    """One line that says it all."""
    counts = {state: sum(item.state == state for item in status.items) for state in MARKS}
    words = {"critical": "critical", "warning": "warning", "unknown": "not known"}
    bad = ", ".join(f"{counts[state]} {word}" for state, word in words.items() if counts[state])  # type: ignore[index]
    moment = f"{status.at:%Y-%m-%d %H:%M} UTC"
    return f"{status.verdict.upper()}  {status.host} ({status.environment}), {moment}" + (
        f": {bad}" if bad else ""
    )


def plain(status: Status) -> str:
    """The screen for a file or a pipe."""
    widths = [
        max((len(getattr(item, name)) for item in status.items), default=0) for name in ("section", "name")
    ]
    lines = [headline(status), ""]
    indent = " " * (sum(widths) + 6)
    for item in status.items:
        start = f"{MARKS[item.state]} {item.section:<{widths[0]}}  {item.name:<{widths[1]}}  "
        lines += textwrap.wrap(
            item.sentence,
            _PLAIN_COLUMNS,
            initial_indent=start,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        if item.action:
            lines += textwrap.wrap(
                f"→ {item.action}", _PLAIN_COLUMNS, initial_indent=indent, subsequent_indent=indent + "  ",
                break_on_hyphens=False,
            )  # fmt: skip
    return "\n".join(lines)


def table(status: Status, width: int | None = None) -> str:
    """The screen for a terminal, with colours beside the marks.

    :raises OpsError: ``LIBRARY_MISSING``.
    """
    _deps.require("rich")
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=io.StringIO(), force_terminal=True, width=width or Console().width)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=False)
    grid.add_column("")
    grid.add_column("what", no_wrap=True)
    grid.add_column("which", overflow="fold")
    grid.add_column("how it is", overflow="fold", ratio=1)
    before = ""
    for item in status.items:
        group = "healthy" if item.state == "healthy" else "problem"
        if before and group != before:
            grid.add_section()
        before = group
        grid.add_row(Text(MARKS[item.state], _STYLES[item.state]), item.section, item.name, _told(item))
    console.print(Text(headline(status), _STYLES[status.verdict]))
    console.print()
    console.print(grid)
    return str(console.file.getvalue()).rstrip()  # type: ignore[attr-defined]


def _told(item: Item) -> Text:
    from rich.text import Text

    text = Text(item.sentence, "" if item.state == "healthy" else _STYLES[item.state])
    if item.action:
        text.append(f"\n→ {item.action}", "bold")
    return text
