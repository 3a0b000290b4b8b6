# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content hash of a table, exact and independent of the order of the rows.

Of every row two 64-bit hashes are made that begin with different seeds; each takes in the row's
columns one after the other, ``h = hash(column, h)``, so neither the bounds of the columns nor their
order can be mistaken, and no text has to be put together first. A table's hash is the sum of each of
the two over its rows, as numeric: the order of the rows does not matter, their number does. Integers
are taken in by value, everything else as the text of its output under pinned settings: it tells 1.0
from 1.00 and -0 from 0, and json, xml, point and tsvector have one though they have no equality.
docs/backup-format.md has the definition; a change of it is a new version of the hash.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from ..errors import OpsError
from . import catalog
from .catalog import Column, Relation
from .connection import Target, one_row, translated
from .snapshot import joined

if TYPE_CHECKING:
    from .connection import Connection

HASH_VERSION = 2
SEEDS = (1, 2)

PLAIN_TYPES = frozenset({16, 17, 26, 700, 701, 1700, 1082, 1083, 1114, 1184, 1186, 1266, 2950, 3802})
"""bool, bytea, oid, floats, numeric, dates and times, uuid, jsonb: no value's text is empty, so '' is NULL."""

TIMESTAMPTZ = 1184

TEXT_TYPES = frozenset({25, 1043, 114, 3500})
"""text, varchar, json, any enum: the text may be anything, so NULL is told apart by a flag."""

SHORT_INTEGERS = frozenset({21, 23})
"""int2, int4: hashed by value, which costs a third of their text; NULL is 0 and told apart by a flag."""

LONG_INTEGER = 20
"""int8, likewise; ``hashint8extended`` folds it to 32 bits, see :func:`_head`."""

_TEXT_HASH = "hashtextextended"
_SHORT_HASH = "hashint4extended"
_LONG_HASH = "hashint8extended"

MOST_COLUMNS_BY_THEMSELVES = 100
"""Later columns go into one row value, which keeps the depth of the expression bounded."""

_OWN_TIME: LiteralString = "RESET TimeZone"
_PINNED_TIME: LiteralString = "SET TimeZone = 'UTC'"

_LOOK_SECONDS = 0.5
"""How often a run looks whether it was abandoned."""

PART_BLOCKS = 4096
"""A big table is read in parts of at least this many pages (32 MiB)."""


@dataclass(frozen=True)
class Sum:
    """Rows and both sums of a part; parts add up."""

    rows: int = 0
    first: int = 0
    second: int = 0

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.rows + other.rows, self.first + other.first, self.second + other.second)

    @property
    def hash(self) -> str:
        """The two sums as text, ``first:second``."""
        return f"{self.first}:{self.second}"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of work of one session: the query that hashes some pages of a relation.

    :ivar own_time: run it in the time zone that the server gives a session. REFRESH does, and the
        result of a materialized view's query may depend on it (``sold_at::date``).
    """

    key: tuple[str, str]
    query: str
    bytes: int
    own_time: bool = False


def hash_query(columns: Sequence[Column], source: str, condition: str = "") -> str:
    """The statement that returns rows and both sums of a source that is called ``t``.

    :param source: what stands after FROM, such as ``ONLY pharmacy.sales AS t``.
    """
    elements = _elements(columns)
    named = ", ".join(f"{expression} AS c{number}" for number, (_hash, expression) in enumerate(elements))
    sums = ", ".join(f"COALESCE(pg_catalog.sum({_chain(elements, seed)}), 0)::text" for seed in SEEDS)
    # OFFSET 0 keeps the planner from computing each text twice, once for each seed.
    inner = f"SELECT {named or '1 AS none'} FROM {source} {condition} OFFSET 0"
    return f"SELECT pg_catalog.count(*), {sums} FROM ({inner}) AS s"


def _elements(columns: Sequence[Column]) -> list[tuple[str, str]]:
    """What a row's hash takes in, in order: the function that takes it in and the expression."""
    alone = [column for column in columns if _by_itself(column)][:MOST_COLUMNS_BY_THEMSELVES]
    rest = [column for column in columns if column not in alone]
    elements = []
    if flagged := [column for column in alone if column.type_oid not in PLAIN_TYPES]:
        elements.append((_TEXT_HASH, _head(flagged)))
    elements += [_value(column) for column in alone]
    if rest:
        row = ", ".join(f"t.{column.name}" for column in rest)
        elements.append((_TEXT_HASH, f"pg_catalog.textin(pg_catalog.record_out(ROW({row})))"))
    return elements


