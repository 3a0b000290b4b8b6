# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages ``compare``, ``integrity`` and ``negative_control``: is what was restored what was backed up?"""

from __future__ import annotations

import dataclasses
import subprocess
from typing import TYPE_CHECKING, Any

from ..errors import OpsError
from ..postgres import catalog
from ..postgres.connection import connect, libpq_environment, translated
from ..postgres.content import TableContent, compare, hash_table
from ..process import Child
from ..restoring import comparing
from ..restoring.context import needed
from ..restoring.runner import Report
from .context import Drill

if TYPE_CHECKING:
    from ..postgres.connection import Connection

ALTERED_TABLE_BYTES = 32 << 20
_CHANGES = {
    16: "NOT {c}",
    20: "{c} + 1",
    21: "{c} + 1",
    23: "{c} + 1",
    25: "{c} OPERATOR(pg_catalog.||) '~'",
    1043: "{c} OPERATOR(pg_catalog.||) '~'",
    1082: "{c} + 1",
    1114: "{c} + interval '1 second'",
    1184: "{c} + interval '1 second'",
    1700: "{c} + 1",
}
"""Type of a column and an expression that gives another value of it."""


def compare_content(drill: Drill, report: Report) -> None:
    """Read the whole restored database and compare it with the manifest: every difference is a check."""
    target = needed(drill.cluster).target(drill.dbname)
    expected = needed(drill.backup).manifest.content
    drill.content = comparing.compare_content(expected, target, drill.settings.jobs, drill.progress, report)


def integrity(drill: Drill, report: Report) -> None:
    """Check every heap page and every B-tree with all its heap rows, and that constraints hold."""
    _amcheck(drill, report)
    cluster = needed(drill.cluster)
    target = cluster.target(drill.dbname)
    with connect(target) as connection, translated(target, "reading constraints and indexes"):
        unproven = _names(connection, _UNVALIDATED)
        invalid = _names(connection, _INVALID_INDEXES)
        constraints = int(_names(connection, "SELECT count(*) FROM pg_catalog.pg_constraint")[0])
    allowed = _unvalidated_in_source(drill)
    beyond = unproven if allowed is None else [name for name in unproven if name not in allowed]
    expected = "none" if not allowed else f"only {', '.join(sorted(allowed))}, as in the source"
    if drill.limited:
        # The dump is the source: what it declares NOT VALID was never promised to hold.
        report.facts["notValidInDump"] = unproven
    else:
        report.check("constraints not validated", not beyond, expected, ", ".join(unproven) or "none")
    report.check("invalid indexes", not invalid, "none", ", ".join(invalid) or "none")
    report.facts["constraints"] = constraints
    if report.verdict == "passed":
        report.summary = f"Heap and indexes are sound, {constraints} constraints hold."


_UNVALIDATED = """
    SELECT pg_catalog.format(
        'constraint %I on %s', k.conname,
        COALESCE(NULLIF(k.conrelid, 0)::pg_catalog.regclass::text, k.contypid::pg_catalog.regtype::text))
    FROM pg_catalog.pg_constraint k WHERE NOT k.convalidated ORDER BY 1
"""
_INVALID_INDEXES = """
    SELECT i.indexrelid::pg_catalog.regclass::text FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    WHERE c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready AND i.indislive) ORDER BY 1
"""


def _names(connection: Connection, query: str) -> list[str]:
    return [str(row[0]) for row in connection.execute(query.encode())]


def _unvalidated_in_source(drill: Drill) -> set[str] | None:
    if drill.backup is None:
        return None
    structure = drill.backup.manifest.content.structure
    return {name for name, definition in structure.items() if definition.endswith(" NOT VALID")}


