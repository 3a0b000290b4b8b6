# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to PostgreSQL: where to, with which settings, and what their failures mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

from .. import _deps, config
from ..errors import OpsError
from ..process import secret_file
from . import url

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

CONNECT_TIMEOUT_SECONDS = 10
LOCK_TIMEOUT_SECONDS = 120

PINNED_SETTINGS: dict[str, str] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmloption": "content",
    "lc_monetary": "C",
    "client_encoding": "UTF8",
    "search_path": "",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "row_security": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "statement_timeout": "0",
    "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
}
"""What the text of a value, and so the content hash, must not depend on; and what would cut us short."""

_PIN: LiteralString = """
    SELECT pg_catalog.set_config(s.name, s.value, false)
    FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])) AS s(name, value)
    WHERE pg_catalog.current_setting(s.name, true) IS NOT NULL
"""
"""A server that does not know a setting (transaction_timeout before 17) has nothing to pin."""

_CHILD_OPTIONS = (
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c row_security=off "
    f"-c lock_timeout={LOCK_TIMEOUT_SECONDS}s"
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """One database of one server, and the role to connect as. ``host`` may be a socket's directory."""

    dbname: str
    host: str = "/var/run/postgresql"
    port: int = 5432
    user: str = "postgres"
    password: str | None = field(default=None, repr=False)
    sslmode: str = "prefer"
    sslrootcert: Path | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    """More parameters of libpq, each one of :data:`.url.ENVIRONMENT`."""

    @classmethod
    def from_config(cls, name: str, section: config.Database) -> Target:
        """The target of a configuration, its password or its DATABASE_URL read from its file.

        :param name: the key of the section, the database's name when nothing else says it.
        :raises OpsError: ``SECRET_MISSING``, ``SECRET_INVALID``: names the file; ``CONFIG_INVALID``.
        """
        if section.url_file is not None:
            return cls._from_url(name, section, section.url_file)
        return cls(
            dbname=section.dbname or name,
            host=section.host,
            port=section.port,
            user=section.user,
            password=_read_password(section.password_file),
            sslmode=section.sslmode,
            sslrootcert=section.sslrootcert,
        )

    @classmethod
    def _from_url(cls, name: str, section: config.Database, path: Path) -> Target:
        """Over a network without ``sslmode``, the server must prove who it is."""
        default = config.Database()
        for key in ("dbname", "host", "port", "user", "password_file"):
            if getattr(section, key) != getattr(default, key):
                raise OpsError(
                    "CONFIG_INVALID",
                    f"databases.{name} has both url_file and {key}.",
                    "The URL says where the database is and who connects: leave the other keys out.",
                )
        address = url.read(path)
        chosen = section.sslmode if section.sslmode != default.sslmode else ""
        sslmode = address.sslmode or chosen or "verify-full"
        return cls(
            dbname=address.dbname,
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password,
            sslmode=sslmode,
            sslrootcert=section.sslrootcert or url.authority(address, sslmode),
            parameters=address.parameters,
        )

    @property
    def description(self) -> str:
        """For messages: ``database "pharma" at db1:5432 as pharma_backup``."""
        return f'database "{self.dbname}" at {self.host}:{self.port} as {self.user}'


def _read_password(path: Path | None) -> str | None:
    if path is None:
        return None
    action = "Deploy the secret (the role pharma.hardening.backup writes it) or correct password_file."
    try:
        password = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise OpsError(
            "SECRET_MISSING", f"The password file {path} cannot be read: {error.strerror}.", action
        ) from error
    except UnicodeDecodeError as error:
        raise OpsError("SECRET_INVALID", f"The password file {path} is not UTF-8 text.", action) from error
    if not password or "\n" in password:
        raise OpsError("SECRET_INVALID", f"The password file {path} must hold exactly one line.", action)
    return password


def connect(
    target: Target, *, autocommit: bool = False, settings: dict[str, str] | None = None
) -> Connection:
    """Open a connection whose settings do not depend on the server, the role or our environment.

    :param settings: more settings, or other values for :data:`PINNED_SETTINGS`.
    :raises OpsError: ``DATABASE_UNREACHABLE``, ``DATABASE_LOGIN_REFUSED``, ``DATABASE_MISSING``,
        ``DATABASE_TLS_FAILED`` or ``DATABASE_REFUSED``; the message never has the password.
    """
    psycopg = _deps.load("psycopg")
    try:
        connection: Connection = psycopg.connect(
            host=target.host,
            port=target.port,
            dbname=target.dbname,
            user=target.user,
            password=target.password,
            sslmode=target.sslmode,
            sslrootcert=str(target.sslrootcert) if target.sslrootcert else None,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            # The session that holds the snapshot is idle for as long as the dump takes.
            keepalives_idle=60,
            application_name="pharma-ops",
            autocommit=True,
            prepare_threshold=None,
            **target.parameters,
        )
    except psycopg.Error as error:
        raise _connect_error(target, str(error).strip()) from error
    try:
        with translated(target):
            pinned = PINNED_SETTINGS | (settings or {})
            connection.execute(_PIN, (list(pinned), list(pinned.values())))
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


_UNREACHABLE = (
    "connection refused",
    "could not translate host name",
    "name or service not known",
    "timeout expired",
    "connection timeout",
    "no route to host",
    "network is unreachable",
    "no such file or directory",
    "could not receive data from server",
    "server closed the connection",
    "failed to resolve host",
)
_LOGIN = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "authentication failed",
    "not permitted to log in",
)
_TLS = ("certificate", "does not support ssl", "ssl error", "sslmode", "root.crt")


