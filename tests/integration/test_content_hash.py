# SPDX-License-Identifier: GPL-3.0-or-later
"""What the content hash tells apart, and what it must not depend on."""

from __future__ import annotations

import pytest
from cluster import Cluster
from material import superuser

from pharma_ops.postgres import catalog, fingerprint
from pharma_ops.postgres.connection import Target, connect
from pharma_ops.postgres.content import TableContent, hash_table, read_content
from pharma_ops.progress import Silent


@pytest.fixture(scope="module")
def target(cluster: Cluster) -> Target:
    """A database without tables."""
    cluster.create("hash", "CREATE TYPE public.mood AS ENUM ('', 'sad', 'glad')")
    return superuser(cluster, "hash")


def hashed(target: Target, columns: str, rows: str) -> TableContent:
    """The hash of a table of those columns with those rows."""
    with connect(target, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE public.x ({columns})".encode())
        try:
            if rows:
                connection.execute(f"INSERT INTO public.x VALUES {rows}".encode())
            return hash_table(connection, "public.x")
        finally:
            connection.execute("DROP TABLE public.x")


DIFFERENT = [
    ("numeric", "(1.0)", "(1.00)"),
    ("numeric", "(5)", "(-5)"),
    ("numeric", "('NaN')", "('Infinity')"),
    ("float8", "('-0')", "(0)"),
    ("real", "('-0')", "(0)"),
    ("float8", "(0.1)", "(0.10000000000000002)"),
    ("text", "(NULL)", "('')"),
    ("json", "(NULL)", "('\"\"')"),
    ("json", "('{\"a\":1}')", "('{\"a\": 1}')"),
    ("interval", "('1 month')", "('30 days')"),
    ("interval", "('1 day')", "('24 hours')"),
    ("timestamptz", "('infinity')", "('-infinity')"),
    ("timestamptz", "('2026-01-01 00:00:00+00')", "('2026-01-01 00:00:00.000001+00')"),
    ("bytea", "('')", "(NULL)"),
    ("bytea", "('\\x')", "('\\x00')"),
    ("jsonb", "(NULL)", "('null')"),
    ("jsonb", "('null')", "('\"null\"')"),
    ("jsonb", "('[1.0]')", "('[1.00]')"),
    ("public.mood", "(NULL)", "('')"),
    ("public.mood", "('sad')", "('glad')"),
    ("a public.mood, b public.mood", "('sad', '')", "('', 'sad')"),
    ("xml", "('<a/>')", "('<a></a>')"),
    ("tsvector", "('a:1')", "('a:2')"),
    ("point", "('(0,1)')", "('(-0,1)')"),
    ("char(4)", "('a')", "('b')"),
    ("bpchar", "('a ')", "('a')"),
    ("text[]", "('{NULL}')", "('{\"NULL\"}')"),
    ("text[]", "('{}')", "('{\"\"}')"),
    ("inet", "('10.0.0.1/8')", "('10.0.0.1')"),
    ("money", "(1.10)", "(1.11)"),
    ("a text, b text", "('ab', 'c')", "('a', 'bc')"),
    ("a text, b text", "(NULL, '')", "('', NULL)"),
    ("a text, b text", "('x', 'y')", "('y', 'x')"),
    ("a integer, b integer", "(1, 23)", "(12, 3)"),
    ("a integer, b integer", "(NULL, 1)", "(1, NULL)"),
    ("a integer NOT NULL, b integer", "(1, NULL)", "(1, 0)"),
    ("a text NOT NULL, b integer, c text NOT NULL", "('', NULL, '')", "('', 0, '')"),
    ("integer", "(1)", "(-1)"),
    ("integer", "(NULL)", "(0)"),
    ("smallint", "(-1)", "(32767)"),
    ("bigint", "(NULL)", "(0)"),
    ("bigint", "(1)", "(4294967296)"),
    ("bigint", "(0)", "(4294967295)"),
    ("bigint", "(4294967296)", "(8589934593)"),
    ("bigint", "(0)", "(-1)"),
    ("bigint", "(2147483648)", "(-2147483649)"),
    ("bigint", "(1)", "(-4294967298)"),
    ("bigint", "(-9223372036854775808)", "(9223372036854775807)"),
    ("a bigint, b bigint", "(4294967296, NULL)", "(NULL, 4294967296)"),
    ("a bigint, b bigint", "(4294967296, 5)", "(5, 4294967296)"),
    ("a bigint, b bigint", "(1, 2)", "(2, 1)"),
    ("a bigint NOT NULL, b bigint", "(4294967296, 0)", "(4294967296, NULL)"),
    ("a int4range, b int4range", "('empty', NULL)", "(NULL, 'empty')"),
    ("integer", "(1), (1)", "(1)"),
    ("integer", "(1), (1), (2)", "(1), (2), (2)"),
    ("integer", "(NULL), (NULL)", "(NULL)"),
    ("a integer, b text", "(1, 'a'), (2, 'b')", "(1, 'b'), (2, 'a')"),
]


@pytest.mark.parametrize(("columns", "one", "other"), DIFFERENT, ids=[f"{c[0]} {c[1]}" for c in DIFFERENT])
def test_tells_apart(target: Target, columns: str, one: str, other: str) -> None:
    if "," not in columns:
        columns = f"t {columns}"  # a column of the alias's name
    first, second = hashed(target, columns, one), hashed(target, columns, other)
    assert first != second
    assert first.rows != second.rows or first.hash != second.hash
    assert hashed(target, columns, one) == first


def test_integers_that_the_folding_hash_takes_for_equal(target: Target) -> None:
    """Without the text of what is beyond 32 bits these would collide: the hash of int8 folds its halves."""
    with connect(target, autocommit=True) as connection:
        folded = "SELECT pg_catalog.hashint8extended(%s, 1)"
        for one, other in ((1, 4294967296), (-1, 4294967295), (-5, -4294967302)):
            assert (
                connection.execute(folded, (one,)).fetchone()
                == connection.execute(folded, (other,)).fetchone()
            )
            assert hashed(target, "id bigint", f"({one})") != hashed(target, "id bigint", f"({other})")


def test_a_constraint_changes_nothing(target: Target) -> None:
    """NOT NULL spares work, the hash is that of the rows alone."""
    rows = "(1, 4294967296, 'x', '2026-01-01 00:00:00+00')"
    columns = "a integer {0}, b bigint {0}, c text {0}, d timestamptz {0}"
    assert hashed(target, columns.format("NOT NULL"), rows) == hashed(target, columns.format(""), rows)


def test_an_empty_table_and_one_without_columns(target: Target) -> None:
    assert hashed(target, "id integer", "").hash == "0:0"
    with connect(target, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.nothing (); INSERT INTO public.nothing DEFAULT VALUES")
        assert hash_table(connection, "public.nothing").rows == 1


def test_does_not_depend_on_heap_order_or_dead_rows(target: Target) -> None:
    rows = [f"({number}, 'text {number}')" for number in range(500)]
    straight = hashed(target, "id integer, body text", ", ".join(rows))
    assert hashed(target, "id integer, body text", ", ".join(reversed(rows))) == straight
    with connect(target, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.y (gone integer, id integer, body text)")
        connection.execute(b"INSERT INTO public.y SELECT 0, i, 'text ' || i FROM generate_series(0, 999) i")
        connection.execute("DELETE FROM public.y WHERE id >= 500")
        connection.execute("UPDATE public.y SET body = body WHERE id % 3 = 0")
        connection.execute("ALTER TABLE public.y DROP COLUMN gone")
        assert hash_table(connection, "public.y") == straight
        connection.execute("DROP TABLE public.y")


def test_does_not_depend_on_the_servers_settings(target: Target, cluster: Cluster) -> None:
    columns, rows = (
        "a timestamptz, b interval, c bytea, d float8, e money, f tstzrange",
        ("('2026-07-01 12:00-03', '1 mon 2 days', '\\x00ff', 0.1, 12.5, '[2026-01-01 00:00+00,)')"),
    )
    before = hashed(target, columns, rows)
    cluster.execute(
        "ALTER DATABASE hash SET timezone = 'Asia/Tokyo'; ALTER DATABASE hash SET datestyle = 'German';"
        "ALTER DATABASE hash SET intervalstyle = 'sql_standard'; ALTER DATABASE hash SET bytea_output = 'escape';"
        "ALTER DATABASE hash SET extra_float_digits = -15; ALTER DATABASE hash SET search_path = pg_temp"
    )
    try:
        assert hashed(target, columns, rows) == before
    finally:
        cluster.execute("ALTER DATABASE hash RESET ALL")


def test_parts_of_a_big_table_add_up(
    target: Target, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "PART_BLOCKS", 3)
    with connect(target, autocommit=True) as connection:
        connection.execute(
            b"CREATE TABLE public.big AS SELECT i AS id, repeat('x', i % 900) AS body FROM generate_series(1, 3000) i"
        )
        whole = hash_table(connection, "public.big")
        relation = catalog.relation(connection, "public.big")
        parts = fingerprint.parts_of(relation, catalog.columns(connection, relation.oid), 2)
        assert len(parts) > 4
    content = read_content(target, snapshot=None, sessions=2, progress=Silent())
    assert content.tables["public.big"] == whole
    cluster.execute("DROP TABLE public.big", "hash")


def test_many_columns(target: Target) -> None:
    columns = ", ".join(f"c{number} integer" for number in range(1500))
    one = hashed(target, columns, f"({', '.join(map(str, range(1500)))})")
    other = hashed(target, columns, f"({', '.join(map(str, [*range(1499), 0]))})")
    assert one.hash != other.hash


def test_sees_uncommitted_changes_of_its_own_transaction(target: Target) -> None:
    with connect(target, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.z AS SELECT 1 AS id")
        before = hash_table(connection, "public.z")
        connection.execute("BEGIN")
        connection.execute("UPDATE public.z SET id = 2")
        assert hash_table(connection, "public.z") != before
        connection.execute("ROLLBACK")
        assert hash_table(connection, "public.z") == before
        connection.execute("DROP TABLE public.z")
