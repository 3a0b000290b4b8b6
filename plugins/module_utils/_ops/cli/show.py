# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person or a program sees of a run."""

from __future__ import annotations

import json
import sys
import traceback
from typing import TYPE_CHECKING, Any

from .. import _deps
from ..errors import ExitCode, OpsError
from ..log import Log
from ..progress import Progress

if TYPE_CHECKING:
    import rich.progress

    from .main import Session

MARKS = {"passed": "✓", "failed": "✗", "unknown": "?", "not_run": "–"}
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def out(text: str) -> None:
    """Write a result to standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def as_json(data: dict[str, Any]) -> str:
    """One JSON object on one line."""
    return json.dumps(data, ensure_ascii=False, default=str)


def size(count: float) -> str:
    """Bytes for a person: ``12.3 MiB``."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} bytes" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def error(problem: OpsError, *, as_json: bool) -> None:
    """Tell an error: code, cause, next step on standard error; with ``as_json`` on standard output too."""
    lines = [f"{problem.code}: {problem.message}"]
    if problem.action:
        lines.append(f"Next: {problem.action}")
    sys.stderr.write("\n".join(lines) + "\n")
    if as_json:
        out(json.dumps({"error": problem.as_dict()}, ensure_ascii=False))


def internal_error(problem: Exception, session: Session) -> None:
    """Tell a defect of this program so that it can be reported."""
    if not session.terminal and "config" in vars(session):
        session.log.error("internal_error", problem)
    frames = "".join(traceback.format_tb(problem.__traceback__)[-3:])
    kind = type(problem).__name__
    error(
        OpsError(
            "INTERNAL", f"A defect in pharma-ops: {kind}: {problem}\n{frames}", "Report it with these lines."
        ),
        as_json=session.as_json,
    )


def close(session: Session) -> None:
    """End the bars of a session that has any."""
    progress = vars(session).get("progress")
    if isinstance(progress, Bars):
        progress.close()


class LogProgress:
    """Progress as log lines: the beginning and the end of every step."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def started(self, step: str) -> None:
        """Log it."""
        self._log.info("step_started", step=step)

    def advanced(self, step: str, done: int, total: int | None, unit: str) -> None:
        """Say nothing: a journal needs no bar."""

    def finished(self, step: str, verdict: str, seconds: float, summary: str) -> None:
        """Log it."""
        self._log.info(
            "step_finished", step=step, verdict=verdict, seconds=round(seconds, 3), summary=summary
        )


class Bars:
    """Progress as bars on a terminal."""

    def __init__(self, bars: rich.progress.Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._bars.start()

    def started(self, step: str) -> None:
        """Show a bar for the step."""
        self._task(step)

    def _task(self, step: str) -> rich.progress.TaskID:
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=None, facts="")
        return self._tasks[step]

    def advanced(self, step: str, done: int, total: int | None, unit: str) -> None:
        """Move the bar."""
        facts = size(done) if unit == "bytes" else f"{done} {unit}"
        if total is not None:
            facts += f" of {size(total) if unit == 'bytes' else total}"
        self._bars.update(self._task(step), completed=done, total=total, facts=facts)

    def finished(self, step: str, verdict: str, seconds: float, summary: str) -> None:
        """Put a line in the place of the bar."""
        task = self._tasks.pop(step, None)
        if task is not None:
            self._bars.remove_task(task)
        mark = MARKS.get(verdict, " ")
        self._bars.console.print(
            f"{mark} {step:<16} {seconds:7.2f} s  {verdict}  {summary}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()


def terminal_progress() -> Progress:
    """Bars on standard error.

    :raises OpsError: ``LIBRARY_MISSING``.
    """
    _deps.require("rich")
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    return Bars(
        RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            TextColumn("{task.fields[facts]}"),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
        )
    )


def exit_code(proven: bool) -> ExitCode:
    """0 when proven, 1 when it ran and failed."""
    return ExitCode.PROVEN if proven else ExitCode.FAILED