def _amcheck(drill: Drill, report: Report) -> None:
    cluster = needed(drill.cluster)
    words = ["--install-missing=pg_catalog", "--heapallindexed", f"--jobs={drill.settings.jobs}"]
    with (
        libpq_environment(cluster.target(drill.dbname)) as (env, fds),
        Child(
            [cluster.bin_dir / "pg_amcheck", *words, f"--database={drill.dbname}"],
            stdout=subprocess.PIPE,
            user=drill.user,
            env=env,
            pass_fds=fds,
        ) as child,
    ):
        output = child.stdout.read().decode("utf-8", "replace")
        status = child.wait()
        words_of_error = child.stderr_tail.strip()
    # 0: nothing found, 2: corruption found, else: it could not check (pg_amcheck.c).
    if status not in (0, 2):
        raise OpsError(
            "AMCHECK_FAILED",
            f"pg_amcheck could not check {drill.dbname}: {words_of_error or f'exit status {status}'}",
            "Install the extension amcheck (Debian package postgresql-N).",
        )
    report.check(
        "amcheck of heap and indexes",
        status == 0,
        "no corruption",
        "no corruption" if status == 0 else "; ".join(output.splitlines()[:5]),
    )


def negative_control(drill: Drill, report: Report) -> None:
    """Change one row, look whether the comparison notices, take the change back, look again.

    Everything happens in one transaction that is rolled back.
    """
    cluster = needed(drill.cluster)
    target = cluster.target(drill.dbname)
    with connect(target) as connection, translated(target, "the negative control"):
        table = _table_to_alter(connection)
        if table is None:
            report.check("a table with rows", None, "at least one", "none: nothing could be altered")
            return
        before = hash_table(connection, table)
        connection.execute("SAVEPOINT control")
        connection.execute("SET LOCAL session_replication_role = replica")
        how = _change_one_row(connection, table)
        changed = hash_table(connection, table)
        connection.execute("ROLLBACK TO SAVEPOINT control")
        after = hash_table(connection, table)
        connection.rollback()
    noticed = _noticed(drill, table, before, changed)
    report.check(
        f"{how} in {table} is noticed", noticed, "a difference", "a difference" if noticed else "none"
    )
    report.check(
        f"{table} is as before after the rollback",
        after == before,
        f"{before.rows} rows, hash {before.hash}",
        f"{after.rows} rows, hash {after.hash}",
    )
    report.facts |= {"table": table, "change": how}
    if noticed and after == before:
        report.summary = f"{how} in {table} was noticed, and taken back."


def _noticed(drill: Drill, table: str, before: TableContent, changed: TableContent) -> bool:
    if drill.content is None:
        return changed != before
    altered = dataclasses.replace(drill.content, tables=drill.content.tables | {table: changed})
    found = compare(needed(drill.backup).manifest.content, altered)
    return [(item.kind, item.name) for item in found] == [("table", table)]


def _table_to_alter(connection: Connection) -> str | None:
    """The biggest table that is hashed in a moment, so that it is one of weight; else the smallest with rows."""
    tables = [item for item in catalog.relations(connection) if item.kind == "table" and not item.condition]
    quick = [item for item in tables if item.bytes <= ALTERED_TABLE_BYTES]
    slow = [item for item in tables if item.bytes > ALTERED_TABLE_BYTES]
    by_size = sorted(quick, key=lambda item: -item.bytes) + sorted(slow, key=lambda item: item.bytes)
    for item in by_size:
        if _names(connection, f"SELECT 1 FROM ONLY {item.name} LIMIT 1"):
            return item.name
    return None


def _change_one_row(connection: Connection, table: str) -> str:
    """Alter one value of one row; where no column allows it, delete the row.

    :returns: what was done, for people.
    """
    # ruff: noqa: S608 - the names come quoted from the server
    one = f"ctid = (SELECT ctid FROM ONLY {table} LIMIT 1)"
    for column in catalog.columns(connection, catalog.relation(connection, table).oid):
        change = _CHANGES.get(column.type_oid, "").format(c=column.name)
        statement = (
            f"UPDATE ONLY {table} SET {column.name} = {change} WHERE {column.name} IS NOT NULL AND {one}"
        )
        if change and _try(connection, statement):
            return f"One altered value of {column.name}"
    connection.execute(f"DELETE FROM ONLY {table} WHERE {one}".encode())
    return "One deleted row"


def _try(connection: Connection, statement: str) -> bool:
    """Run a statement that a constraint, a generated column or an overflow may refuse."""
    cursor: Any = None
    connection.execute("SAVEPOINT attempt")
    try:
        cursor = connection.execute(statement.encode())
    except connection.Error:
        connection.execute("ROLLBACK TO SAVEPOINT attempt")
    return cursor is not None and cursor.rowcount == 1
