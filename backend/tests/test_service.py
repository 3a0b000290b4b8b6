# SPDX-License-Identifier: GPL-3.0-or-later
"""The running process: lines, health, metrics, notifications, stop, loss of the database."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import httpx
import jsonschema
import psycopg
import pytest
from backend_harness import PASSWORD, Cli, Cluster, Service, eventually, make_cli, start_service
from fastapi import FastAPI

from pharma_backend import app, log, problems, release, settings
from pharma_backend.middleware import RequestMiddleware

SCHEMAS = Path(__file__).resolve().parents[2] / "docs/schemas"


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))


def test_health(service: Service) -> None:
    live = service.client.get("/health/live").json()
    assert (live.keys(), live["status"]) == ({"status", "uptimeSec"}, "ok")
    ready = service.client.get("/health/ready")
    validator("health-ready").validate(ready.json())
    assert (ready.status_code, ready.json()["db"]) == (200, "ok")


def test_the_request_id_goes_from_the_client_to_the_databases_log(service: Service, cluster: Cluster) -> None:
    reply = service.client.get(
        "/products?limit=1&q=maria@example.com",
        headers=service.headers("ana") | {"X-Request-Id": "drill-7.products"},
    )
    assert reply.headers["x-request-id"] == "drill-7.products"
    line = service.line("drill-7.products")
    assert (line["route"], line["meta"]["status"], line["meta"]["dbQueries"]) == ("GET /products", 200, 3)
    assert line["userId"]
    assert line["storeId"] == "1"
    assert re.search(r"^drill-7\.products\|LOG: [^|]*from pharmacy\.products", cluster.log(), re.MULTILINE)


def test_a_bad_request_id_is_replaced_and_only_its_length_is_logged(service: Service) -> None:
    for bad in ("x" * 60_000, "short", "with space in it", "a" * 8 + "\u00e9"):
        reply = service.client.get("/health/live", headers={b"X-Request-Id": bad.encode()})
        if reply.status_code == 400:
            continue  # refused by the HTTP parser itself
        assert reply.headers["x-request-id"] != bad
        line = service.line(reply.headers["x-request-id"])
        assert line["meta"]["rejectedRequestIdLength"] == len(bad.encode())
        assert bad not in json.dumps(line)


def test_trace_context(service: Service) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    reply = service.client.get("/health/live", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert service.line(reply.headers["x-request-id"])["meta"]["traceId"] == trace


def test_every_line_is_one_and_tells_no_secret(service: Service) -> None:
    tokens = service.login("bia")
    service.client.post(
        "/auth/login", json={"username": "maria.silva@example.com", "password": "hunter2-hunter2"}
    )
    service.client.get("/customers/52998224725", headers={"Authorization": "Bearer hunter2"})
    service.client.post(
        "/sales", content=b'{"cpf": "52998224725', headers={"content-type": "application/json"}
    )
    reply = service.client.get(
        "/sales/not-a-number", headers={"Authorization": f"Bearer {tokens['access_token']}"}
    )
    assert reply.status_code == 422
    schema = validator("log-line")
    lines = service.lines()
    for line in lines:
        schema.validate(line)
    completed = [line["requestId"] for line in lines if line["msg"] == "request_completed"]
    assert len(completed) == len(set(completed))
    text = service.output.read_text()
    for secret in (PASSWORD, "hunter2", "52998224725", "maria.silva", "not-a-number", "postgresql://", "eyJ"):
        assert secret not in text
    assert not any(tokens[name] in text for name in ("access_token", "refresh_token"))


def test_a_handler_that_raises_leaves_one_line_and_a_problem() -> None:
    app = FastAPI()
    problems.install(app)

    @app.get("/boom/{id}")
    async def boom(id: int) -> None:
        password = "hunter2"  # noqa: F841 - a local that must not be logged
        raise RuntimeError("no row for 'Maria da Silva' <maria@example.com>")

    lines: list[bytes] = []
    log.configure("lab", lines.append)
    wrapped = RequestMiddleware(app, release="1.0.0+000000000000", stopping=lambda: False)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(wrapped)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/boom/7", headers={"X-Request-Id": "request-77"})

    try:
        reply = asyncio.run(ask())
    finally:
        log.configure("lab")
    assert (reply.status_code, reply.json()["code"], reply.json()["requestId"]) == (
        500,
        "INTERNAL",
        "request-77",
    )
    assert reply.headers["x-request-id"] == "request-77"
    assert "Maria" not in reply.text
    lines = [line for line in lines if b"request-77" in line]
    assert len(lines) == 1
    line = json.loads(lines[0])
    validator("log-line").validate(line)
    assert (line["level"], line["route"], line["meta"]["status"]) == ("error", "GET /boom/{id}", 500)
    assert line["error"]["type"] == "RuntimeError"
    assert any("boom" in frame for frame in line["error"]["stack"])
    assert b"Maria" not in lines[0]
    assert b"maria" not in lines[0]
    assert b"hunter2" not in lines[0]


def test_metrics_are_not_for_everybody(service: Service) -> None:
    reply = service.client.get("/metrics")
    assert reply.status_code == 200
    assert 'pharma_http_requests_total{method="GET",route="/health/live",status="200"}' in reply.text
    assert "pharma_ready 1.0" in reply.text
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        assert service.client.get("/metrics", headers={header: "127.0.0.1"}).status_code == 403


@pytest.mark.parametrize(
    ("peer", "status"), [("127.0.0.1", 200), ("::1", 200), ("10.0.0.9", 403), ("x", 403)]
)
def test_who_may_scrape(peer: str, status: int) -> None:
    assert ask(settings.Settings(), "/metrics", peer) == status


def ask(chosen: settings.Settings, path: str, peer: str = "127.0.0.1") -> int:
    """The status that the application gives, without a server or a database."""
    secrets = {"DATABASE_URL": "host=/nonexistent", "JWT_SECRET": "j" * 32, "REFRESH_SECRET": "r" * 32}

    async def get() -> int:
        wrapped = app.create(app.services(chosen, release.identify(), secrets))
        transport = httpx.ASGITransport(wrapped, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.get(path)).status_code

    return asyncio.run(get())


def test_a_database_that_is_busy_is_not_an_internal_error(pharmacy: Cli, tmp_path: Path) -> None:
    running = start_service(pharmacy, tmp_path, PHARMA_LOCK_TIMEOUT="0.2")
    url = (pharmacy.credentials / "DATABASE_URL").read_text().strip().replace("pharma_app", "postgres")
    try:
        headers = running.headers("ana")
        with psycopg.connect(url) as blocker:
            blocker.execute("lock table pharmacy.products in access exclusive mode")
            reply = running.client.get("/products?limit=1", headers=headers)
            blocker.rollback()
        assert (reply.status_code, reply.json()["code"]) == (503, "DB_BUSY")
        line = running.line(reply.headers["x-request-id"])
        assert line["level"] == "error"
        assert "55P03" in line["error"]["causes"][0]["message"]
        assert running.client.get("/products?limit=1", headers=headers).status_code == 200
    finally:
        running.stop()


def test_probes_add_no_query(service: Service, sql: psycopg.Connection) -> None:
    before = time.monotonic()
    count = 0
    while time.monotonic() - before < 0.5:
        assert service.client.get("/health/ready").status_code == 200
        count += 1
    assert count > 50
    row = sql.execute(
        "select count(*) from pg_stat_activity where application_name = 'pharma-backend-readiness'"
    ).fetchone()
    assert row == (1,)


@pytest.mark.parametrize(("env", "status"), [("prod", 404), ("staging", 200), ("lab", 200)])
def test_documentation_is_off_in_production(env: Literal["prod", "staging", "lab"], status: int) -> None:
    assert ask(settings.Settings(env=env), "/openapi.json") == status
    assert ask(settings.Settings(env=env), "/docs") == status


def test_systemd_is_told_and_a_stop_drains(pharmacy: Cli, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(address))
        channel.settimeout(5)
        running = start_service(pharmacy, tmp_path, NOTIFY_SOCKET=str(address), WATCHDOG_USEC="300000")
        heard = [channel.recv(4096).decode() for _ in range(6)]
        assert "READY=1" in "\n".join(heard)
        assert "WATCHDOG=1" in heard
        assert running.client.get("/health/ready").status_code == 200
        running.process.terminate()
        draining = eventually(lambda: (r := running.client.get("/health/ready")).status_code == 503 and r, 2)
        assert draining.json()["status"] == "fail"
        assert draining.headers["connection"] == "close"
        assert running.process.wait(10) == 0
        channel.setblocking(False)
        rest = []
        while True:
            try:
                rest.append(channel.recv(4096).decode())
            except BlockingIOError:
                break
        assert any("STOPPING=1" in message for message in rest)
    events = [line["msg"] for line in running.lines()]
    assert events[0] == "service_starting"
    assert events[-1] == "service_stopped"
    assert not (tmp_path / "api.sock").exists()


def test_a_request_that_is_served_is_finished_before_the_stop(
    pharmacy: Cli, sql: psycopg.Connection, tmp_path: Path
) -> None:
    running = start_service(pharmacy, tmp_path)
    headers = running.headers("ana")
    blocker = psycopg.connect(sql.info.dsn)
    blocker.execute("lock table pharmacy.products in access exclusive mode")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(running.client.get, "/products?limit=1", headers=headers)
        time.sleep(0.3)
        running.process.terminate()
        time.sleep(0.7)
        blocker.rollback()
        blocker.close()
        assert answer.result(10).status_code == 200
    assert running.process.wait(10) == 0


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A cluster that a test may stop."""
    with tempfile.TemporaryDirectory(prefix="pharma-") as home:
        cluster = Cluster(Path(home), port=5497)
        cluster.create()
        yield cluster
        cluster.stop()


