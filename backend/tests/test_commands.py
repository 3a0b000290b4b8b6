# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands against a real database: migrations, demo data, users, secrets."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

import psycopg
import pytest
from backend_harness import PASSWORD, Cli, Cluster, make_cli
from psycopg import sql

from pharma_backend import cpf, migrate, release
from pharma_backend.errors import CommandError

RELEASE = release.Release("pharma-backend", "1.2.3", "ab" * 32, "3.13", development=False)
ASK_BACKUP = "select name, version, digest from pharmacy.deployments order by id desc limit 1"


@pytest.fixture
def empty(cluster: Cluster, tmp_path: Path) -> Cli:
    """A command line on a database of its own that holds nothing."""
    return make_cli(cluster, cluster.new_database(f"db_{tmp_path.name}"), tmp_path)


def database(cli: Cli, user: str = "postgres") -> psycopg.Connection:
    url = (cli.credentials / "DATABASE_URL").read_text().strip().replace("pharma_app", user)
    return psycopg.connect(url, autocommit=True)


def test_migrate_twice_changes_nothing_the_second_time(empty: Cli) -> None:
    first = empty.json("migrate")
    assert first["changed"]
    assert first["applied"] == [1, 2]
    assert not empty.json("migrate")["changed"]
    assert empty.json("record-release")["changed"]
    assert not empty.json("record-release")["changed"]
    with database(empty, "pharma_backup") as backup:
        assert backup.execute(ASK_BACKUP).fetchone() == ("pharma-backend", "0.1.0", "0" * 64)
        assert backup.execute("select max(version) from pharmacy.schema_migrations").fetchone() == (2,)
        owners = backup.execute(
            "select distinct pg_get_userbyid(relowner) from pg_class"
            " where relnamespace = 'pharmacy'::regnamespace"
        )
        assert owners.fetchall() == [("pharma_owner",)]


def test_an_altered_migration_is_refused(empty: Cli) -> None:
    empty.json("migrate")
    with database(empty) as connection:
        connection.execute("update pharmacy.schema_migrations set sha256 = repeat('0', 64) where version = 1")
    done = empty.run("migrate", check=2)
    assert "MIGRATION_ALTERED" in done.stderr
    assert "0001_pharmacy" in done.stderr


def test_a_failing_migration_leaves_nothing_and_the_next_run_goes_on(empty: Cli) -> None:
    url = (empty.credentials / "MIGRATION_DATABASE_URL").read_text().strip()
    good = migrate.Migration(1, "good", "create table pharmacy.a (x int)")
    bad = migrate.Migration(2, "bad", "create table pharmacy.b (x int); select 1 / 0")
    with pytest.raises(CommandError) as failed:
        migrate.run(url, RELEASE, [good, bad])
    assert failed.value.code == "MIGRATION_FAILED"
    assert "0002_bad" in failed.value.message
    with database(empty) as connection:
        assert connection.execute(
            "select to_regclass('pharmacy.a'), to_regclass('pharmacy.b')"
        ).fetchone() == (
            "pharmacy.a",
            None,
        )
    repaired = migrate.Migration(2, "bad", "create table pharmacy.b (x int)")
    done = migrate.run(url, RELEASE, [good, repaired])
    assert (done["applied"], done["head"], done["changed"]) == ([2], 2, True)
    older = migrate.run(url, RELEASE, [good])
    assert (older["changed"], older["newer"]) == (False, [2])


def test_each_change_of_release_is_recorded(empty: Cli) -> None:
    url = (empty.credentials / "MIGRATION_DATABASE_URL").read_text().strip()
    other = release.Release("pharma-backend", "1.2.4", "cd" * 32, "3.13", development=False)
    migrate.run(url, RELEASE)
    with database(empty) as connection:
        rows = connection.execute("select version from pharmacy.deployments").fetchall()
    assert rows == [], "a release that only migrated does not serve"
    changed = [migrate.record_release(url, each)["changed"] for each in (RELEASE, RELEASE, other, RELEASE)]
    assert changed == [True, False, True, True]
    with database(empty) as connection:
        rows = connection.execute("select version from pharmacy.deployments order by id").fetchall()
    assert rows == [("1.2.3",), ("1.2.4",), ("1.2.3",)]


