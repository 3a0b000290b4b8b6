# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that a database holds, as plain data that can be compared."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, LiteralString

from ..progress import Progress
from . import catalog, fingerprint, largeobjects, sequences, structure
from .catalog import Relation
from .compare import Difference, compare
from .connection import Target, translated
from .fingerprint import Sum, Work
from .largeobjects import LargeObjects
from .sequences import SequenceRange
from .snapshot import exported, joined

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Content", "Difference", "SequenceRange", "TableContent", "compare", "hash_table", "read_content"]

STEP = "fingerprint"

_CLOCK_WORDS: LiteralString = (
    r"\m(now|current_date|current_time|current_timestamp|localtime|localtimestamp|clock_timestamp|"
    r"statement_timestamp|transaction_timestamp|random|gen_random_uuid|age)\M"
)


@dataclass(frozen=True, kw_only=True)
class TableContent:
    """Rows and content hash of a table or materialized view.

    A materialized view is restored by REFRESH, so what counts is ``defined_hash``: the hash of its
    query evaluated in the snapshot. ``hash`` is what it stored then; when the two differ it is stale.

    :ivar kind: ``table`` or ``materialized view``.
    :ivar populated: False for a materialized view WITH NO DATA; its hashes are then empty.
    :ivar undecided: why the query's result here does not settle what REFRESH makes elsewhere (it reads
        the clock, or a stale view); such a view is right when it equals its own query where it stands.
    """

    kind: str
    rows: int
    hash: str
    populated: bool = True
    defined_rows: int | None = None
    defined_hash: str | None = None
    undecided: str = ""

    @property
    def stale(self) -> bool:
        """Whether a materialized view stored something else than its query gives."""
        return self.defined_hash is not None and self.defined_hash != self.hash


