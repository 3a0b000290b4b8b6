# SPDX-License-Identifier: GPL-3.0-or-later
"""Login roles that take turns, on a real server: who gets in, and what the server's log sees of it."""

from __future__ import annotations

import secrets

import psycopg
import pytest
from cluster import Cluster

from pharma_ops.custody import login
from pharma_ops.errors import OpsError
from pharma_ops.postgres.connection import Target

PASSWORD = secrets.token_urlsafe(24)


@pytest.fixture
def target(cluster: Cluster) -> Target:
    """A database with two login roles of the same rights, the first of which is in use."""
    for role in ("app", "app_alt", "runtime", "reader"):
        with cluster.connect() as connection:
            exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
        if not exists:
            cluster.execute(f"CREATE ROLE {role}")
    cluster.create("shop")
    cluster.execute(
        "GRANT runtime TO app, app_alt; REVOKE reader FROM app_alt; ALTER ROLE app LOGIN PASSWORD 'first';"
        "ALTER ROLE app_alt NOLOGIN PASSWORD NULL; REVOKE CONNECT ON DATABASE shop FROM PUBLIC;"
        "GRANT CONNECT ON DATABASE shop TO runtime"
    )
    return Target(dbname="shop", host=cluster.host, port=cluster.port)


def enter(cluster: Cluster, role: str, password: str) -> psycopg.Connection[tuple[object, ...]]:
    """A session as the application has one: over loopback, with a password."""
    return psycopg.connect(
        host="127.0.0.1", port=cluster.port, dbname="shop", user=role, password=password, connect_timeout=5
    )


def test_both_log_in_and_then_only_the_other(cluster: Cluster, target: Target) -> None:
    assert login.allow(target, "app_alt", PASSWORD, "app", check=True)
    with pytest.raises(psycopg.OperationalError):
        enter(cluster, "app_alt", PASSWORD)
    assert login.allow(target, "app_alt", PASSWORD, "app")
    assert not login.allow(target, "app_alt", PASSWORD, "app"), "the second time changes nothing"
    enter(cluster, "app", "first").close()
    with enter(cluster, "app_alt", PASSWORD):
        assert login.count_sessions(target, ("app", "app_alt"))["app_alt"] == 1
    assert login.deny(target, "app", check=True)
    enter(cluster, "app", "first").close()
    assert login.deny(target, "app")
    assert not login.deny(target, "app")
    with pytest.raises(psycopg.OperationalError):
        enter(cluster, "app", "first")
    enter(cluster, "app_alt", PASSWORD).close()


def test_a_new_password_replaces_the_old_one(cluster: Cluster, target: Target) -> None:
    login.allow(target, "app_alt", PASSWORD, "app")
    other = secrets.token_urlsafe(24)
    assert login.allow(target, "app_alt", other, "app")
    enter(cluster, "app_alt", other).close()
    with pytest.raises(psycopg.OperationalError):
        enter(cluster, "app_alt", PASSWORD)


def test_the_log_sees_neither_password_nor_verifier(cluster: Cluster, target: Target) -> None:
    cluster.execute("ALTER SYSTEM SET log_statement = 'all'")
    cluster.execute("ALTER SYSTEM SET log_min_duration_statement = 0")
    cluster.execute("SELECT pg_reload_conf()")
    try:
        cluster.execute("SELECT 'seen-in-the-log'")
        login.allow(target, "app_alt", PASSWORD, "app")
        with cluster.connect() as connection:
            row = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'app_alt'").fetchone()
        assert row is not None
        log = (cluster.directory / "log").read_text()
    finally:
        cluster.execute("ALTER SYSTEM RESET ALL")
        cluster.execute("SELECT pg_reload_conf()")
    assert "seen-in-the-log" in log
    assert PASSWORD not in log
    assert str(row[0]) not in log
    assert "ALTER ROLE" not in log.replace("ALTER ROLE app LOGIN PASSWORD 'first'", "")


def test_a_role_with_sessions_keeps_its_login(cluster: Cluster, target: Target) -> None:
    with enter(cluster, "app", "first"):
        with pytest.raises(OpsError) as caught:
            login.deny(target, "app")
        assert caught.value.code == "SESSIONS_LEFT"
        assert "1 session" in caught.value.message
    enter(cluster, "app", "first").close()


def test_roles_that_may_not_do_the_same_do_not_take_turns(cluster: Cluster, target: Target) -> None:
    cluster.execute("GRANT reader TO app_alt")
    with pytest.raises(OpsError) as caught:
        login.allow(target, "app_alt", PASSWORD, "app")
    assert caught.value.code == "DATABASE_ROLES_DIFFER"


def test_a_role_that_is_not_there_is_named(target: Target) -> None:
    for role, like in (("nobody", "app"), ("app", "nobody")):
        with pytest.raises(OpsError, match="has no role nobody") as caught:
            login.allow(target, role, PASSWORD, like)
        assert caught.value.code == "DATABASE_ROLE_MISSING"


@pytest.mark.parametrize("stored", [None, "", "md5abc", "SCRAM-SHA-256$x:y$z:w", "SCRAM-SHA-256$4096:AAAA"])
def test_what_is_no_verifier_matches_no_password(stored: str | None) -> None:
    assert not login.matches(stored, PASSWORD)
