# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations beside a release that serves: they only add, and they keep nobody waiting."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psycopg
import pytest
from backend_harness import Cli, Cluster, make_cli
from hypothesis import given
from hypothesis import strategies as st

from pharma_backend import expand, migrate, release
from pharma_backend.errors import CommandError

RELEASE = release.Release("pharma-backend", "1.2.3", "ab" * 32, "3.13", development=False)
TABLE = migrate.Migration(1, "table", "create table pharmacy.a (x int); insert into pharmacy.a values (1)")
COLUMN = migrate.Migration(2, "column", "alter table pharmacy.a add column y int")


@pytest.fixture
def empty(cluster: Cluster, tmp_path: Path) -> Cli:
    return make_cli(cluster, cluster.new_database(f"mig_{tmp_path.name}"), tmp_path)


def url(cli: Cli, name: str = "MIGRATION_DATABASE_URL") -> str:
    return (cli.credentials / name).read_text().strip()


REFUSED = [
    "drop table a",
    "DROP TABLE IF EXISTS pharmacy.a CASCADE",
    "truncate pharmacy.a",
    "delete from pharmacy.a where x = 1",
    "revoke select on pharmacy.a from pharma_runtime",
    "alter table pharmacy.a rename to b",
    "alter table a rename column x to y",
    "alter table only pharmacy.a drop column x",
    "alter table pharmacy.a add column z numeric(12, 2), drop x",
    "alter table pharmacy.a alter column x type bigint",
    "alter table pharmacy.a alter x set data type text using x::text",
    "alter table pharmacy.a alter column x set not null",
    "alter table pharmacy.a alter column x drop default",
    "alter table pharmacy.a add column y int not null",
    "alter table pharmacy.a add y int check (y > 0) not null",
    "alter table pharmacy.a add constraint c check (x > 0) not valid",
    "alter table pharmacy.a add primary key (x)",
    'alter table "pharmacy"."a" drop column "x"',
    "alter type pharmacy.t rename value 'a' to 'b'",
    "alter type pharmacy.t rename to u",
    "alter domain pharmacy.d add check (value > 0)",
    "alter view pharmacy.v rename to w",
    "alter function pharmacy.f() set schema public",
    "create or replace view pharmacy.v as select 1",
    "create index on pharmacy.a (x)",
    "create unique index i on pharmacy.a (x)",
    "create trigger t before update on pharmacy.a for each row execute function pharmacy.f()",
    "do $$ begin drop table pharmacy.a; end $$",
    "/* a comment */ drop -- another\n table a",
    "select 1; drop table a; -- contract: too late",
    "-- contract:\ndrop table a",
    "-- contract: for this one\nselect 1; drop table a",
]
EXPANDING = [
    "alter table pharmacy.a add column y int",
    "alter table pharmacy.a add column y int not null default 0 check (y >= 0), add z text",
    "alter table pharmacy.a add column y int not null generated always as identity",
    "alter table pharmacy.a alter column x drop not null, alter x set default 5",
    "alter type pharmacy.t add value 'c'",
    "create table pharmacy.b (x int not null); create index on pharmacy.b (x); alter table pharmacy.b add unique (x)",
    "create view pharmacy.v as select 'drop table a; delete from b'",
    "create function pharmacy.f() returns int language plpgsql as $body$ begin delete from a; end $body$",
    "comment on table pharmacy.a is E'it\\'s; drop table a'",
    "insert into pharmacy.a values (1); update pharmacy.a set x = 2; grant select on pharmacy.a to r",
    "-- contract: nobody reads it since 1.4\nalter table pharmacy.a drop column x",
    "create table if not exists pharmacy.b (x int);\n-- contract: unused\n-- two lines\ndrop table pharmacy.c;",
    "",
    "-- drop table a",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_release_before_could_not_live_with_is_refused(text: str) -> None:
    assert len(expand.refusals(text)) == 1
    with pytest.raises(CommandError) as refused:
        migrate.require_expansion(migrate.Migration(7, "bad", text))
    assert refused.value.code == "MIGRATION_NOT_EXPANDING"
    assert "0007_bad" in refused.value.message


@pytest.mark.parametrize("text", EXPANDING)
def test_what_only_adds_passes(text: str) -> None:
    assert expand.refusals(text) == []


@given(
    st.lists(st.sampled_from(REFUSED[:8] + EXPANDING[:8]), max_size=6), st.sampled_from(["\n", " ", "\n\n"])
)
def test_each_statement_is_judged_for_itself(texts: list[str], gap: str) -> None:
    refused = expand.refusals(f";{gap}".join(texts))
    assert len(refused) == sum(text in REFUSED for text in texts)


def test_the_line_is_named() -> None:
    assert [line for line, _ in expand.refusals("select 1;\n\n  drop table a;\nselect 2;\ndrop table b")] == [
        3,
        5,
    ]


def test_the_migrations_of_this_release_only_add() -> None:
    for migration in migrate.packaged():
        assert expand.refusals(migration.text) == [], migration.name


def test_a_migration_that_takes_away_is_refused_before_anything_is_done(empty: Cli) -> None:
    with pytest.raises(CommandError) as refused:
        migrate.run(url(empty), RELEASE, [TABLE, migrate.Migration(2, "drop", "drop table pharmacy.a")])
    assert refused.value.code == "MIGRATION_NOT_EXPANDING"
    with psycopg.connect(url(empty)) as connection:
        assert connection.execute("select to_regclass('pharmacy.a')").fetchone() == (None,)


def test_a_migration_waits_for_a_lock_in_short_tries_and_keeps_nobody_waiting(empty: Cli) -> None:
    migrate.run(url(empty), RELEASE, [TABLE])
    slowest = 0.0
    applied: list[dict[str, object]] = []

    def apply() -> None:
        applied.append(
            migrate.run(url(empty), RELEASE, [TABLE, COLUMN], migrate.LockPolicy(0.1, 100, longest_pause=0.2))
        )

    with psycopg.connect(url(empty)) as reader, psycopg.connect(url(empty), autocommit=True) as other:
        reader.execute("select * from pharmacy.a")  # a transaction that stays open
        thread = threading.Thread(target=apply)
        thread.start()
        until = time.monotonic() + 1
        while time.monotonic() < until:
            asked = time.monotonic()
            other.execute("select * from pharmacy.a")
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.005)
        assert applied == []
        reader.rollback()
        thread.join(10)
    assert applied
    assert applied[0]["applied"] == [2]
    assert slowest < 0.5


def test_a_migration_that_never_gets_its_lock_says_so(empty: Cli) -> None:
    migrate.run(url(empty), RELEASE, [TABLE])
    with psycopg.connect(url(empty)) as reader:
        reader.execute("select * from pharmacy.a")
        with pytest.raises(CommandError) as blocked:
            migrate.run(url(empty), RELEASE, [TABLE, COLUMN], migrate.LockPolicy(0.05, 3, longest_pause=0.05))
    assert blocked.value.code == "MIGRATION_BLOCKED"
    assert "0002_column" in blocked.value.message
    assert migrate.run(url(empty), RELEASE, [TABLE, COLUMN])["applied"] == [2]


def test_pauses_grow_and_are_bounded() -> None:
    policy = migrate.LockPolicy()
    pauses = [policy.pause(tried) for tried in range(policy.tries)]
    assert all(0 < pause <= policy.longest_pause for pause in pauses)
    assert pauses[0] < 0.21
    assert min(pauses[5:]) >= policy.longest_pause / 2