@dataclass(frozen=True, kw_only=True)
class Content:
    """What was read of one database in one snapshot.

    :ivar server_version: ``server_version_num``, such as 170005.
    :ivar hash_version: version of the content hash's definition (docs/backup-format.md).
    :ivar tables: by quoted name (``pharmacy.sales``).
    :ivar structure: name of each object (``table pharmacy.sales``) and what defines it.
    :ivar extensions: name and version.
    :ivar roles: name of each role of the cluster, its attributes and memberships.
    :ivar locale: provider, collate, ctype, locale, version of the collation library, and the server's
        own timezone, which a materialized view's query may depend on.
    """

    server_version: int
    encoding: str
    tables: dict[str, TableContent]
    sequences: dict[str, SequenceRange]
    structure: dict[str, str]
    extensions: dict[str, str]
    large_objects: LargeObjects
    roles: dict[str, str] = field(default_factory=dict)
    locale: dict[str, str] = field(default_factory=dict)
    hash_version: int = fingerprint.HASH_VERSION

    @property
    def rows(self) -> int:
        """Rows of all tables, materialized views not counted."""
        return sum(table.rows for table in self.tables.values() if table.kind == "table")

    def to_dict(self) -> dict[str, Any]:
        """JSON values; :meth:`from_dict` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Content:
        """Read what :meth:`to_dict` made.

        :raises ValueError: a key is missing, unknown or of the wrong type.
        """
        parts: dict[str, Any] = {
            "tables": _each(TableContent, data, "tables"),
            "sequences": _each(SequenceRange, data, "sequences"),
            "large_objects": _one(LargeObjects, data.get("large_objects"), "large_objects"),
        }
        content: Content = _one(cls, dict(data) | parts, "content")
        return content


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "int | None": (int, type(None)),
    "str | None": (str, type(None)),
    "LargeObjects": (LargeObjects,),
}


def _each(kind: type, data: Mapping[str, Any], key: str) -> dict[str, Any]:
    values = data.get(key)
    if not isinstance(values, dict):
        raise ValueError(f"{key} is missing or not an object")
    return {name: _one(kind, value, f"{key}[{name}]") for name, value in values.items()}


def _one(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is missing or not an object")
    fields = {spec.name: spec for spec in dataclasses.fields(kind)}
    if odd := set(value) ^ set(fields):
        word = "has an unknown key" if odd & set(value) else "lacks the key"
        raise ValueError(f"{where} {word} {min(odd)}")
    for name, spec in fields.items():
        if not _fits(value[name], str(spec.type)):
            raise ValueError(f"{where}.{name} is not of type {spec.type}")
    return kind(**value)


def _fits(value: Any, kind: str) -> bool:
    if kind.startswith("dict"):
        texts = kind == "dict[str, str]"
        return isinstance(value, dict) and (
            not texts or all(isinstance(text, str) for text in value.values())
        )
    return isinstance(value, _TYPES[kind]) and (isinstance(value, bool) is (kind == "bool"))


def read_content(
    target: Target,
    *,
    snapshot: str | None,
    sessions: int,
    progress: Progress,
    abandoned: threading.Event | None = None,
) -> Content:
    """Read and hash a whole database in one snapshot.

    :param snapshot: an exported snapshot's name; None: one of our own.
    :param sessions: connections that hash in parallel, beside one that holds the snapshot.
    :param abandoned: once set, running statements are cancelled and the reading fails.
    :raises OpsError: what :mod:`.connection` lists, ``BACKUP_ROLE_CANNOT_READ``,
        ``ROW_SECURITY_HIDES_ROWS``; the message names the table.
    """
    with ExitStack() as stack:
        if snapshot is None:
            connection, own = stack.enter_context(exported(target))
            snapshot = own.id
        else:
            connection = stack.enter_context(joined(target, snapshot))
        with translated(target, "listing the tables"):
            relations = catalog.relations(connection)
        catalog.check_readable(target, relations)
        catalog.lock(connection, target, relations)
        with translated(target, "reading the structure"):
            positions = sequences.read(connection)
            server = catalog.server(connection)
            facts = structure.read(connection)
            roles = structure.read_roles(connection)
            extensions = dict(connection.execute("SELECT extname, extversion FROM pg_extension").fetchall())
            undecided = _undecided(connection, relations)
            work = _plan(connection, relations, sessions, progress)
        sums = fingerprint.run(work, target, snapshot, sessions, abandoned)
        return Content(
            server_version=server.version,
            encoding=server.encoding,
            locale=server.locale,
            tables=_tables(relations, sums, undecided, catalog.views_below(connection)),
            sequences=sequences.between(positions, positions),
            structure=facts,
            extensions=extensions,
            roles=roles,
            large_objects=largeobjects.read(connection, target),
        )


def _plan(connection: Connection, relations: list[Relation], sessions: int, progress: Progress) -> Work:
    parts = []
    for relation in relations:
        columns = catalog.columns(connection, relation.oid)
        if relation.populated:
            parts += fingerprint.parts_of(relation, columns, sessions)
            if relation.kind == "materialized view":
                parts.append(fingerprint.definition_part(relation, columns))
    total = sum(part.bytes for part in parts)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress.advanced(STEP, done, total, "bytes")

    return Work(parts, advance)


def _undecided(connection: Connection, relations: list[Relation]) -> dict[int, str]:
    """Materialized views whose query asks the clock or chance."""
    found: dict[int, str] = {}
    for relation in relations:
        if relation.kind == "materialized view":
            row = connection.execute("SELECT %s::text ~* %s", (relation.definition, _CLOCK_WORDS)).fetchone()
            if row and row[0]:
                found[relation.oid] = "its query may ask the clock or chance"
    return found


def _tables(
    relations: list[Relation],
    sums: Mapping[tuple[str, str], Sum],
    undecided: Mapping[int, str],
    below: Mapping[int, set[int]],
) -> dict[str, TableContent]:
    stale = {
        relation.oid: relation.name
        for relation in relations
        if (relation.name, "defined") in sums
        and sums[relation.name, "defined"] != sums[relation.name, "stored"]
    }
    unsure = set(stale) | set(undecided)
    tables: dict[str, TableContent] = {}
    for relation in relations:
        stored = sums.get((relation.name, "stored"), Sum())
        defined = sums.get((relation.name, "defined"))
        reason = undecided.get(relation.oid, "")
        if not reason and below.get(relation.oid, set()) & unsure:
            reason = "it reads a materialized view that is stale or undecided"
        tables[relation.name] = TableContent(
            kind=relation.kind,
            rows=stored.rows,
            hash=stored.hash if relation.populated else "",
            populated=relation.populated,
            defined_rows=defined.rows if defined else None,
            defined_hash=defined.hash if defined else None,
            undecided=reason,
        )
    return tables


def hash_table(connection: Connection, relation: str) -> TableContent:
    """Rows and hash of one table as this connection sees it, its own uncommitted changes included.

    :param relation: the name as it stands in :attr:`Content.tables`.
    :raises OpsError: ``TABLE_MISSING``.
    """
    found = catalog.relation(connection, relation)
    result = fingerprint.hash_relation(connection, found)
    return TableContent(kind=found.kind, rows=result.rows, hash=result.hash, populated=found.populated)