def _connect_error(target: Target, words: str) -> OpsError:
    """Sort a failed connection by what the operator has to look at.

    libpq tells the server's answer as text only, so words decide; what is not known stays generic.
    """
    text = words.lower()
    where = target.description
    if any(part in text for part in _LOGIN) or ('role "' in text and "does not exist" in text):
        return OpsError(
            "DATABASE_LOGIN_REFUSED",
            f"The server refused the login to {where}: {words}",
            "Check the role's password file and pg_hba.conf; a rotated password must reach both sides.",
        )
    if "does not exist" in text and 'database "' in text:
        return OpsError(
            "DATABASE_MISSING",
            f"There is no {where}: {words}",
            "Correct dbname of the database in the configuration.",
        )
    if any(part in text for part in _UNREACHABLE):
        return OpsError(
            "DATABASE_UNREACHABLE",
            f"No PostgreSQL server answers for {where}: {words}",
            "Check that the server runs, its address and port, and the firewall between the hosts.",
        )
    if any(part in text for part in _TLS):
        return OpsError(
            "DATABASE_TLS_FAILED",
            f"No trusted TLS connection to {where}: {words}",
            "Check sslmode, sslrootcert and the server's certificate.",
        )
    return OpsError("DATABASE_REFUSED", f"No connection to {where}: {words}", "Read the server's log.")


@contextmanager
def translated(target: Target, doing: str = "") -> Iterator[None]:
    """Turn what psycopg raises inside the block into errors that name the database and the cause.

    :param doing: what was being done, for the message (``reading pharmacy.sales``).
    """
    psycopg = _deps.load("psycopg")
    try:
        yield
    except psycopg.Error as error:
        raise _statement_error(target, error, doing) from error


def _statement_error(target: Target, error: psycopg.Error, doing: str) -> OpsError:
    words = (error.diag.message_primary or str(error)).strip()
    state = error.sqlstate or ""
    where = f"{target.description}{f', {doing}' if doing else ''}"
    if state == "42501":
        return OpsError(
            "DATABASE_PERMISSION_MISSING",
            f"The role {target.user} may not read everything of {where}: {words}.",
            _permission_action(target.user, words),
        )
    if state == "55P03":
        return OpsError(
            "DATABASE_LOCK_TIMEOUT",
            f"A lock was not granted within {LOCK_TIMEOUT_SECONDS} s on {where}: {words}.",
            "Find the session that holds it (pg_locks, pg_stat_activity), then run again.",
        )
    if state in {"42P01", "42703", "3F000", "XX000"}:
        return OpsError(
            "DATABASE_CHANGED",
            f"An object changed or went away while it was read on {where}: {words}.",
            "Run again when no migration is running.",
        )
    if state.startswith(("08", "57P")) or not state:
        return OpsError(
            "DATABASE_LOST",
            f"The connection to {where} was lost: {words}.",
            "Check that the server runs; its log says why it ended the session.",
        )
    return OpsError("DATABASE_ERROR", f"{where}: {words} (SQLSTATE {state}).", "Read the server's log.")


def _permission_action(user: str, words: str) -> str:
    if "row-level security" in words or "row security" in words:
        return f"As a superuser: ALTER ROLE {user} BYPASSRLS."
    if "large object" in words:
        return f"As a superuser: ALTER ROLE {user} SET lo_compat_privileges = on."
    return f"As a superuser: GRANT pg_read_all_data TO {user}."


@contextmanager
def libpq_environment(target: Target) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """The environment of ``pg_dump`` and friends for a target, and the descriptors to pass.

    The password is in a file in memory that only a child with the descriptor can open.
    """
    env = {
        "PGHOST": target.host,
        "PGPORT": str(target.port),
        "PGDATABASE": target.dbname,
        "PGUSER": target.user,
        "PGSSLMODE": target.sslmode,
        "PGAPPNAME": "pharma-ops",
        "PGCONNECT_TIMEOUT": str(CONNECT_TIMEOUT_SECONDS),
        "PGOPTIONS": _CHILD_OPTIONS,
    }
    if target.sslrootcert:
        env["PGSSLROOTCERT"] = str(target.sslrootcert)
    for name, given in target.parameters.items():
        variable = url.ENVIRONMENT[name]
        env[variable] = f"{env[variable]} {given}" if variable in env else given
    fds: tuple[int, ...] = ()
    with ExitStack() as stack:
        if target.password is not None:
            escaped = target.password.replace("\\", "\\\\").replace(":", "\\:")
            path, fd = stack.enter_context(secret_file(f"*:*:*:*:{escaped}\n".encode()))
            env["PGPASSFILE"] = str(path)
            fds = (fd,)
        yield env, fds


def one_row(connection: Connection, query: LiteralString | bytes, *arguments: Any) -> tuple[Any, ...]:
    """The one row that a query returns.

    :raises OpsError: ``DATABASE_CHANGED`` when it returns none.
    """
    row = connection.execute(query, arguments or None).fetchone()
    if row is None:
        raise OpsError("DATABASE_CHANGED", "A query that returns one row returned none.", "Run again.")
    return row


def value(connection: Connection, query: LiteralString, *arguments: Any) -> Any:
    """The one value that a query returns.

    :raises OpsError: ``DATABASE_CHANGED`` when it returns no row.
    """
    return one_row(connection, query, *arguments)[0]