def test_a_database_that_is_not_utf8_is_refused(cluster: Cluster, empty: Cli) -> None:
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(
            "create database ascii_only owner pharma_owner template template0"
            " encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'"
        )
    (empty.credentials / "MIGRATION_DATABASE_URL").write_text(cluster.url("pharma_migrator", "ascii_only"))
    done = empty.run("migrate", check=2)
    assert "DB_ENCODING_WRONG" in done.stderr
    assert "SQL_ASCII" in done.stderr


def test_a_database_without_the_roles_says_who_makes_them(cluster: Cluster, empty: Cli) -> None:
    done = empty.run("migrate", check=2, CREDENTIALS_DIRECTORY="", MIGRATION_DATABASE_URL=_app(empty))
    assert "DB_ROLE_MISSING" in done.stderr
    assert "pharma_app" in done.stderr


def _app(cli: Cli) -> str:
    return (cli.credentials / "DATABASE_URL").read_text().strip()


def _content(cli: Cli) -> dict[str, str]:
    with database(cli) as connection:
        tables = connection.execute(
            "select relname from pg_class where relkind = 'r' and relnamespace = 'pharmacy'::regnamespace"
            " and relname not in ('schema_migrations', 'deployments') order by 1"
        ).fetchall()
        digests = {}
        query = sql.SQL("select t::text from {} t order by 1")
        for (table,) in tables:
            rows = connection.execute(query.format(sql.Identifier("pharmacy", table))).fetchall()
            digests[table] = hashlib.sha256(repr(rows).encode()).hexdigest() if rows else "empty"
    return digests


def test_demo_data_are_reproducible_and_loaded_once(cluster: Cluster, empty: Cli, tmp_path: Path) -> None:
    arguments = ("demo-data", "--sales", "100", "--as-of", "2026-02-15", "--seed")
    empty.json("migrate")
    assert empty.json(*arguments, "3")["changed"]
    assert not empty.json(*arguments, "3")["changed"]
    assert "DEMO_NOT_EMPTY" in empty.run(*arguments, "4", check=2).stderr
    contents = [_content(empty)]
    for name, seed in (("again", "3"), ("other", "4")):
        (tmp_path / name).mkdir()
        cli = make_cli(cluster, cluster.new_database(f"{tmp_path.name}_{name}"), tmp_path / name)
        cli.json("migrate")
        cli.json(*arguments, seed)
        contents.append(_content(cli))
    assert contents[0] == contents[1]
    assert contents[0]["sales"] != contents[2]["sales"]


def test_demo_data_are_not_loaded_in_production(empty: Cli) -> None:
    assert "DEMO_REFUSED" in empty.run("demo-data", check=2, PHARMA_ENV="prod").stderr


def test_demo_data_add_up(pharmacy: Cli) -> None:
    """What an accountant and an auditor would look at; each query returns what is wrong."""
    wrong = {
        "closed sessions whose drawer is not the ledger's": """
            select s.id from pharmacy.cash_sessions s
              join pharmacy.cash_session_totals t on t.cash_session_id = s.id and t.method = 'cash'
             where s.closed_at is not null and s.closing_amount <> t.expected and s.id <= 4""",
        "sales that are not the sum of their lines": """
            select s.id from pharmacy.sales s
             where total <> (select sum(line_total) from pharmacy.sale_items i where i.sale_id = s.id)""",
        "paid sales that are not the sum of their payments": """
            select s.id from pharmacy.sales s where status = 'paid'
               and total is distinct from
                   (select sum(amount) from pharmacy.payments p where p.sale_id = s.id)""",
        "lots that hold other than received less sold": """
            select lot_id from pharmacy.stock k
             where received - quantity <> (select coalesce(sum(i.quantity), 0) from pharmacy.sale_items i
              join pharmacy.sales s on s.id = i.sale_id
             where i.lot_id = k.lot_id and s.status <> 'cancelled')""",
        "units sold from expired lots": """
            select sale_id from pharmacy.sale_items i join pharmacy.lots l on l.id = i.lot_id
              join pharmacy.sales s on s.id = i.sale_id
             where l.expires_on < (s.created_at at time zone 'America/Sao_Paulo')::date""",
    }
    with database(pharmacy) as connection:
        for fault, query in wrong.items():
            assert connection.execute(query).fetchall() == [], fault
        expired = connection.execute(
            "select count(*) from pharmacy.stock s join pharmacy.lots l on l.id = s.lot_id"
            " where l.expires_on < %s and s.quantity > 0",
            (date.today(),),  # noqa: DTZ011 - the lots of the demo expire by date
        ).fetchone()
        assert expired
        assert expired[0] > 10, "nothing expired to keep away from"
        documents = connection.execute("select cpf, email from pharmacy.customers").fetchall()
    assert all(cpf.is_valid(document) for document, _ in documents)
    assert sum("@" in (email or "") for _, email in documents) > len(documents) / 2


