# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login roles of a database that take turns: one logs in with a password, the other one not at all."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import _deps
from ..errors import ExitCode, OpsError
from ..postgres.connection import Target, connect

if TYPE_CHECKING:
    from ..postgres.connection import Connection

# Neither a statement nor an error that quotes it reaches the server's log: it holds the password's verifier.
_SILENT = {
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "log_duration": "off",
}


def allow(target: Target, role: str, password: str, like: str, *, check: bool = False) -> bool:
    """Let a role log in with a password; whether that changed anything.

    :param like: the role that it takes turns with; memberships and the right to connect must be the same.
    :param check: only tell.
    :raises OpsError: ``DATABASE_ROLE_MISSING``, ``DATABASE_ROLES_DIFFER``, and those of a connection.
    """
    with connect(target, autocommit=True, settings=_SILENT) as connection:
        can_login, stored = _role(connection, role)
        _compare(connection, target, role, like)
        if can_login and matches(stored, password):
            return False
        if not check:
            _set(connection, role, login=True, password=password)
        return True


def deny(target: Target, role: str, *, check: bool = False) -> bool:
    """Keep a role from logging in, and forget its password; whether that changed anything.

    :raises OpsError: ``DATABASE_ROLE_MISSING``, ``SESSIONS_LEFT``: it still has sessions, which would lose
        their connection pool's replacements one by one; and those of a connection.
    """
    with connect(target, autocommit=True, settings=_SILENT) as connection:
        can_login, stored = _role(connection, role)
        if not can_login and stored is None:
            return False
        if count := sessions(connection, (role,))[role]:
            raise OpsError(
                "SESSIONS_LEFT",
                f"The role {role} still has {count} session(s) in {target.description}.",
                "Find in pg_stat_activity who uses it, and give that the new login; nothing was changed.",
                ExitCode.FAILED,
            )
        if not check:
            _set(connection, role, login=False, password=None)
        return True


def count_sessions(target: Target, roles: Sequence[str]) -> dict[str, int]:
    """How many sessions each of the roles has.

    :raises OpsError: those of a connection.
    """
    with connect(target, autocommit=True) as connection:
        return sessions(connection, roles)


def sessions(connection: Connection, roles: Sequence[str]) -> dict[str, int]:
    """How many sessions each of the roles has on the server of this connection."""
    rows = connection.execute(
        "SELECT usename::text, count(*) FROM pg_catalog.pg_stat_activity WHERE usename = ANY (%s) GROUP BY 1",
        [list(roles)],
    ).fetchall()
    return dict.fromkeys(roles, 0) | {str(name): int(count) for name, count in rows}


def matches(stored: str | None, password: str) -> bool:
    """Whether a stored SCRAM-SHA-256 verifier (RFC 5803, as PostgreSQL keeps it) is of that password.

    A password beyond ASCII, which SASLprep may alter, is never said to match.
    """
    try:
        kind, cost, keys = (stored or "").split("$")
        rounds, salt = cost.split(":")
        wanted = base64.b64decode(keys.split(":")[0])
        salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), base64.b64decode(salt), int(rounds))
    except ValueError:
        return False
    client_key = hmac.new(salted, b"Client Key", hashlib.sha256).digest()
    return kind == "SCRAM-SHA-256" and hmac.compare_digest(hashlib.sha256(client_key).digest(), wanted)


def _role(connection: Connection, role: str) -> tuple[bool, str | None]:
    row = connection.execute(
        "SELECT rolcanlogin, rolpassword FROM pg_catalog.pg_authid WHERE rolname = %s", [role]
    ).fetchone()
    if row is None:
        raise OpsError(
            "DATABASE_ROLE_MISSING",
            f"The database server has no role {role}.",
            "Declare it in postgresql_roles (login: false), in postgresql_hba and among those who may connect,"
            " and deploy.",
        )
    return bool(row[0]), row[1]


_RIGHTS = """
    SELECT array(SELECT m.roleid::regrole::text FROM pg_catalog.pg_auth_members m
                 WHERE m.member = r.oid ORDER BY 1),
           pg_catalog.has_database_privilege(r.oid, %s, 'CONNECT')
    FROM pg_catalog.pg_roles r WHERE r.rolname = %s
"""


def _compare(connection: Connection, target: Target, role: str, like: str) -> None:
    """Both roles may do the same, or the switch would break the application."""
    mine = connection.execute(_RIGHTS, [target.dbname, role]).fetchone()
    other = connection.execute(_RIGHTS, [target.dbname, like]).fetchone()
    if other is None:
        _role(connection, like)
    if mine != other:
        raise OpsError(
            "DATABASE_ROLES_DIFFER",
            f"The roles {role} and {like} differ in what they are members of, or in whether they may connect to"
            f" {target.dbname}.",
            "Give both the same member_of in postgresql_roles and both a place in connect, and deploy.",
        )


def _set(connection: Connection, role: str, *, login: bool, password: str | None) -> None:
    sql = _deps.load("psycopg.sql")
    verifier = None
    if password is not None:
        # Made here: the password itself is never part of a statement.
        verifier = connection.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        ).decode()
    connection.execute(
        sql.SQL("ALTER ROLE {} {} PASSWORD {}").format(
            sql.Identifier(role), sql.SQL("LOGIN" if login else "NOLOGIN"), sql.Literal(verifier)
        )
    )
