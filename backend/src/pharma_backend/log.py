# SPDX-License-Identifier: GPL-3.0-or-later
"""Log lines (docs/schemas/log-line.schema.json): one JSON object, one write, one line.

``meta`` holds only what :data:`.events.EVENTS` allows for the event. Nothing here raises: what cannot be
rendered or written is counted (:func:`counts`), and the service goes on serving.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from . import context, foreign, scrub
from .events import EVENTS, admit
from .sink import Sink

__all__ = ["EVENTS", "configure", "counts", "error", "fatal", "info", "render", "warn"]

SERVICE = "pharma-backend"
ENVIRONMENTS = ("prod", "staging", "lab")
MAX_LINE_BYTES = 32 * 1024
LEVELS = ("debug", "info", "warn", "error", "fatal")

_env = "prod"
_process_id = "process-" + os.urandom(8).hex()
_stdout = Sink()
_sink: Callable[[bytes], None] = _stdout
_second = 0
_prefix = ""
_lines = dict.fromkeys(LEVELS, 0)
_failed = 0


def configure(env: str | None = None, sink: Callable[[bytes], None] | None = None) -> None:
    """Set the ``env`` of every line and take over what the libraries and the interpreter say.

    :param env: ``prod``, ``staging`` or ``lab``; by default what ``PHARMA_ENV`` says when it is one.
    :param sink: takes one whole line; standard output by default.
    """
    global _env, _sink
    wanted = env or os.environ.get("PHARMA_ENV", "prod")
    _env = wanted if wanted in ENVIRONMENTS else "prod"
    _sink = sink or _stdout
    foreign.take_over(_emit)
    atexit.register(flush)


def info(event: str, **meta: Any) -> None:
    """Write a line of level ``info``."""
    _emit("info", event, meta, None)


def warn(event: str, error: BaseException | None = None, **meta: Any) -> None:
    """Write a line of level ``warn``."""
    _emit("warn", event, meta, error)


def error(event: str, error: BaseException | None, **meta: Any) -> None:
    """Write a line of level ``error`` with the error's code and stack."""
    _emit("error", event, meta, error)


def fatal(event: str, error: BaseException, **meta: Any) -> None:
    """Write a line of level ``fatal``: the process ends."""
    _emit("fatal", event, meta, error)
    flush()


def refused(request: context.RequestContext, status: int) -> None:
    """Write the line of a request that never reached the application."""
    _emit("warn", "request_refused", {"status": status}, None, request)


def flush() -> None:
    """Wait at most a second until the reader of standard output has taken what is pending."""
    _stdout.flush(1.0)


def counts() -> tuple[dict[str, int], int]:
    """Lines by level, and lines that could not be rendered or written, since the process began."""
    return dict(_lines), _failed + _stdout.lost


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and ``Z``."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def render(
    level: str,
    event: str,
    meta: dict[str, Any],
    error: BaseException | None,
    *,
    request: context.RequestContext | None = None,
) -> bytes:
    """The line with its newline, at most 32 KiB.

    :param request: whose line it is; by default the request being served.
    """
    if event in EVENTS:
        admitted, dropped = admit(event, meta)
    else:
        event, admitted, dropped = "log_event_unknown", {}, len(meta)
    if dropped:
        admitted["dropped"] = dropped
    request = request or context.current()
    line: dict[str, Any] = {
        "ts": _now(),
        "level": level,
        "service": SERVICE,
        "env": _env,
        "requestId": request.request_id if request else _process_id,
    }
    if request is not None:
        if request.store_id is not None:
            line["storeId"] = request.store_id
        if request.user_id is not None:
            line["userId"] = request.user_id
        line["route"] = f"{request.method} {request.template}"
    line["msg"] = event
    line["meta"] = admitted
    if error is not None:
        line["error"] = scrub.describe(error)
    data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    return data if len(data) <= MAX_LINE_BYTES else _shortened(line)


def _shortened(line: dict[str, Any]) -> bytes:
    line["meta"] = {"truncated": True}
    if "error" in line:
        facts = line["error"]
        facts.pop("causes", None)
        facts["stack"] = facts.get("stack", [])[-5:]
        facts["message"] = facts["message"][:200]
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _now() -> str:
    global _second, _prefix
    milliseconds = time.time_ns() // 1_000_000
    second, rest = divmod(milliseconds, 1000)
    if second != _second:
        # Two threads may do this at once; each leaves a pair that is right for its own second.
        prefix = datetime.fromtimestamp(second, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        _prefix, _second = prefix, second
        return f"{prefix}{rest:03d}Z"
    return f"{_prefix}{rest:03d}Z"


def _emit(
    level: str,
    event: str,
    meta: dict[str, Any],
    error: BaseException | None,
    request: context.RequestContext | None = None,
) -> None:
    global _failed
    try:
        _sink(render(level, event, meta, error, request=request))
        _lines[level] += 1
    except Exception:  # noqa: BLE001 - no sale fails for the sake of its log line
        _failed += 1


def stderr_is_terminal() -> bool:
    """Whether a person reads what goes wrong at start."""
    return sys.stderr.isatty()
