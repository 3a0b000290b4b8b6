# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of size and time, security headers, and what is swept away."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from api_harness import problem
from backend_harness import PASSWORD, Cli, Cluster, Service, eventually, make_cli, start_service

from pharma_backend import settings, sweep
from pharma_backend.database import Database
from pharma_backend.headers import SECURITY

LIMIT = 2048


@pytest.fixture(scope="module")
def small(pharmacy: Cli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with narrow limits: 2 KiB, half a second for a body, one and a half for an answer."""
    running = start_service(
        pharmacy,
        tmp_path_factory.mktemp("small"),
        PHARMA_BODY_BYTES=str(LIMIT),
        PHARMA_BODY_TIMEOUT="0.5",
        PHARMA_REQUEST_TIMEOUT="1.5",
        PHARMA_SWEEP_SECONDS="0.3",
    )
    try:
        yield running
    finally:
        running.client.close()
        running.stop()


def padded(size: int) -> bytes:
    """A login, as JSON of so many bytes."""
    body = b'{"username": "ana", "password": "%s"}' % PASSWORD.encode()
    return body + b" " * (size - len(body))


def send(service: Service, content: bytes | Iterator[bytes]) -> httpx.Response:
    return service.client.post("/auth/login", content=content, headers={"content-type": "application/json"})


def test_a_body_may_have_the_limit_and_not_one_byte_more(small: Service) -> None:
    assert send(small, padded(LIMIT)).status_code == 200
    reply = send(small, padded(LIMIT + 1))
    problem(reply, 413, "PAYLOAD_TOO_LARGE")
    assert reply.headers["connection"] == "close"
    line = small.line(reply.headers["x-request-id"])
    assert (line["meta"]["status"], line["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_a_body_of_unknown_length_has_the_same_limit(small: Service) -> None:
    whole = padded(LIMIT)
    assert send(small, iter([whole[:100], whole[100:]])).status_code == 200
    problem(send(small, iter([padded(LIMIT), b" "])), 413, "PAYLOAD_TOO_LARGE")
    problem(send(small, (b" " * 1024 for _ in range(1000))), 413, "PAYLOAD_TOO_LARGE")


def raw(service: Service, *parts: bytes) -> tuple[bytes, float]:
    """Send bytes and read until the service closes; the answer and the seconds that it took."""
    began = time.monotonic()
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(10)
        channel.connect(str(service.socket))
        for part in parts:
            channel.sendall(part)
        answer = b""
        while chunk := channel.recv(65536):
            answer += chunk
    return answer, time.monotonic() - began


HEAD = b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "parts",
    [(HEAD + b"Content-Length: 100\r\n\r\n{",), (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",)],
)
def test_a_body_that_does_not_come_is_not_waited_for(small: Service, parts: tuple[bytes, ...]) -> None:
    answer, seconds = raw(small, *parts)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"BODY_TOO_SLOW" in answer
    assert 0.4 < seconds < 5


def test_a_client_that_goes_away_leaves_one_line(small: Service) -> None:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(str(small.socket))
        channel.sendall(HEAD + b"X-Request-Id: gone-away-1\r\nContent-Length: 100\r\n\r\n{")
    line = small.line("gone-away-1")
    assert (line["level"], line["meta"]["status"], line["error"]["code"]) == ("warn", 499, "CLIENT_GONE")


def test_a_request_that_takes_too_long_is_answered_and_its_transaction_ended(
    small: Service, sql: psycopg.Connection
) -> None:
    headers = small.headers("ana")
    with psycopg.connect(sql.info.dsn) as blocker:
        blocker.execute("lock table pharmacy.products in access exclusive mode")
        began = time.monotonic()
        reply = small.client.get("/products?limit=1", headers=headers)
        seconds = time.monotonic() - began
    problem(reply, 503, "REQUEST_TIMED_OUT")
    assert "retry-after" in reply.headers
    assert 1.4 < seconds < 5
    line = small.line(reply.headers["x-request-id"])
    assert (line["level"], line["error"]["code"]) == ("error", "REQUEST_TIMED_OUT")
    assert "products.py" in json.dumps(line["error"])
    assert small.client.get("/products?limit=1", headers=headers).status_code == 200
    idle = (
        "select count(*) from pg_stat_activity where state = 'idle in transaction' and usename = 'pharma_app'"
    )
    eventually(lambda: sql.execute(idle).fetchone() == (0,))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health/ready", 200),
        ("/metrics", 200),
        ("/nowhere", 404),
        ("/sales/1", 401),
        ("/products?limit=x", 401),
    ],
)
def test_every_answer_has_the_security_headers(service: Service, path: str, status: int) -> None:
    reply = service.client.get(path)
    assert reply.status_code == status
    for name, value in SECURITY:
        assert reply.headers.get_list(name.decode()) == [value.decode()], name
    assert "server" not in reply.headers


def test_tokens_are_not_stored_by_anybody(service: Service) -> None:
    reply = service.client.post("/auth/login", json={"username": "ana", "password": PASSWORD})
    assert reply.headers["cache-control"] == "no-store"


def test_what_is_of_no_use_any_more_is_swept(cluster: Cluster, tmp_path: Path) -> None:
    name = cluster.new_database(f"sweep_{tmp_path.name}")
    cli = make_cli(cluster, name, tmp_path)
    cli.json("migrate")
    cli.json("demo-data", "--sales", "10")
    with psycopg.connect(cluster.url("postgres", name), autocommit=True) as sql:
        sql.execute(
            """
            insert into pharmacy.idempotency_keys (user_id, key, fingerprint, status, answer, created_at)
            select 1, 'number-' || hours, decode(repeat('00', 32), 'hex'), 200, '',
                   now() - make_interval(hours => hours)
              from generate_series(22, 26) as hours;
            insert into pharmacy.login_attempts (subject, attempts, last_at)
            select decode(repeat(to_hex(hours), 32), 'hex'), 1, now() - make_interval(hours => hours)
              from generate_series(22, 26) as hours;
            insert into pharmacy.refresh_tokens (user_id, family, token_hash, issued_at, expires_at)
            select 1, gen_random_uuid(), decode(repeat(lpad(hours::text, 2, '0'), 32), 'hex'), now() - interval '1 day',
                   now() + make_interval(hours => hours) - interval '3 hours 1 minute'
              from generate_series(1, 4) as hours
            """
        )
        removed = asyncio.run(_sweep(cluster.url("pharma_app", name)))
        assert removed == {"idempotencyKeys": 3, "loginAttempts": 3, "refreshTokens": 3}
        left = sql.execute("select key from pharmacy.idempotency_keys order by 1").fetchall()
        assert left == [("number-22",), ("number-23",)]
        assert asyncio.run(_sweep(cluster.url("pharma_app", name))) == dict.fromkeys(removed, 0)


async def _sweep(url: str) -> dict[str, int]:
    database = Database(url, settings.Settings())
    await database.open()
    try:
        return await sweep.sweep(database)
    finally:
        await database.close()


def test_the_service_sweeps(small: Service, sql: psycopg.Connection) -> None:
    sql.execute(
        "insert into pharmacy.login_attempts values (decode(repeat('ee', 32), 'hex'), 1, now() - interval '2 days')"
    )
    left = "select 1 from pharmacy.login_attempts where subject = decode(repeat('ee', 32), 'hex')"
    eventually(lambda: sql.execute(left).fetchone() is None)
    eventually(lambda: any(line["msg"] == "swept" for line in small.lines()))