def test_readiness_follows_the_database_and_the_service_lives_on(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    cli = make_cli(own_cluster, own_cluster.new_database("pharmacy"), tmp_path)
    cli.json("migrate")
    running = start_service(cli, tmp_path, PHARMA_POOL_TIMEOUT="1")
    try:
        eventually(lambda: running.client.get("/health/ready").status_code == 200)
        own_cluster.stop()
        gone = eventually(lambda: (r := running.client.get("/health/ready")).status_code == 503 and r)
        assert (gone.json()["status"], gone.json()["db"]) == ("fail", "fail")
        assert running.client.get("/health/live").status_code == 200
        login = running.client.post("/auth/login", json={"username": "ana", "password": PASSWORD})
        assert (login.status_code, login.json()["code"]) == (503, "DB_UNREACHABLE")
        assert "retry-after" in login.headers
        own_cluster.start()
        eventually(lambda: running.client.get("/health/ready").status_code == 200)
        eventually(
            lambda: (
                running.client.post("/auth/login", json={"username": "ana", "password": PASSWORD}).status_code
                == 401
            )
        )
        schema = validator("log-line")
        for line in running.lines():
            schema.validate(line)
        assert str(own_cluster.home) not in login.text + gone.text
    finally:
        running.process.kill()
        running.process.wait()


def test_stale_connections_of_the_pool_cost_no_request(own_cluster: Cluster, tmp_path: Path) -> None:
    cli = make_cli(own_cluster, own_cluster.new_database("pharmacy"), tmp_path)
    cli.json("migrate")
    running = start_service(cli, tmp_path)
    try:
        eventually(lambda: running.client.get("/health/ready").status_code == 200)
        body = {"username": "ana", "password": PASSWORD}
        assert running.client.post("/auth/login", json=body).status_code == 401
        own_cluster.stop()
        own_cluster.start()
        assert running.client.post("/auth/login", json=body).status_code == 401
    finally:
        running.process.kill()
        running.process.wait()
