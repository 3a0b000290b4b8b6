# SPDX-License-Identifier: GPL-3.0-or-later
"""What others say in this process, in our format: libraries, warnings, exceptions that nobody caught."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import PurePath
from types import TracebackType
from typing import Any, TextIO

from . import context

Emit = Callable[[str, str, dict[str, Any], BaseException | None], None]

_LEVELS = ((logging.CRITICAL, "fatal"), (logging.ERROR, "error"), (logging.WARNING, "warn"))


def take_over(emit: Emit) -> None:
    """Route logging, warnings and the interpreter's last words to ``emit``."""
    logging.basicConfig(level=logging.INFO, handlers=[_Handler(emit)], force=True)
    # A handler that fails must not print to standard error.
    logging.raiseExceptions = False
    # Its start and stop are events of ours.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    _take_over_warnings(emit)
    _take_over_exceptions(emit)


class _Handler(logging.Handler):
    """Records of uvicorn, asyncio, psycopg and whatever else uses :mod:`logging`."""

    def __init__(self, emit: Emit) -> None:
        super().__init__()
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        level = next((name for number, name in _LEVELS if record.levelno >= number), "info")
        failure = record.exc_info[1] if record.exc_info else None
        with context.outside_unless_serving():
            if record.name == "uvicorn.access":
                self._emit(level, "server_access", _access(record.args), None)
            else:
                meta = {"logger": record.name, "text": _words(record)}
                self._emit(level, "server_message", meta, failure)


def _access(arguments: Any) -> dict[str, Any]:
    """Method and status of uvicorn's access record; its path may hold anything."""
    if not isinstance(arguments, tuple) or len(arguments) != 5:
        return {}
    method = arguments[1] if arguments[1] in context.METHODS else "OTHER"
    return {"method": method, "status": arguments[4]}


def _words(record: logging.LogRecord) -> str:
    try:
        words = record.getMessage().strip()
    except Exception:  # noqa: BLE001 - a __str__ or __format__ of any kind
        return "unprintable message"
    if words.startswith("Traceback (most recent call last)"):
        # Source lines and frames; the last line is the exception.
        return words.rpartition("\n")[2]
    # asyncio's further lines are representations of tasks and transports.
    return words.partition("\n")[0] if record.name == "asyncio" else words


def _take_over_warnings(emit: Emit) -> None:
    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,  # noqa: ARG001 - the signature of warnings.showwarning
        line: str | None = None,  # noqa: ARG001 - the signature of warnings.showwarning
    ) -> None:
        place = "/".join(PurePath(filename).parts[-2:])
        meta = {"category": category.__name__, "text": str(message), "file": place, "line": lineno}
        emit("warn", "python_warning", meta, None)

    warnings.showwarning = show


def _take_over_exceptions(emit: Emit) -> None:
    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        emit("fatal", "uncaught_exception", {"where": "main"}, error.with_traceback(trace))

    def in_thread(facts: threading.ExceptHookArgs) -> None:
        if facts.exc_value is not None and not isinstance(facts.exc_value, SystemExit):
            emit("error", "uncaught_exception", {"where": "thread"}, facts.exc_value)

    def unraisable(facts: Any) -> None:
        if facts.exc_value is not None:
            emit("error", "uncaught_exception", {"where": "finalizer"}, facts.exc_value)

    sys.excepthook = uncaught
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable
