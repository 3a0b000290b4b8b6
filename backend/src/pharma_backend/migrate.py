# SPDX-License-Identifier: GPL-3.0-or-later
"""Forward-only migrations: each in its transaction, recorded with its digest, never altered.

The release in service works on while they run and afterwards: they only add (:mod:`.expand`), and they
never make it wait for a lock that they wait for themselves for longer than :class:`LockPolicy` says.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, cast

import psycopg
from psycopg import sql

from . import expand
from .errors import CommandError
from .release import Release

OWNER = "pharma_owner"
RUNTIME = "pharma_runtime"
LOCK_KEY = 0x7068_6172_6D61  # "pharma"
LOCK_WAIT_SECONDS = 60
_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")

_BOOTSTRAP = """
create schema if not exists pharmacy;
create table if not exists pharmacy.schema_migrations (
  version integer primary key check (version > 0),
  name text not null,
  sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
  applied_at timestamptz not null default now(),
  duration_ms integer not null,
  release text not null
);
create table if not exists pharmacy.deployments (
  id bigint generated always as identity primary key,
  name text not null,
  version text not null,
  digest text not null check (digest ~ '^[0-9a-f]{64}$'),
  deployed_at timestamptz not null default now()
);
"""


@dataclass(frozen=True, slots=True)
class LockPolicy:
    """How a migration asks for locks on tables in use; times in seconds.

    While it waits for one, everybody who comes after it waits too, so it gives up soon and comes again.
    """

    wait: float = 1.0
    tries: int = 30
    longest_pause: float = 3.0

    def pause(self, tried: int) -> float:
        """How long to stay away after so many tries: growing, and never the same twice."""
        return min(self.longest_pause, 0.2 * 2.0**tried) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


@dataclass(frozen=True)
class Migration:
    """One file of the package."""

    version: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Digest of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def packaged() -> list[Migration]:
    """The migrations of this release in order.

    :raises ValueError: their numbers are not 1, 2, 3 …
    """
    found = []
    for entry in resources.files(__package__).joinpath("migrations").iterdir():
        match = _FILE.fullmatch(entry.name)
        if match:
            found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations are numbered 1, 2, 3 without gaps")
    return found


def pending(migrations: Iterable[Migration], applied: Mapping[int, str]) -> list[Migration]:
    """What is to be applied.

    Versions that only the database knows belong to a newer release and are left alone.

    :param applied: version to sha256, as the database records them.
    :raises CommandError: ``MIGRATION_ALTERED`` or ``MIGRATION_MISSING``.
    """
    todo: list[Migration] = []
    for migration in migrations:
        recorded = applied.get(migration.version)
        if recorded is None:
            todo.append(migration)
            continue
        if recorded != migration.sha256:
            raise CommandError(
                "MIGRATION_ALTERED",
                f"Migration {migration.version:04d}_{migration.name} is not the one that was applied "
                f"(recorded {recorded[:12]}, packaged {migration.sha256[:12]}).",
                "Restore the file as it was and put the change into a new migration.",
            )
        if todo:
            raise CommandError(
                "MIGRATION_MISSING",
                f"Migration {todo[0].version:04d} was never applied though {migration.version:04d} was.",
                "Compare pharmacy.schema_migrations with the release; nothing was changed.",
            )
    return todo


def require_expansion(migration: Migration) -> None:
    """Refuse a migration that the release before could not live with.

    :raises CommandError: ``MIGRATION_NOT_EXPANDING``.
    """
    refused = expand.refusals(migration.text)
    if refused:
        line, reason = refused[0]
        raise CommandError(
            "MIGRATION_NOT_EXPANDING",
            f"Migration {migration.version:04d}_{migration.name} {reason} (line {line}), "
            "and the release in service may still need it.",
            f"Move it into a later release; there, say why it is safe: {expand.MARKER} <reason>",
        )


def run(
    url: str,
    release: Release,
    migrations: list[Migration] | None = None,
    locks: LockPolicy | None = None,
) -> dict[str, Any]:
    """Apply what is pending; what was done.

    :raises CommandError: the database cannot be reached or is not UTF8, a role is missing, a migration
        was altered, does not only add, does not get its locks, or fails.
    """
    migrations = packaged() if migrations is None else migrations
    with connect(url) as connection:
        _require_utf8(connection)
        _become_owner(connection)
        _lock(connection)
        with connection.transaction():
            _bootstrap(connection)
        applied = dict(
            cast(
                "list[tuple[int, str]]",
                connection.execute("select version, sha256 from pharmacy.schema_migrations").fetchall(),
            )
        )
        todo = pending(migrations, applied)
        for migration in todo:
            require_expansion(migration)
        for migration in todo:
            _apply(connection, migration, release, locks or LockPolicy())
        head = connection.execute("select max(version) from pharmacy.schema_migrations").fetchone()
    return {
        "changed": bool(todo),
        "applied": [migration.version for migration in todo],
        "head": head[0] if head else None,
        "newer": sorted(applied.keys() - {migration.version for migration in migrations}),
        "release": release.label,
    }


def connect(url: str, timeout: int = 10) -> psycopg.Connection:
    """A connection for an administrative command, in autocommit, opened within ``timeout`` seconds.

    :raises CommandError: ``DB_UNREACHABLE``.
    """
    try:
        return psycopg.connect(
            url,
            autocommit=True,
            connect_timeout=timeout,
            application_name="pharma-backend-admin",
            client_encoding="UTF8",
        )
    except psycopg.Error as error:
        raise CommandError(
            "DB_UNREACHABLE",
            f"The database cannot be reached: {' '.join(str(error).split())}.",
            "Check that PostgreSQL runs and that the URL's host, user and password are right.",
        ) from None


def _require_utf8(connection: psycopg.Connection) -> None:
    """Names have accents: in another encoding (SQL_ASCII of a C locale) they would be kept as mere bytes."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise CommandError(
            "DB_ENCODING_WRONG",
            f"The database {connection.info.dbname} has the encoding {encoding}, not UTF8.",
            "Create it again: create database … template template0 encoding 'UTF8'",
        )


def _become_owner(connection: psycopg.Connection) -> None:
    """Objects belong to one role, whoever migrates."""
    missing = connection.execute(
        "select name from unnest(%s::text[]) as name where to_regrole(name) is null", ([OWNER, RUNTIME],)
    ).fetchall()
    if missing:
        raise CommandError(
            "DB_ROLE_MISSING",
            f"The server has no role {missing[0][0]}.",
            "Run the role pharma.hardening.postgresql on the database host first.",
        )
    row = connection.execute("select pg_has_role(%s, 'member'), session_user", (OWNER,)).fetchone()
    if row is None or not row[0]:
        raise CommandError(
            "DB_ROLE_MISSING",
            f"The role {row[1] if row else '?'} is not a member of {OWNER}.",
            "Use the URL of pharma_migrator as MIGRATION_DATABASE_URL.",
        )
    connection.execute(sql.SQL("set role {}").format(sql.Identifier(OWNER)))
    connection.execute("set search_path = pg_catalog")


def _lock(connection: psycopg.Connection) -> None:
    """One migration at a time; a second one waits for the first."""
    connection.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(f"{LOCK_WAIT_SECONDS}s")))
    try:
        connection.execute("select pg_advisory_lock(%s)", (LOCK_KEY,))
    except psycopg.errors.LockNotAvailable:
        raise CommandError(
            "MIGRATION_LOCKED",
            f"Another migration holds the lock for longer than {LOCK_WAIT_SECONDS} s.",
            "See pg_stat_activity for application_name pharma-backend-admin.",
        ) from None


def _bootstrap(connection: psycopg.Connection) -> None:
    known = connection.execute("select to_regclass('pharmacy.deployments') is not null").fetchone()
    if known and known[0]:
        return
    connection.execute(_BOOTSTRAP)
    connection.execute(sql.SQL("grant usage on schema pharmacy to {}").format(sql.Identifier(RUNTIME)))
    connection.execute(
        sql.SQL("grant select on pharmacy.schema_migrations, pharmacy.deployments to {}").format(
            sql.Identifier(RUNTIME)
        )
    )


def _apply(connection: psycopg.Connection, migration: Migration, release: Release, locks: LockPolicy) -> None:
    for tried in range(locks.tries):
        try:
            _try(connection, migration, release, locks.wait)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            time.sleep(locks.pause(tried))
        else:
            return
    raise CommandError(
        "MIGRATION_BLOCKED",
        f"Migration {migration.version:04d}_{migration.name} did not get its locks in {locks.tries} tries.",
        "Nothing was changed. Find the transaction that stays open (pg_stat_activity, xact_start), end it,"
        " and run migrate again.",
    )


def _try(connection: psycopg.Connection, migration: Migration, release: Release, lock_wait: float) -> None:
    started = time.monotonic()
    wait = sql.Literal(f"{int(lock_wait * 1000)}ms")
    try:
        with connection.transaction():
            connection.execute(sql.SQL("set local lock_timeout = {}").format(wait))
            # The text comes from this package, never from input.
            connection.execute(sql.SQL(migration.text))
            connection.execute(
                "insert into pharmacy.schema_migrations (version, name, sha256, duration_ms, release)"
                " values (%s, %s, %s, %s, %s)",
                (
                    migration.version,
                    migration.name,
                    migration.sha256,
                    int((time.monotonic() - started) * 1000),
                    release.label,
                ),
            )
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        raise
    except psycopg.Error as error:
        raise CommandError(
            "MIGRATION_FAILED",
            f"Migration {migration.version:04d}_{migration.name} failed and was rolled back: "
            f"{error.diag.message_primary or type(error).__name__} (SQLSTATE {error.sqlstate}).",
            "The database is as it was before this migration; correct the cause and run migrate again.",
        ) from error


def record_release(url: str, release: Release) -> dict[str, object]:
    """Record that a release serves now; nothing when the newest row says so.

    Tools that make backups ask which release the rows belong to: one that was refused, or that had to go,
    must not be the answer. So whoever puts a release into service calls this, and not its migrations.

    :raises CommandError: the database cannot be reached, or a role is missing.
    """
    # Somebody waits for a roll back: a database that is ill must not hold it up.
    with connect(url, timeout=3) as connection:
        _become_owner(connection)
        recorded = _record(connection, release)
    return {"changed": recorded, "release": release.label}


def _record(connection: psycopg.Connection, release: Release) -> bool:
    row = connection.execute(
        """
        insert into pharmacy.deployments (name, version, digest)
        select %(name)s, %(version)s, %(digest)s
         where (%(name)s::text, %(version)s::text, %(digest)s::text) is distinct from
               (select (d.name, d.version, d.digest) from pharmacy.deployments d order by d.id desc limit 1)
        returning id
        """,
        {"name": release.name, "version": release.version, "digest": release.digest},
    ).fetchone()
    return row is not None
