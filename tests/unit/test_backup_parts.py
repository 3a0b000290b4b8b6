# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions of a backup: programs, compression, the shape of the hash, errors of a connection."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from pharma_ops.backup.stream import compression, dump_command
from pharma_ops.errors import OpsError
from pharma_ops.postgres import programs
from pharma_ops.postgres.catalog import Column, Relation
from pharma_ops.postgres.connection import Target, _connect_error
from pharma_ops.postgres.fingerprint import hash_query, parts_of


def test_the_fastest_compression_that_pg_dump_knows() -> None:
    assert compression("auto", 17) == "zstd:1"
    assert compression("auto", 16) == "zstd:1"
    assert compression("auto", 15) == "gzip:1"
    assert compression("gzip:6", 15) == "gzip:6"
    for wanted, major in (("zstd:1", 15), ("lz4", 15), ("rar", 17), ("zstd:1;x", 17), ("", 17)):
        with pytest.raises(OpsError):
            compression(wanted, major)


def test_pg_dump_gets_the_compression_in_its_own_words() -> None:
    def word(method: str, major: int) -> str:
        return str(dump_command(Path("pg_dump"), "0-1", method, major)[2])

    assert word("zstd:1", 17) == "--compress=zstd:1"
    assert word("gzip:1", 15) == "--compress=1"
    assert word("gzip", 15) == "--compress=6"
    assert word("none", 15) == "--compress=0"


def test_a_program_is_never_older_than_the_server(tmp_path: Path) -> None:
    roots = (str(tmp_path / "{major}/bin"),)
    for major in (15, 17):
        (tmp_path / f"{major}/bin").mkdir(parents=True)
        (tmp_path / f"{major}/bin/pg_dump").touch()
    assert programs.find("pg_dump", 150020, roots).parts[-3] == "15"
    assert programs.find("pg_dump", 160001, roots).parts[-3] == "17"
    assert programs.find("pg_dump", 170005, roots).parts[-3] == "17"
    with pytest.raises(OpsError) as caught:
        programs.find("pg_dump", 180001, roots)
    assert caught.value.code == "PROGRAM_TOO_OLD"
    assert "PostgreSQL 18" in caught.value.message
    assert "postgresql-client-18" in caught.value.action
    with pytest.raises(OpsError) as caught:
        programs.find("pg_no_such_program", 170005, roots)
    assert caught.value.code == "PROGRAM_MISSING"


def relation(blocks: int, condition: str = "") -> Relation:
    return Relation(
        oid=1, name="a.b", kind="table", populated=True, bytes=blocks * 8192, blocks=blocks, condition=condition,
        definition="", readable=True, row_security=False,
    )  # fmt: skip


def test_parts_cover_every_page_once() -> None:
    columns = [Column(name="id", type_oid=20, not_null=True)]
    parts = parts_of(relation(50_000), columns, 2)
    assert len(parts) == 8
    for before, after in itertools.pairwise(parts):
        bound = before.query.split("t.ctid < '(")[1].split(",")[0]
        assert f"t.ctid >= '({bound},0)'" in after.query
    assert "t.ctid >= '(0,0)'" in parts[0].query
    assert "t.ctid <" not in parts[-1].query
    assert len(parts_of(relation(100), columns, 2)) == 1
    assert len(parts_of(relation(50_000), columns, 1)) == 1
    assert len(parts_of(relation(50_000, "WHERE true"), columns, 2)) == 1


def test_no_column_is_left_out_of_the_hash() -> None:
    columns = [
        Column(name=f"c{number}", type_oid=(25, 3802, 3614, 20, 21)[number % 5], not_null=number % 2 == 0)
        for number in range(300)
    ]
    query = hash_query(columns, "ONLY a.b AS t")
    assert all(f"t.{column.name}" in query for column in columns)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (
            'connection to server at "db1" (10.0.0.1), port 5432 failed: Connection refused',
            "DATABASE_UNREACHABLE",
        ),
        ('could not translate host name "db9" to address: Name or service not known', "DATABASE_UNREACHABLE"),
        ("connection timeout expired", "DATABASE_UNREACHABLE"),
        ('FATAL:  password authentication failed for user "b"', "DATABASE_LOGIN_REFUSED"),
        ("fe_sendauth: no password supplied", "DATABASE_LOGIN_REFUSED"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1"', "DATABASE_LOGIN_REFUSED"),
        ('FATAL:  role "b" does not exist', "DATABASE_LOGIN_REFUSED"),
        ('FATAL:  database "x" does not exist', "DATABASE_MISSING"),
        ("SSL error: certificate verify failed", "DATABASE_TLS_FAILED"),
        ('root certificate file "/x/root.crt" does not exist', "DATABASE_TLS_FAILED"),
        ("FATAL:  sorry, too many clients already", "DATABASE_REFUSED"),
    ],
)
def test_a_failed_connection_is_sorted_by_its_cause(words: str, code: str) -> None:
    target = Target(dbname="shop", host="db1", user="backup", password="hidden-word")
    error = _connect_error(target, words)
    assert error.code == code
    assert "db1:5432" in error.message
    assert "hidden-word" not in f"{error} {target!r}"