def _by_itself(column: Column) -> bool:
    return column.type_oid in PLAIN_TYPES | TEXT_TYPES | SHORT_INTEGERS | {LONG_INTEGER}


def _head(columns: Sequence[Column]) -> str:
    """What is not in the values as they are hashed: the NULLs, and what is beyond 32 bits.

    The hash of int8 folds a value into 32 bits. Unless all are in the range where nothing is lost by
    that, their texts follow the flags.
    """
    flags = _null_flags(columns)
    long = [column for column in columns if column.type_oid == LONG_INTEGER]
    if not long:
        return flags
    together = " | ".join(_or_zero(column) for column in long)
    texts = ", ".join(f"t.{column.name}" for column in long)
    return (
        f"CASE WHEN ({together}) >> 31 = 0 THEN {flags} ELSE pg_catalog.concat_ws(' ', {flags}, {texts}) END"
    )


def _null_flags(columns: Sequence[Column]) -> str:
    """A letter for each column, ``1`` when it is NULL; what cannot be NULL is not looked at."""
    flags: list[str] = []
    for column in columns:
        if not column.not_null:
            flags.append(f"CASE WHEN t.{column.name} IS NULL THEN '1' ELSE '0' END")
        elif flags and flags[-1].startswith("'"):
            flags[-1] = f"{flags[-1][:-1]}0'"
        else:
            flags.append("'0'")
    return " || ".join(flags)


def _value(column: Column) -> tuple[str, str]:
    if column.type_oid == LONG_INTEGER:
        return _LONG_HASH, _or_zero(column)
    if column.type_oid in SHORT_INTEGERS:
        return _SHORT_HASH, _or_zero(column)
    if column.type_oid == TIMESTAMPTZ:
        # The same instant has the same text in any time zone of the session; an interval for the zone
        # spares the look-up of a zone's name for every value.
        return _TEXT_HASH, _or(column, f"(t.{column.name} AT TIME ZONE INTERVAL '0')::pg_catalog.text", "''")
    return _TEXT_HASH, _or(column, f"t.{column.name}::pg_catalog.text", "''")


def _or_zero(column: Column) -> str:
    return _or(column, f"t.{column.name}", "0")


def _or(column: Column, expression: str, instead_of_null: str) -> str:
    return expression if column.not_null else f"COALESCE({expression}, {instead_of_null})"


def _chain(elements: Sequence[tuple[str, str]], seed: int) -> str:
    expression = f"{seed}::pg_catalog.int8"
    for number, (function, _expression) in enumerate(elements):
        collated = ' COLLATE pg_catalog."C"' if function == _TEXT_HASH else ""
        expression = f"pg_catalog.{function}(s.c{number}{collated}, {expression})"
    return expression


