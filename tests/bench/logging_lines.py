# SPDX-License-Identifier: GPL-3.0-or-later
"""The cost of one line: ours, the standard library with a JSON formatter, structlog with orjson.

Equal work: the same facts and context in the same line, the same typed allow-list and the same scan of free
text (both of :mod:`pharma_backend`), one write to the same descriptor. What differs is the logger.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from pythonjsonlogger.json import JsonFormatter

from pharma_backend import context, events, log
from pharma_backend.sink import Sink

# Two lines as they come: the canonical one of a payment, and a library's sentence.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "request_completed": (
        "request_completed",
        {
            "status": 200,
            "durationMs": 14.27,
            "dbTimeMs": 9.81,
            "dbQueries": 9,
            "release": "0.1.0+0123456789ab",
        },
    ),
    "server_message (scanned)": (
        "server_message",
        {
            "logger": "psycopg.pool",
            "text": "error connecting in pool: connection timeout expired after 5 s, 12 requests wait",
        },
    ),
}

Write = Callable[[str, dict[str, Any]], None]


class _Route:
    path = "/sales/{id}/pay"


def measure(rounds: int, lines: int) -> dict[str, dict[str, list[float]]]:
    """Microseconds for a line, by kind of line and logger, one value for each round; loggers take turns."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    scope = {"method": "POST", "route": _Route()}
    token = context.enter(
        context.RequestContext("4bf92f3577b34da6a3ce929d0e0e4736", scope=scope, store_id="3", user_id="17")
    )
    loggers = make_loggers(descriptor)
    found: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in loggers} for kind in KINDS}
    names = list(loggers)
    for number in range(rounds):
        for kind, (event, meta) in KINDS.items():
            # Each round begins with another logger, so that none always has the warm or the cold machine.
            for name in names[number % 3 :] + names[: number % 3]:
                found[kind][name].append(_cost(loggers[name], event, meta, lines))
    context.leave(token)
    log.configure("lab")
    os.close(descriptor)
    return found


def make_loggers(descriptor: int) -> dict[str, Write]:
    """Each logger by its name, writing to the descriptor; ours is configured for the process."""
    log.configure("lab", Sink(descriptor))
    return {
        "pharma_backend.log": lambda event, meta: log.info(event, **meta),
        "logging + JSON formatter": _standard(descriptor),
        "structlog + orjson": _structlog(descriptor),
    }


def _cost(write: Write, event: str, meta: dict[str, Any], lines: int) -> float:
    for _ in range(200):
        write(event, meta)
    gc.collect()
    # Time of the processor, the system's part of the writes included: other work on the machine does not count.
    began = time.thread_time()
    for _ in range(lines):
        write(event, meta)
    return (time.thread_time() - began) / lines * 1e6


def _facts(event: str, meta: dict[str, Any], level: str) -> dict[str, Any]:
    """What stands in every line, in the order of ours."""
    request = context.current()
    if request is None:
        raise LookupError("the benchmark runs inside a request")
    admitted, _ = events.admit(event, meta)
    moment = datetime.now(tz=UTC)
    return {
        "ts": log.timestamp(moment),
        "level": level,
        "service": log.SERVICE,
        "env": "lab",
        "requestId": request.request_id,
        "storeId": request.store_id,
        "userId": request.user_id,
        "route": f"{request.method} {request.template}",
        "msg": event,
        "meta": admitted,
    }


def _standard(descriptor: int) -> Write:
    class Formatter(JsonFormatter):
        """The package's formatter, filled with our facts."""

        def add_fields(
            self,
            log_data: dict[str, Any],
            record: logging.LogRecord,
            message_dict: dict[str, Any],  # noqa: ARG002 - the package's signature
        ) -> None:
            log_data.update(_facts(record.msg, record.__dict__["meta"], "info"))

    logger = logging.Logger("bench", logging.INFO)
    stream = os.fdopen(os.dup(descriptor), "w")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Formatter())
    logger.addHandler(handler)
    return lambda event, meta: logger.info(event, extra={"meta": meta})


def _structlog(descriptor: int) -> Write:
    def facts(_logger: object, method: str, event: Any) -> Any:
        return _facts(event.pop("event"), event, method)

    logger = structlog.wrap_logger(
        structlog.BytesLogger(os.fdopen(os.dup(descriptor), "wb")),
        processors=[
            structlog.contextvars.merge_contextvars,
            facts,
            structlog.processors.JSONRenderer(orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    ).bind()
    return lambda event, meta: logger.info(event, **meta)
