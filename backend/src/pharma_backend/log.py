# SPDX-License-Identifier: GPL-3.0-or-later
"""Log lines (docs/schemas/log-line.schema.json): one JSON object, one write, one line.

``meta`` holds only the keys that :data:`EVENTS` allows for the event, so a secret cannot slip into a
line by way of a dictionary that grew. A key that is not allowed is dropped, and ``dropped`` says so.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from . import context, scrub
from .errors import CommandError, Problem

SERVICE = "pharma-backend"
MAX_LINE_BYTES = 32 * 1024

_REQUEST = "status durationMs dbTimeMs dbQueries release traceId rejectedRequestIdLength"
EVENTS: dict[str, frozenset[str]] = {
    event: frozenset(keys.split())
    for event, keys in {
        "request_completed": _REQUEST,
        "service_starting": "release version pid colour",
        "service_ready": "release startMs",
        "service_stopping": "signal drainSeconds",
        "service_stopped": "uptimeSec",
        "startup_failed": "action",
        "readiness_changed": "db failures",
        "watchdog_enabled": "intervalMs",
        "server_message": "logger text",
        "login_succeeded": "role",
        "login_failed": "reason",
        "token_refreshed": "",
        "refresh_token_reused": "revoked",
        "cash_opened": "cashSessionId openingAmount",
        "cash_closed": "cashSessionId closingAmount sales",
        "cash_totals_mismatch": "cashSessionId differences",
        "answer_replayed": "status",
        "login_throttled": "scope retrySeconds",
        "swept": "idempotencyKeys loginAttempts refreshTokens",
        "sweep_failed": "",
        "sale_created": "saleId total lines",
        "sale_cancelled": "saleId total",
        "stock_insufficient": "productId requested available",
        "payment_confirmed": "saleId amount methods",
        "database_unreachable": "stage attempts",
    }.items()
}

_env = "prod"
_process_id = "process-" + os.urandom(8).hex()
_sink: Callable[[bytes], None]


def _write_stdout(line: bytes) -> None:
    view = memoryview(line)
    while view:
        view = view[os.write(1, view) :]


_sink = _write_stdout


def configure(env: str, sink: Callable[[bytes], None] | None = None) -> None:
    """Set the ``env`` of every line and take over the loggers of the libraries.

    :param sink: takes one whole line; standard output by default.
    """
    global _env, _sink
    _env = env
    _sink = sink or _write_stdout
    logging.basicConfig(level=logging.INFO, handlers=[_LibraryHandler()], force=True)
    logging.captureWarnings(True)
    # Its start and stop are events of ours.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


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


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and ``Z``."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def describe(error: BaseException) -> dict[str, Any]:
    """The ``error`` object of a line."""
    expected = isinstance(error, Problem | CommandError)
    facts: dict[str, Any] = {
        "code": error.code if isinstance(error, Problem | CommandError) else "INTERNAL",
        "type": type(error).__name__,
        "message": scrub.message(error),
    }
    cause = error.__cause__
    if cause is not None:
        facts["cause"] = f"{type(cause).__name__}: {scrub.message(cause)}"
    if not expected or (isinstance(error, Problem) and error.status >= 500):
        facts["stack"] = scrub.stack((cause or error).__traceback__)
    return facts


def render(level: str, event: str, meta: dict[str, Any], error: BaseException | None) -> bytes:
    """The line with its newline, at most 32 KiB.

    :raises KeyError: the event is not one of :data:`EVENTS`.
    """
    request = context.current()
    allowed = EVENTS[event]
    line: dict[str, Any] = {
        "ts": timestamp(datetime.now(tz=UTC)),
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
    if not meta.keys() <= allowed:
        kept = {key: value for key, value in meta.items() if key in allowed}
        meta = kept | {"dropped": len(meta) - len(kept)}
    line["meta"] = meta
    if error is not None:
        line["error"] = describe(error)
    data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    if len(data) > MAX_LINE_BYTES:
        line["meta"] = {"truncated": True}
        if "error" in line:
            line["error"]["stack"] = line["error"].get("stack", [])[-5:]
        data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    return data


def _emit(level: str, event: str, meta: dict[str, Any], error: BaseException | None) -> None:
    try:
        _sink(render(level, event, meta, error))
    except OSError:
        # Nobody reads our output any more; the service goes on serving.
        return


class _LibraryHandler(logging.Handler):
    """What uvicorn, asyncio, psycopg and warnings say, in our format."""

    _LEVELS = ((logging.CRITICAL, "fatal"), (logging.ERROR, "error"), (logging.WARNING, "warn"))

    def emit(self, record: logging.LogRecord) -> None:
        level = next((name for number, name in self._LEVELS if record.levelno >= number), "info")
        failure = record.exc_info[1] if record.exc_info else None
        try:
            words = scrub.text(record.getMessage())
        except (TypeError, ValueError):
            words = "unprintable message"
        _emit(level, "server_message", {"logger": record.name, "text": words}, failure)


def stderr_is_terminal() -> bool:
    """Whether a person reads what goes wrong at start."""
    return sys.stderr.isatty()