def test_the_database_knows_a_cpf_as_the_backend_does(pharmacy: Cli) -> None:
    numbers = [cpf.complete(f"{n * 7_654_321 % 10**9:09d}") for n in range(200)]
    numbers += [number[:10] + str((int(number[10]) + 1) % 10) for number in numbers[:100]]
    numbers += ["11111111111", "1234567890", "", "abcdefghijk"]
    with database(pharmacy) as connection:
        rows = connection.execute(
            "select v, pharmacy.cpf_is_valid(v) from unnest(%s::text[]) as v", (numbers,)
        ).fetchall()
    assert [(number, valid) for number, valid in rows if valid != cpf.is_valid(number)] == []


def test_the_audit_log_is_append_only(pharmacy: Cli) -> None:
    with database(pharmacy) as connection, pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute("update pharmacy.audit_log set action = 'x'")
    with database(pharmacy, "pharma_app") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("delete from pharmacy.audit_log")


def test_create_user(pharmacy: Cli) -> None:
    created = pharmacy.json(
        *("create-user", "--username", "drill-20260215", "--role", "manager", "--password-stdin"),
        stdin=PASSWORD,
    )
    assert created["store"] == "LOJA-01"
    for arguments, stdin, code in (
        (("--username", "drill-20260215", "--role", "manager"), PASSWORD, "USER_EXISTS"),
        (("--username", "Bad Name", "--role", "manager"), PASSWORD, "USERNAME_INVALID"),
        (("--username", "short", "--role", "manager"), "short\n", "PASSWORD_INVALID"),
        (("--username", "lost", "--role", "manager", "--store", "NONE"), PASSWORD, "STORE_UNKNOWN"),
    ):
        done = pharmacy.run("create-user", *arguments, "--password-stdin", stdin=stdin, check=2)
        assert code in done.stderr
        assert PASSWORD not in done.stderr


@pytest.mark.parametrize("name", ["DATABASE_URL", "JWT_SECRET", "REFRESH_SECRET"])
def test_a_missing_secret_is_named(empty: Cli, name: str) -> None:
    (empty.credentials / name).unlink()
    done = empty.run("serve", check=2)
    assert "SECRET_MISSING" in done.stdout
    assert name in done.stdout
    assert "LoadCredential" not in done.stdout or "CREDENTIALS_DIRECTORY" in done.stdout


def test_a_short_secret_is_refused_without_being_shown(empty: Cli) -> None:
    (empty.credentials / "JWT_SECRET").write_text("hunter2-hunter2")
    done = empty.run("serve", check=2)
    assert "SECRET_TOO_SHORT" in done.stdout
    assert "openssl rand" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_environment_secrets_are_for_development_only(empty: Cli) -> None:
    empty.json("migrate")
    url = (empty.credentials / "MIGRATION_DATABASE_URL").read_text().strip()
    empty.run("migrate", CREDENTIALS_DIRECTORY="", MIGRATION_DATABASE_URL=url)
    done = empty.run(
        "migrate", check=2, CREDENTIALS_DIRECTORY="", MIGRATION_DATABASE_URL=url, PHARMA_ENV="prod"
    )
    assert "SECRET_MISSING" in done.stderr
    assert "LoadCredential=MIGRATION_DATABASE_URL" in done.stderr


def test_a_credentials_directory_that_is_not_there_is_named(empty: Cli) -> None:
    done = empty.run("migrate", check=2, CREDENTIALS_DIRECTORY="/nonexistent")
    assert "CREDENTIALS_DIRECTORY_MISSING" in done.stderr


def test_a_wrong_setting_is_named(empty: Cli) -> None:
    assert "PHARMA_POOL_MAX_SIZE" in empty.run("serve", check=2, PHARMA_POOL_MAX_SIZE="many").stdout


def test_an_unreachable_database_is_named(empty: Cli) -> None:
    (empty.credentials / "MIGRATION_DATABASE_URL").write_text("postgresql://u:hunter2@/x?host=/nonexistent")
    done = empty.run("migrate", check=2)
    assert "DB_UNREACHABLE" in done.stderr
    assert "hunter2" not in done.stderr


def test_version(empty: Cli) -> None:
    assert empty.json("version")["development"] is True