def parts_of(relation: Relation, columns: Sequence[Column], sessions: int) -> list[Part]:
    """Split a relation by its pages so that sessions finish together.

    The last part has no upper bound: pages that were added after the size was read hold rows too.
    """
    source = f"ONLY {relation.name} AS t"
    key = (relation.name, "stored")
    is_view = relation.kind == "materialized view"
    step = max(PART_BLOCKS, -(-relation.blocks // (sessions * 4)))
    if sessions == 1 or relation.blocks <= step or relation.condition:
        query = hash_query(columns, source, relation.condition)
        return [Part(key=key, query=query, bytes=relation.bytes, own_time=is_view)]
    bounds = list(range(0, relation.blocks, step))
    return [
        Part(
            key=key,
            query=hash_query(columns, source, _page_range(first, first + step, first == bounds[-1])),
            bytes=relation.bytes // len(bounds),
            own_time=is_view,
        )
        for first in bounds
    ]


def _page_range(first: int, past: int, last: bool) -> str:
    lower = f"WHERE t.ctid >= '({first},0)'::pg_catalog.tid"
    return lower if last else f"{lower} AND t.ctid < '({past},0)'::pg_catalog.tid"


def definition_part(relation: Relation, columns: Sequence[Column]) -> Part:
    """The work of hashing what REFRESH would make of a materialized view in this snapshot."""
    names = ", ".join(column.name for column in columns)
    source = f"({relation.definition}) AS t({names})" if names else f"({relation.definition}) AS t"
    query = hash_query(columns, source)
    return Part(key=(relation.name, "defined"), query=query, bytes=relation.bytes, own_time=True)


def hash_relation(connection: Connection, target_relation: Relation) -> Sum:
    """Rows and hash of one relation as this connection sees it, uncommitted changes included."""
    columns = catalog.columns(connection, target_relation.oid)
    source = f"ONLY {target_relation.name} AS t"
    return _execute(connection, hash_query(columns, source, target_relation.condition))


def _execute(connection: Connection, query: str) -> Sum:
    rows, first, second = one_row(connection, query.encode())
    return Sum(int(rows), int(first), int(second))


class Work:
    """Parts, biggest first, that sessions take one after the other, and what came of them.

    :param advance: called with the bytes of every part that is done.
    """

    def __init__(self, parts: Sequence[Part], advance: Callable[[int], None]) -> None:
        self._waiting = deque(sorted(parts, key=lambda part: part.bytes, reverse=True))
        self._advance = advance
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._stopped = False
        self.sums: dict[tuple[str, str], Sum] = {part.key: Sum() for part in parts}

    def session(self, target: Target, snapshot_id: str) -> None:
        """Take parts until none is left, in a connection of its own on the snapshot."""
        with joined(target, snapshot_id) as connection:
            with self._lock:
                self._connections.add(connection)
            try:
                while (part := self._take()) is not None:
                    with translated(target, f"hashing {part.key[0]}"):
                        connection.execute(_OWN_TIME if part.own_time else _PINNED_TIME)
                        result = _execute(connection, part.query)
                    self._done(part, result)
            finally:
                with self._lock:
                    self._connections.discard(connection)

    def _take(self) -> Part | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting and not self._stopped else None

    def _done(self, part: Part, result: Sum) -> None:
        with self._lock:
            self.sums[part.key] += result
            self._advance(part.bytes)

    def stop(self) -> None:
        """Let no session take more, and cancel the running statements."""
        with self._lock:
            self._stopped = True
            connections = list(self._connections)
        for connection in connections:
            with suppress(Exception):
                connection.cancel()


def run(
    work: Work,
    target: Target,
    snapshot_id: str,
    sessions: int,
    abandoned: threading.Event | None = None,
) -> dict[tuple[str, str], Sum]:
    """Do all the work in ``sessions`` parallel connections.

    :param abandoned: once set, the statements are cancelled.

    :returns: for (relation, ``stored`` or ``defined``) its sum.
    :raises OpsError: the first failure; the other sessions' statements are cancelled.
    """
    if sessions < 1:
        raise OpsError(
            "CONFIG_INVALID", f"fingerprint_sessions must be at least 1, not {sessions}.", "Correct it."
        )
    with ThreadPoolExecutor(max_workers=sessions, thread_name_prefix="fingerprint") as pool:
        try:
            futures = [pool.submit(work.session, target, snapshot_id) for _number in range(sessions)]
            done, waiting = wait(futures, _LOOK_SECONDS, FIRST_EXCEPTION)
            while waiting and not any(future.exception() for future in done):
                if abandoned is not None and abandoned.is_set():
                    raise OpsError("ABANDONED", "The hashing was given up because the backup failed.", "")
                done, waiting = wait(futures, _LOOK_SECONDS, FIRST_EXCEPTION)
            failed = next((future for future in done if future.exception()), None)
        except BaseException:
            work.stop()
            raise
        if failed is not None:
            work.stop()
            failed.result()
    return work.sums
