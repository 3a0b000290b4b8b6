# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a cluster, a pharmacy with demo data, the service on it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from backend_harness import PASSWORD, Cli, Cluster, Service, make_cli, start_service  # noqa: E402


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="pharma-") as home:
        cluster = Cluster(Path(home))
        cluster.create()
        try:
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def pharmacy(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A migrated database with demo data and three users."""
    home = tmp_path_factory.mktemp("pharmacy")
    cli = make_cli(cluster, cluster.new_database("pharmacy"), home)
    cli.json("migrate")
    cli.json("demo-data", "--sales", "300", "--seed", "7")
    cli.json("create-user", "--username", "ana", "--role", "manager", "--password-stdin", stdin=PASSWORD)
    with psycopg.connect(cluster.url("postgres", "pharmacy"), autocommit=True) as connection:
        connection.execute(
            """
            insert into pharmacy.users (store_id, username, full_name, role, password_hash)
            select store_id, other, other, new_role::pharmacy.user_role, password_hash
              from pharmacy.users, (values ('bia', 'cashier'), ('caio', 'admin')) as more (other, new_role)
             where username = 'ana'
            """
        )
    return cli


@pytest.fixture(scope="session")
def service(pharmacy: Cli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = start_service(pharmacy, tmp_path_factory.mktemp("service"))
    try:
        yield service
    finally:
        service.client.close()
        if service.process.poll() is None:
            assert service.stop() == 0


@pytest.fixture
def sql(cluster: Cluster) -> Iterator[psycopg.Connection]:
    """A superuser's connection to the pharmacy's database."""
    with psycopg.connect(cluster.url("postgres", "pharmacy"), autocommit=True) as connection:
        yield connection
