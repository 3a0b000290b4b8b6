# SPDX-License-Identifier: GPL-3.0-or-later
"""A request begins with nothing of the one before, over real sockets on both event loops."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from pharma_backend import context, log
from pharma_backend.middleware import RequestMiddleware
from pharma_backend.server import Protocol

Loop = Literal["asyncio", "uvloop"]
ANOTHERS: ContextVar[str] = ContextVar("anothers")
# More than the server reads ahead (64 KiB), so that it stops reading and the request's own task resumes it.
LARGE = b"x" * 300_000


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what an earlier request left behind, and leaves its own query there."""
    if scope["type"] != "http":
        return
    found = ANOTHERS.get("nothing")
    ANOTHERS.set(scope["query_string"].decode())
    request = context.current()
    if request is not None:
        request.user_id = scope["query_string"].decode()
    while (await receive()).get("more_body"):
        pass
    log.info("token_refreshed")
    body = found.encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def lines() -> Iterator[list[bytes]]:
    written: list[bytes] = []
    log.configure("lab", written.append)
    yield written
    log.configure("lab")


@contextmanager
def serving(app: ASGIApp, loop: Loop, *, reset: bool) -> Iterator[int]:
    """A real server in a thread; the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, loop=loop, http=Protocol, lifespan="off", log_config=None, reset_contextvars=reset
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


def post(connection: socket.socket, number: int, body: bytes = b"") -> tuple[str, str]:
    """Send a request on a kept-alive connection; its id and the answer's body."""
    head = f"POST /x?user-{number} HTTP/1.1\r\nHost: x\r\nX-Request-Id: request-{number}\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return read(connection)


def read(connection: socket.socket) -> tuple[str, str]:
    """The request id and the body of one answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, rest = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
    while len(rest) < length:
        rest += connection.recv(65536)
    found = re.search(rb"x-request-id: (\S+)", head.lower())
    return (found[1].decode() if found else ""), rest.decode()


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_large_request_leaves_nothing_to_the_next(loop: Loop, reset: bool, lines: list[bytes]) -> None:
    app = RequestMiddleware(tell, release="0.1.0+0123456789ab", stopping=lambda: False)
    with (
        serving(app, loop, reset=reset) as port,
        socket.create_connection(("127.0.0.1", port), 10) as connection,
    ):
        for number in range(6):
            body = LARGE if number % 2 == 0 else b""
            assert post(connection, number, body) == (f"request-{number}", "nothing")
    told = [json.loads(line) for line in lines]
    events = [line for line in told if line["msg"] in ("token_refreshed", "request_completed")]
    assert len(events) == 12
    for line in events:
        assert line["userId"] == line["requestId"].replace("request", "user")


def test_without_the_middleware_plain_asyncio_does_pass_it_on(lines: list[bytes]) -> None:
    """The fault is real here: otherwise the test above could not fail."""
    with (
        serving(tell, "asyncio", reset=False) as port,
        socket.create_connection(("127.0.0.1", port), 10) as connection,
    ):
        post(connection, 0, LARGE)
        assert post(connection, 1)[1] == "user-0"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_bytes_that_are_no_request_are_nobodys(loop: Loop, lines: list[bytes]) -> None:
    app = RequestMiddleware(tell, release="0.1.0+0123456789ab", stopping=lambda: False)
    with (
        serving(app, loop, reset=False) as port,
        socket.create_connection(("127.0.0.1", port), 10) as connection,
    ):
        post(connection, 0, LARGE)
        connection.sendall(b"password=hunter2 \x00\xff maria@example.com\r\n\r\n")
        request_id, body = read(connection)
    problem = json.loads(body)
    assert (problem["status"], problem["requestId"]) == (400, request_id)
    told = [json.loads(line) for line in lines]
    refused = next(line for line in told if line["msg"] == "request_refused")
    assert (refused["requestId"], refused["meta"], refused["route"]) == (
        request_id,
        {"status": 400},
        "OTHER <unmatched>",
    )
    after = told[[line["msg"] for line in told].index("request_completed") + 1 :]
    assert after
    for line in after:
        assert line["requestId"] != "request-0"
        assert "userId" not in line
    assert b"hunter2" not in b"".join(lines)
    assert b"maria" not in b"".join(lines)


def test_what_a_finished_request_left_running_speaks_for_itself(lines: list[bytes]) -> None:
    late: list[asyncio.Task[None]] = []

    async def speak() -> None:
        await asyncio.sleep(0.01)
        log.info("token_refreshed")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        late.append(asyncio.create_task(speak()))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> None:
        wrapped = RequestMiddleware(app, release="0.1.0+0123456789ab", stopping=lambda: False)
        scope = {"type": "http", "method": "GET", "headers": [(b"x-request-id", b"request-1")]}

        async def nothing(message: object = None) -> dict[str, str]:
            return {"type": "http.disconnect"}

        await wrapped(scope, nothing, nothing)
        await asyncio.gather(*late)

    asyncio.run(run())
    told = [(line["msg"], line["requestId"]) for line in map(json.loads, lines)]
    assert told[0] == ("request_completed", "request-1")
    assert told[1][0] == "token_refreshed"
    assert told[1][1].startswith("process-")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_interleaved_requests_keep_their_lines_apart(loop: Loop, lines: list[bytes]) -> None:
    app = RequestMiddleware(tell, release="0.1.0+0123456789ab", stopping=lambda: False)
    began = time.monotonic()
    failures: list[str] = []

    def client(first: int, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            for number in range(first, first + 50):
                answer = post(connection, number, LARGE if number % 5 == 0 else b"")
                if answer != (f"request-{number}", "nothing"):
                    failures.append(f"{number}: {answer}")

    with serving(app, loop, reset=True) as port:
        threads = [threading.Thread(target=client, args=(1000 + 50 * n, port)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    told = [json.loads(line) for line in lines]
    told = [line for line in told if line["msg"] in ("token_refreshed", "request_completed")]
    assert len(told) == 800
    assert all(line["userId"] == line["requestId"].replace("request", "user") for line in told)
    assert time.monotonic() - began < 60
