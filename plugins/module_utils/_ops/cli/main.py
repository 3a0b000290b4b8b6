# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``pharma-ops``: arguments, a session, one call into the engine, an exit code.

Every module of this package that has a function ``register(groups)`` adds a group of commands.
A command's parser sets ``run``, called with the session and the parsed arguments, and may set ``job``: the
dead man's switch of that name is told how it starts and ends.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import secrets
import signal
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from .. import __version__, config
from ..errors import ExitCode, OpsError
from ..log import Log
from ..progress import Progress
from ..telling import ping
from . import show


class Session:
    """What a command works with: made once, each part at its first use.

    :param as_json: the result is printed as one JSON object.
    :param terminal: a person watches standard error.
    """

    def __init__(self, config_path: Path, *, as_json: bool, terminal: bool) -> None:
        self.config_path = config_path
        self.as_json = as_json
        self.terminal = terminal
        self.run_id = secrets.token_hex(8)

    @cached_property
    def config(self) -> config.Config:
        """The host's configuration."""
        return config.load(self.config_path)

    @cached_property
    def log(self) -> Log:
        """JSON lines on standard error; none on a terminal, where progress is shown instead."""
        return Log(self.config.environment, self.run_id, [] if self.terminal else [sys.stderr])

    @cached_property
    def progress(self) -> Progress:
        """Bars on a terminal, log lines otherwise."""
        return show.terminal_progress() if self.terminal else show.LogProgress(self.log)

    def result(self, data: dict[str, Any], text: str) -> None:
        """Print a result: JSON or, for a person, text. The bars go first, they would wrap its lines."""
        show.close(self)
        show.out(show.as_json(data) if self.as_json else text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (docs/architecture.md)."""
    parser = build_parser()
    parsed = parser.parse_args(arguments)
    session = Session(parsed.config, as_json=parsed.json, terminal=sys.stderr.isatty())
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(_watched(session, parsed))
    except OpsError as error:
        _log_error(session, error)
        show.error(error, as_json=parsed.json)
        return int(error.exit_code)
    except KeyboardInterrupt:
        show.error(OpsError("INTERRUPTED", "The run was interrupted.", ""), as_json=parsed.json)
        return int(ExitCode.COULD_NOT_RUN)
    except Exception as error:  # noqa: BLE001 - the last resort of a command: say it, log it, exit 2
        show.internal_error(error, session)
        return int(ExitCode.COULD_NOT_RUN)
    finally:
        show.close(session)
        signal.signal(signal.SIGTERM, before)


def _watched(session: Session, parsed: argparse.Namespace) -> ExitCode:
    # A dry run is not the run that somebody waits for.
    job = "" if getattr(parsed, "dry_run", False) else getattr(parsed, "job", "")
    if not job or not (session.config_path.exists() and job in session.config.notify.pings):
        return ExitCode(parsed.run(session, parsed))
    return ping.watched(
        session.config.notify, job, session.log, lambda: ExitCode(parsed.run(session, parsed))
    )


def _log_error(session: Session, error: OpsError) -> None:
    """The error as a line for ``pharma-ops notify``, beside the sentence for people; none on a terminal."""
    if not session.terminal and "config" in vars(session):
        session.log.error("command_failed", error)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM (a unit is stopped) ends a run as Ctrl-C does: everything is cleaned up."""
    raise KeyboardInterrupt


def build_parser() -> argparse.ArgumentParser:
    """The parser with the groups of all modules of this package."""
    common = common_options(suppress=False)
    parser = argparse.ArgumentParser(
        prog="pharma-ops",
        description="Backs up a database and proves that it can be restored.",
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"pharma-ops {__version__}")
    groups = parser.add_subparsers(metavar="GROUP", required=True)
    for module in _modules():
        register = getattr(module, "register", None)
        if register is not None:
            register(groups)
    return parser


def common_options(*, suppress: bool = True) -> argparse.ArgumentParser:
    """``--config`` and ``--json``, which may stand before or after the command's words.

    :param suppress: for a command's own parser (``parents=[common_options()]``): an option that is not
        given there leaves alone what was given before.
    """
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--config",
        type=Path,
        default=argparse.SUPPRESS if suppress else config.DEFAULT_PATH,
        metavar="FILE",
        help=f"configuration of this host (default: {config.DEFAULT_PATH})",
    )
    options.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS if suppress else False,
        help="print the result as one JSON object",
    )
    return options


def _modules() -> list[ModuleType]:
    package = importlib.import_module(__package__)
    names = sorted(item.name for item in pkgutil.iter_modules(package.__path__))
    return [
        importlib.import_module(f".{name}", __package__) for name in names if name not in ("__main__", "main")
    ]
