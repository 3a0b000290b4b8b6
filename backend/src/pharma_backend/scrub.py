# SPDX-License-Identifier: GPL-3.0-or-later
"""Text of exceptions and libraries made fit for a log: no secret, nobody's data.

Exceptions carry what was being worked on: psycopg quotes rows, KeyError quotes keys, pydantic quotes
input. What may hold data is masked; what an operator needs (type, code, object names, stack) stays.
"""

from __future__ import annotations

import re
import traceback
from types import TracebackType

import psycopg

from .errors import CommandError, Problem

MAX_MESSAGE = 1000
MAX_FRAMES = 40

_NAME = r"[A-ZÀ-Ý][\wÀ-ÿ'-]+"
_MASKS = (
    (re.compile(r"\bBearer\s+\S+", re.IGNORECASE), "[token]"),
    (re.compile(r"\b[a-z][a-z0-9+.]*://\S+", re.IGNORECASE), "[url]"),
    (
        re.compile(r"\b(password|passwd|secret|token|authorization)\b\s*[=:]\s*\S+", re.IGNORECASE),
        r"\1=[masked]",
    ),
    (re.compile(r"\beyJ[\w-]*\.[\w.-]*"), "[token]"),
    (re.compile(r"[^\s@'\"<>()]+@[^\s@'\"<>()]+"), "[email]"),
    (re.compile(r"(?<![\w])'[^']*'|\"[^\"]*\"|`[^`]*`"), "[value]"),
    (re.compile(r"\d(?:[ ./-]?\d){4,}"), "[digits]"),
    (re.compile(rf"{_NAME}(?:\s+(?:(?:d[aeo]s?|e)\s+)?{_NAME})+"), "[name]"),
    (re.compile(r"[A-Za-z0-9_+/=-]{32,}"), "[token]"),
)

# SQLSTATE classes whose messages speak of the server, not of rows.
_SERVER_CLASSES = frozenset({"08", "25", "28", "3D", "40", "42", "53", "55", "57", "58", "XX"})


def text(value: str) -> str:
    """Mask what looks like a secret or personal data."""
    for pattern, mask in _MASKS:
        value = pattern.sub(mask, value)
    return value[:MAX_MESSAGE]


def message(error: BaseException) -> str:
    """The text of an exception as it may stand in a log line."""
    if isinstance(error, CommandError):
        return error.message[:MAX_MESSAGE]
    if isinstance(error, Problem):
        return str(error)[:MAX_MESSAGE]
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return _database(error)
    return text(str(error))


def stack(trace: TracebackType | None) -> list[str]:
    """Frames as ``file:line function``, innermost last, without locals; the last 40."""
    return [
        f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)[-MAX_FRAMES:]
    ]


def _database(error: psycopg.Error) -> str:
    diag = error.diag
    facts = [f"SQLSTATE {error.sqlstate}"]
    for label, name in (
        ("schema", diag.schema_name),
        ("table", diag.table_name),
        ("column", diag.column_name),
        ("constraint", diag.constraint_name),
    ):
        if name:
            facts.append(f"{label} {name}")
    if (error.sqlstate or "")[:2] in _SERVER_CLASSES and diag.message_primary:
        facts.append(text(diag.message_primary))
    return ", ".join(facts)
