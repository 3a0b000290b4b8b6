# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways by which a text of the corpus comes to the log: errors, causes, libraries, warnings, meta."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import psycopg

from pharma_backend import log
from pharma_backend.errors import CommandError, Problem

COMPLETED: dict[str, Any] = {
    "status": 200,
    "durationMs": 1.5,
    "dbTimeMs": 0.5,
    "dbQueries": 2,
    "release": "0.1.0+0123456789ab",
}


def say(carrier: str, body: Any) -> None:
    """Bring a filled body to the log, as the carrier does."""
    if carrier == "meta":
        facts = COMPLETED if body["event"] == "request_completed" else {}
        log.info(body["event"], **facts | body["meta"])
        return
    if isinstance(body, dict) and "pad" in body:
        body = {"text": ("lorem ipsum " * 2000)[: body["pad"]] + " " + body["text"]}
    text = body if isinstance(body, str) else body["text"]
    if carrier == "database":
        _database(text, body["sqlstate"])
    else:
        CARRIERS[carrier](text)


def _raised(
    error: BaseException, *, after: BaseException | None = None, cause: BaseException | None = None
) -> None:
    try:
        try:
            if after is not None:
                raise after
        finally:
            raise error from cause if cause is not None else error.__cause__
    except BaseException as caught:  # noqa: BLE001 - it is what the handler would log
        log.error("server_message", caught, logger="x", text="it failed")


def _context(text: str) -> None:
    try:
        try:
            raise ValueError(text)
        except ValueError:
            raise RuntimeError("it failed")  # noqa: B904 - a context is wanted
    except RuntimeError as error:
        log.error("server_message", error, logger="x", text="it failed")


def _note(text: str) -> None:
    error = ValueError("it failed")
    error.add_note(text)
    _raised(error)


def _command(text: str) -> None:
    log.fatal("startup_failed", CommandError("SETTING_INVALID", text, text), action=text)


def _database(text: str, sqlstate: str) -> None:
    kind = type("UniqueViolation", (psycopg.DatabaseError,), {"sqlstate": sqlstate or None})
    _raised(kind(text))


def _access(text: str) -> None:
    logger = logging.getLogger("uvicorn.access")
    logger.info('%s - "%s %s HTTP/%s" %d', "10.0.0.1:5", "GET", text, "1.1", 200)


CARRIERS: dict[str, Callable[[str], None]] = {
    "error": lambda text: _raised(ValueError(text)),
    "cause": lambda text: _raised(RuntimeError("it failed"), cause=ValueError(text)),
    "context": _context,
    "note": _note,
    "group": lambda text: _raised(ExceptionGroup("two", [OSError("fine"), ValueError(text)])),
    "key": lambda text: _raised(KeyError(text)),
    "argument": lambda text: _raised(ValueError("it failed", {"a": [{"b": text}]})),
    "command": _command,
    "problem": lambda text: _raised(Problem("VALIDATION_FAILED", 500, "No", text)),
    "library": lambda text: logging.getLogger("uvicorn.error").error("%s", text),
    "warning": lambda text: warnings.showwarning(UserWarning(text), UserWarning, "/x/y/z.py", 1),
    "access": _access,
}
