# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a cluster, a pharmacy with demo data, the service on it."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest

HERE = Path(__file__).resolve().parent
ENGINE = HERE.parents[1] / "plugins/module_utils/_ops"
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


@pytest.fixture
def user(service: Service, sql: psycopg.Connection) -> str:
    """A cashier of the first store whom nobody else uses, with bia's password."""
    username = f"c-{uuid4().hex[:12]}"
    sql.execute(
        """
        insert into pharmacy.users (store_id, username, full_name, role, password_hash)
        select store_id, %s, full_name, role, password_hash from pharmacy.users where username = 'bia'
        """,
        (username,),
    )
    return username


@pytest.fixture
def api(service: Service, user: str) -> Iterator[httpx.Client]:
    """A client of that cashier with an open cash session of 100.00."""
    transport = httpx.HTTPTransport(uds=str(service.socket))
    with httpx.Client(transport=transport, base_url="http://pharma", timeout=30) as client:
        client.headers.update(service.headers(user))
        opened = client.post("/cash/open", json={"register": user, "opening_amount": "100.00"})
        assert opened.status_code == 201, opened.text
        yield client


@pytest.fixture
def product(sql: psycopg.Connection) -> int:
    """A product with an expired lot of 50, one of 4 that expires today, one of 6 later, at 10.00."""
    ean = f"{uuid4().int % 10**13:013d}"
    row = sql.execute(
        "insert into pharmacy.products (ean, name, active_ingredient, price)"
        " values (%s, 'Teste 1 mg', 'Teste', 10.00) returning id",
        (ean,),
    ).fetchone()
    assert row
    for days, units in ((-1, 50), (0, 4), (90, 6)):
        sql.execute(
            """
            with lot as (
              insert into pharmacy.lots (product_id, code, manufactured_on, expires_on, unit_cost)
              values (%(product)s, %(code)s, '2020-01-01',
                      (now() at time zone 'America/Sao_Paulo')::date + %(days)s::int, 5)
              returning id)
            insert into pharmacy.stock (store_id, lot_id, received, quantity)
            select 1, id, %(units)s, %(units)s from lot
            """,
            {"product": row[0], "code": f"d{days}", "days": days, "units": units},
        )
    return int(row[0])


@pytest.fixture(scope="session")
def engine() -> None:
    """The engine under the name that it has on the hosts."""
    if "pharma_ops" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "pharma_ops", ENGINE / "__init__.py", submodule_search_locations=[str(ENGINE)]
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["pharma_ops"] = module
    spec.loader.exec_module(module)
