# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``pg_dump`` dumps data for, and the facts of a database that are read in one snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from ..errors import OpsError
from .connection import Target, one_row, translated, value

if TYPE_CHECKING:
    from .connection import Connection

OWN_SCHEMA: LiteralString = "(n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')"
"""A schema that is dumped, for queries that call pg_namespace ``n``."""

_RELATIONS: LiteralString = """
    SELECT c.oid::bigint, pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind::text,
           c.relispopulated, pg_catalog.pg_table_size(c.oid),
           CASE WHEN a.amname = 'heap'
                THEN pg_catalog.pg_relation_size(c.oid, 'main')
                     / pg_catalog.current_setting('block_size')::bigint ELSE 0 END,
           COALESCE((SELECT x.condition FROM (
               SELECT pg_catalog.unnest(e.extconfig) AS config, pg_catalog.unnest(e.extcondition) AS condition
               FROM pg_catalog.pg_extension e) x WHERE x.config = c.oid), ''),
           CASE WHEN c.relkind = 'm' THEN pg_catalog.pg_get_viewdef(c.oid) ELSE '' END,
           pg_catalog.has_table_privilege(c.oid, 'SELECT'),
           pg_catalog.row_security_active(c.oid)
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
      AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())
      AND (n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
      AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                       WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                         AND d.objid = c.oid AND d.deptype = 'e')
           OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))
    ORDER BY 2
"""

_COLUMNS: LiteralString = """
    WITH RECURSIVE base AS (
        SELECT a.attnum, a.attname, a.atttypid AS type, a.attnotnull AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_constraint n
            WHERE n.conrelid = a.attrelid AND n.contype = 'n' AND a.attnum = ANY (n.conkey)
              AND NOT n.convalidated) AS not_null
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT b.attnum, b.attname, t.typbasetype, b.not_null
        FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype = 'd')
    SELECT pg_catalog.quote_ident(b.attname),
        CASE WHEN t.typtype = 'e' THEN 'pg_catalog.anyenum'::pg_catalog.regtype ELSE b.type END::bigint,
        b.not_null
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type
    WHERE t.typtype <> 'd' ORDER BY b.attnum
"""

_MATVIEW_READS: LiteralString = """
    SELECT r.ev_class::bigint, d.refobjid::bigint
    FROM pg_catalog.pg_rewrite r
    JOIN pg_catalog.pg_depend d
      ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
    JOIN pg_catalog.pg_class c ON c.oid = d.refobjid
    WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class
      AND c.relkind IN ('m', 'v')
    GROUP BY 1, 2
"""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column as the content hash sees it: its quoted name and the type below all domains.

    Of an enum the type is ``anyenum``: its own oid is another one in every database.

    :ivar not_null: the server guarantees that no row has NULL here; a constraint that was never
        validated guarantees nothing.
    """

    name: str
    type_oid: int
    not_null: bool


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A table or materialized view that ``pg_dump`` dumps data for.

    :ivar name: schema and name, quoted where SQL needs it; usable in a statement as it is.
    :ivar kind: ``table`` or ``materialized view``.
    :ivar blocks: heap pages; 0 when it cannot be split by them.
    :ivar condition: ``WHERE …`` of an extension's configuration table, else empty.
    :ivar definition: the query of a materialized view.
    """

    oid: int
    name: str
    kind: str
    populated: bool
    bytes: int
    blocks: int
    condition: str
    definition: str
    readable: bool
    row_security: bool


def relations(connection: Connection) -> list[Relation]:
    """Every relation whose rows are in a dump: leaf partitions and inheritance members, each by itself."""
    kinds = {"r": "table", "m": "materialized view"}
    return [
        Relation(
            oid=row[0],
            name=row[1],
            kind=kinds[row[2]],
            populated=row[3],
            bytes=row[4],
            blocks=row[5],
            condition=row[6],
            definition=row[7].rstrip("; \n"),
            readable=row[8],
            row_security=row[9],
        )
        for row in connection.execute(_RELATIONS)
    ]


