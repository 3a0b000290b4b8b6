# SPDX-License-Identifier: GPL-3.0-or-later
"""Exceptions made fit for a log: code, type, scanned message, causes, frames without locals.

Exceptions carry what was being worked on: psycopg quotes rows, KeyError quotes keys, pydantic quotes
input. What an operator needs (type, code, names of database objects, frames) stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import psycopg

from . import scan
from .errors import CommandError, Problem

MAX_MESSAGE = scan.MAX_TEXT
MAX_FRAMES = 40
MAX_CAUSES = 5
MAX_CAUSE_FRAMES = 10
MAX_FRAME = 200

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")

# SQLSTATE classes whose messages speak of the server, not of rows.
_SERVER_CLASSES = frozenset({"08", "25", "28", "3D", "40", "42", "53", "55", "57", "58", "XX"})

# Their text repeats what stands in the line already: code and action, the number of members.
_OWN_MESSAGE = (CommandError, BaseExceptionGroup)

text = scan.text


def describe(error: BaseException) -> dict[str, Any]:
    """The ``error`` object of a line."""
    facts: dict[str, Any] = {"code": code(error), "type": type_name(error), "message": message(error)}
    causes = [
        {"relation": relation, "type": type_name(cause), "message": message(cause)}
        | ({"stack": frames} if (frames := stack(cause.__traceback__, MAX_CAUSE_FRAMES)) else {})
        for relation, cause in _causes(error)
    ]
    if causes:
        facts["causes"] = causes
    if not isinstance(error, CommandError) and not (isinstance(error, Problem) and error.status < 500):
        facts["stack"] = stack(error.__traceback__)
    return facts


def code(error: BaseException) -> str:
    """The stable code of an error of ours, else ``INTERNAL``."""
    found = error.code if isinstance(error, Problem | CommandError) else ""
    return found if _CODE.fullmatch(found) else "INTERNAL"


def type_name(error: BaseException) -> str:
    """The name of the error's class; one made at run time may be anything."""
    name = type(error).__name__
    return name if _TYPE.fullmatch(name) else "Exception"


def message(error: BaseException) -> str:
    """The text of an exception as it may stand in a log line, its notes included."""
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return _database(error)
    try:
        words = str(getattr(error, "message", error) if isinstance(error, _OWN_MESSAGE) else error)
        notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
    except Exception:  # noqa: BLE001 - a __str__ of any kind, and the line must be written
        return "[unprintable]"
    return scan.text("\n".join([words, *notes]))


def stack(trace: TracebackType | None, limit: int = MAX_FRAMES) -> list[str]:
    """Frames as ``file:line function``, innermost last, without locals; the innermost ``limit``."""
    frames: list[tuple[TracebackType, int]] = []
    while trace is not None:
        frames.append((trace, trace.tb_lineno))
        trace = trace.tb_next
    return [
        f"{each.tb_frame.f_code.co_filename}:{line} {each.tb_frame.f_code.co_name}"[-MAX_FRAME:]
        for each, line in frames[-limit:]
    ]


def _causes(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """What led to the error, nearest first, each once: causes, contexts, members of groups."""
    seen = {id(error)}
    waiting = [error]
    count = 0
    while waiting and count < MAX_CAUSES:
        for relation, found in _next(waiting.pop(0)):
            if id(found) in seen or count == MAX_CAUSES:
                continue
            seen.add(id(found))
            waiting.append(found)
            count += 1
            yield relation, found


def _next(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    if error.__cause__ is not None:
        yield "cause", error.__cause__
    elif error.__context__ is not None and not error.__suppress_context__:
        yield "context", error.__context__
    if isinstance(error, BaseExceptionGroup):
        yield from (("member", member) for member in error.exceptions)


def _database(error: psycopg.Error) -> str:
    """State and objects by name; the server's sentence only where it cannot speak of rows."""
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
        facts.append(scan.text(diag.message_primary))
    return ", ".join(facts)