def relation(connection: Connection, name: str) -> Relation:
    """The relation of that (quoted) name.

    :raises OpsError: ``TABLE_MISSING``.
    """
    for found in relations(connection):
        if found.name == name:
            return found
    raise OpsError("TABLE_MISSING", f"There is no table {name} with data of its own.", "")


def columns(connection: Connection, relation_oid: int) -> list[Column]:
    """The columns of a relation in their order, domains resolved to the type below."""
    rows = connection.execute(_COLUMNS, (relation_oid,)).fetchall()
    return [Column(name=name, type_oid=type_oid, not_null=not_null) for name, type_oid, not_null in rows]


def views_below(connection: Connection) -> dict[int, set[int]]:
    """For each view and materialized view: the views that it reads, near and far."""
    near: dict[int, set[int]] = {}
    for view, read in connection.execute(_MATVIEW_READS):
        near.setdefault(view, set()).add(read)
    return {view: _closure(view, near) for view in near}


def _closure(view: int, near: dict[int, set[int]]) -> set[int]:
    seen: set[int] = set()
    waiting = list(near.get(view, ()))
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting.extend(near.get(current, ()))
    return seen


def check_readable(target: Target, found: list[Relation]) -> None:
    """Refuse, before anything is written, a role from which rows would be hidden.

    :raises OpsError: ``BACKUP_ROLE_CANNOT_READ`` or ``ROW_SECURITY_HIDES_ROWS``; names the tables.
    """
    if hidden := [item.name for item in found if not item.readable]:
        raise OpsError(
            "BACKUP_ROLE_CANNOT_READ",
            f"The role {target.user} may not read {_some(hidden)} of {target.description}.",
            f"As a superuser: GRANT pg_read_all_data TO {target.user}.",
        )
    if filtered := [item.name for item in found if item.row_security]:
        raise OpsError(
            "ROW_SECURITY_HIDES_ROWS",
            f"Row-level security would hide rows of {_some(filtered)} from the role {target.user}.",
            f"As a superuser: ALTER ROLE {target.user} BYPASSRLS.",
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def lock(connection: Connection, target: Target, found: list[Relation]) -> None:
    """Keep every table from being dropped or rewritten until the snapshot ends (ACCESS SHARE).

    Without it a TRUNCATE between the snapshot and the reading would show an empty table.
    """
    names = [item.name for item in found if item.kind == "table"]
    with translated(target, "locking the tables for reading"):
        for start in range(0, len(names), 200):
            batch = ", ".join(f"ONLY {name}" for name in names[start : start + 200])
            connection.execute(f"LOCK TABLE {batch} IN ACCESS SHARE MODE".encode())


@dataclass(frozen=True, kw_only=True)
class Server:
    """What a server says of itself and of the database."""

    version: int
    version_text: str
    encoding: str
    locale: dict[str, str]


_OWN_TIMEZONE: LiteralString = "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'TimeZone'"

_LOCALE: LiteralString = """
    SELECT pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, pg_catalog.to_jsonb(d)
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
"""


def server(connection: Connection) -> Server:
    """Versions and locale, the collation library's version included (15+)."""
    number = int(value(connection, "SELECT pg_catalog.current_setting('server_version_num')"))
    encoding, collate, ctype, columns_ = one_row(connection, _LOCALE)
    providers = {"c": "libc", "i": "icu", "b": "builtin"}
    locale = {
        "provider": providers.get(columns_.get("datlocprovider", "c"), "libc"),
        "collate": collate,
        "ctype": ctype,
        "locale": columns_.get("datlocale") or columns_.get("daticulocale") or "",
        "version": columns_.get("datcollversion") or "",
        "timezone": value(connection, _OWN_TIMEZONE),
    }
    return Server(
        version=number,
        version_text=value(connection, "SELECT pg_catalog.current_setting('server_version')"),
        encoding=encoding,
        locale=locale,
    )
