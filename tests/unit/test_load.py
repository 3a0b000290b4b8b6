# SPDX-License-Identifier: GPL-3.0-or-later
"""The load generator itself: it sees each kind of failure, and counts nothing as one that is none."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).resolve().parent.parent / "lab"))

import cashiers
import releases
from cashiers import Cashier, Exchange, Mix, Tally, Till, User
from kept_alive import Answer, BrokenExchangeError, Connection, Endpoint, Pool, parse, render
from load import Report, percentile
from shop import strangers

USER = User("load-1", "a password of nobody", "7", "2")
ID = "a" * 32

Handler = Callable[[int, bytes], tuple[bytes, bool]]


async def with_server(handler: Handler, test: Callable[[Endpoint], Awaitable[None]]) -> None:
    """Run ``test`` beside a server that answers the n-th request with ``handler``: the answer, and whether to stay."""
    served = 0
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        tasks.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                answer, stay = handler(served, head)
                served += 1
                writer.write(answer)
                await writer.drain()
                if not stay:
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await test(Endpoint("127.0.0.1", port))
    server.close()
    await asyncio.wait([task for task in tasks if task], timeout=2)


def reply(document: object, status: int = 200, extra: str = "", request_id: str = ID) -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} X\r\nX-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def test_a_connection_is_kept_and_chunks_are_put_together() -> None:
    answers = [reply({"n": 1}), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"]

    async def test(endpoint: Endpoint) -> None:
        connection = Connection(endpoint)
        assert (await connection.exchange("GET", "/", {})).body == b'{"n": 1}'
        assert (await connection.exchange("GET", "/", {})).body == b"{}"
        assert connection.opened == 1
        connection.close()

    asyncio.run(with_server(lambda n, _head: (answers[n], True), test))


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_a_close_between_two_requests_is_a_failure(pause: float) -> None:
    """Whether it is seen before the next request is sent or only when its answer does not come."""

    async def test(endpoint: Endpoint) -> None:
        connection = Connection(endpoint)
        await connection.exchange("GET", "/", {})
        await asyncio.sleep(pause)
        with pytest.raises(BrokenExchangeError, match=r"between two requests|kept-alive"):
            await connection.exchange("GET", "/", {})
        assert (await connection.exchange("GET", "/", {})).status == 200
        assert connection.opened == 2
        connection.close()

    asyncio.run(with_server(lambda n, _head: (reply({}), n != 0), test))


def test_a_close_that_was_announced_is_none() -> None:
    async def test(endpoint: Endpoint) -> None:
        connection = Connection(endpoint)
        for _ in range(3):
            assert (await connection.exchange("GET", "/", {})).status == 200
        assert (connection.announced, connection.opened) == (3, 3)

    asyncio.run(with_server(lambda _n, _head: (reply({}, extra="Connection: close\r\n"), False), test))


def test_shared_connections_are_taken_in_turn() -> None:
    async def test(endpoint: Endpoint) -> None:
        pool = Pool(endpoint, size=2, clients=2)
        answers = [await pool.exchange("GET", "/", {}) for _ in range(4)]
        # The server closes after its second answer, which is on the second connection.
        assert [answer.status for answer in answers] == [200] * 4
        assert (pool.announced, pool.announced) == (1, 0)
        pool.close()
        pool.close()

    def handler(number: int, _head: bytes) -> tuple[bytes, bool]:
        return reply({}, extra="Connection: close\r\n" if number == 1 else ""), number != 1

    asyncio.run(with_server(handler, test))


def test_nobody_waits_for_ever_for_a_shared_connection() -> None:
    """The queue alone would give a connection back to the client that has just used it."""
    served = [0, 0]

    async def test(endpoint: Endpoint) -> None:
        pool = Pool(endpoint, size=1, clients=2)

        async def client(number: int) -> None:
            while sum(served) < 20:
                await pool.exchange("GET", "/", {})
                served[number] += 1
            pool.close()

        await asyncio.gather(client(0), client(1))

    asyncio.run(with_server(lambda _n, _head: (reply({}), True), test))
    assert min(served) >= 9


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (b"", "IncompleteReadError while waiting"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "while reading the body"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not an answer of HTTP/1"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "neither a length nor chunks"),
    ],
)
def test_half_an_answer_is_none(answer: bytes, seen: str) -> None:
    async def test(endpoint: Endpoint) -> None:
        with pytest.raises(BrokenExchangeError, match=seen):
            await Connection(endpoint).exchange("GET", "/", {}, timeout=5)

    asyncio.run(with_server(lambda _n, _head: (answer, False), test))


def test_nobody_listening_is_a_failure() -> None:
    async def test() -> None:
        with pytest.raises(BrokenExchangeError, match="while connecting"):
            await Connection(Endpoint("127.0.0.1", 1)).exchange("GET", "/", {})

    asyncio.run(test())


def test_heads() -> None:
    sent = render("POST", "/x", "app1", {"X-A": "1"}, b"{}")
    assert sent == b"POST /x HTTP/1.1\r\nHost: app1\r\nX-A: 1\r\nContent-Length: 2\r\n\r\n{}"
    assert b"Content-Length" not in render("GET", "/", "app1", {}, b"")
    assert parse(b"HTTP/1.1 404 Not Found\r\nConnection:close\r\n\r\n") == (404, {"connection": "close"})


@pytest.mark.parametrize(
    ("answer", "expected", "seen"),
    [
        (Answer(200, {"x-request-id": ID}, b"{}"), 200, ""),
        (Answer(201, {"x-request-id": ID}, b'{"code": "X"}'), 200, "201 X"),
        (Answer(502, {}, b"<html>Bad Gateway"), 200, "502 b'<html>Bad Gateway'"),
        (Answer(200, {"x-request-id": "b" * 32}, b"{}"), 200, "the answer has the request id"),
        (Answer(200, {}, b"{}"), 200, "the answer has the request id None"),
        (Answer(200, {"x-request-id": ID}, b"[]"), 200, "the body is not JSON"),
    ],
)
def test_what_is_wrong_with_an_answer(answer: Answer, expected: int, seen: str) -> None:
    found = cashiers.fault(answer, ID, expected)
    assert found.startswith(seen) if seen else found == ""


class Pharmacy:
    """A service for one till, which does as it is told; a ledger of its own for the count at the end."""

    def __init__(self, **faults: bytes) -> None:
        self.faults = faults
        self.sales = 0
        self.paid = 0

    def __call__(self, _number: int, head: bytes) -> tuple[bytes, bool]:
        line = head.split(b"\r\n")[0].decode()
        request_id = re.search(rb"X-Request-Id: (\w+)", head)
        key = line.split()[1].strip("/").partition("?")[0].replace("/", "_")
        fault = self.faults.pop(key, None)
        if fault is not None:
            return fault, bool(fault)
        status, document = self.answer(line)
        return reply(document, status, request_id=request_id[1].decode() if request_id else ""), True

    def answer(self, line: str) -> tuple[int, dict[str, object]]:
        if "/cash/open" in line:
            return 201, {}
        if "/products" in line:
            return 200, {"items": [{"id": 5}, {"id": 6}]}
        if "/cash/close" in line:
            return 200, {"closing_amount": "100.00"}
        if "/auth/refresh" in line:
            return 200, {"access_token": "a", "refresh_token": "r", "expires_in": 900}
        if line.endswith("/sales HTTP/1.1"):
            self.sales += 1
            return 201, {"id": 1, "user_id": 7, "total": "0.00", "status": "open"}
        if "/pay" in line:
            self.paid += 1
        return 200, {"status": "paid" if self.paid == self.sales else "open"}


def shift(pharmacy: Pharmacy, cashier: Cashier) -> Tally:
    """One shift with one sale."""
    tally = Tally()

    async def test(endpoint: Endpoint) -> None:
        stop = asyncio.Event()
        till = Till(cashier, Connection(endpoint), tally, stop, Mix(sales=1, reads=1))
        work = asyncio.create_task(till.work())
        await till.began.wait()
        stop.set()
        await work

    asyncio.run(with_server(pharmacy, test))
    return tally


def logged_in(expires_at: float = float("inf")) -> Cashier:
    return Cashier(USER, access_token="a", refresh_token="r", expires_at=expires_at)


def test_a_shift_without_a_fault() -> None:
    tally = shift(Pharmacy(), logged_in())
    report = Report.of(tally, 1.0)
    assert (report.failed, report.requests, report.shifts, report.refreshes) == (0, 7, 1, 0), report.summary()
    assert [each.route for each in report.exchanges][2:5] == [
        "POST /sales",
        "GET /sales/{id}",
        "POST /sales/{id}/pay",
    ]


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ({"sales": b""}, "POST /sales: IncompleteReadError"),
        ({"sales": reply({"code": "DB_BUSY"}, 503)}, "POST /sales: 503 DB_BUSY"),
        ({"sales_1_pay": reply({"code": "INTERNAL"}, 500)}, "POST /sales/{id}/pay: 500 INTERNAL"),
        ({"sales_1": reply({}, 200)}, "GET /sales/{id}: the answer has the request id"),
        ({"cash_close": b"garbage\r\n\r\n"}, "POST /cash/close: ValueError"),
    ],
)
def test_a_fault_is_counted_and_the_till_goes_on(fault: dict[str, bytes], seen: str) -> None:
    report = Report.of(shift(Pharmacy(**fault), logged_in()), 1.0)
    assert (report.failed, report.shifts) == (1, 1), report.summary()
    assert f"1 x {seen}" in report.summary()


def test_an_answer_about_another_user_is_a_failure() -> None:
    class Foreign(Pharmacy):
        def answer(self, line: str) -> tuple[int, dict[str, object]]:
            status, document = super().answer(line)
            return status, document | ({"user_id": 8} if "user_id" in document else {})

    report = Report.of(shift(Foreign(), logged_in()), 1.0)
    assert "1 x answer: user_id is 8, not 7" in report.summary()


def test_tokens_are_refreshed_when_they_expire_and_when_they_are_refused() -> None:
    early = Report.of(shift(Pharmacy(), logged_in(expires_at=0.0)), 1.0)
    assert (early.failed, early.refreshes, early.cured) == (0, 1, 0)
    refused = Pharmacy(sales=reply({"code": "AUTH_TOKEN_EXPIRED"}, 401))
    late = Report.of(shift(refused, logged_in()), 1.0)
    assert (late.failed, late.refreshes, late.cured, late.logged_out) == (0, 1, 1, ()), late.summary()


def test_a_refused_refresh_is_a_logged_out_user() -> None:
    cashier = logged_in(expires_at=0.0)
    report = Report.of(
        shift(Pharmacy(auth_refresh=reply({"code": "AUTH_REFRESH_INVALID"}, 401)), cashier), 1.0
    )
    assert len(report.logged_out) == len(report.gave_up) == 1
    assert cashier.out
    assert report.failed


@given(st.lists(st.floats(0, 60), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_one_of_the_values_and_bounds_its_part(values: list[float], part: float) -> None:
    found = percentile(values, part)
    assert found in values
    assert sum(value <= found for value in values) >= part * len(values) - 1e-9


def test_the_report_knows_when_it_was_silent_and_what_began_when() -> None:
    exchanges = [Exchange("x" * 8, USER, "GET /", began, 0.5, 200, 0) for began in (10.0, 11.0, 15.0)]
    report = Report.of(Tally(exchanges=exchanges), 6.0)
    assert report.quiet_seconds() == 4.0
    assert len(report.begun_in(11.0, 15.0)) == 1
    assert report.summary().startswith("3 requests in 6.0 s (0/s), 0 failed")


def test_versions_and_migrations_are_raised() -> None:
    assert releases.raised('x\n__version__ = "0.1.9"\ny', 2) == 'x\n__version__ = "0.1.11"\ny'
    with pytest.raises(ValueError, match="three numbers"):
        releases.raised('__version__ = "1"', 1)
    assert releases.next_migration(["0001_a.sql", "0010_b.sql", "__init__.py"]) == "0011"


@pytest.mark.parametrize("variant", [releases.SOUND, releases.PAYS_NOT, releases.NOT_READY])
def test_a_variant_is_the_checkouts_tree_with_its_changes(
    root: Path, tmp_path: Path, variant: releases.Variant
) -> None:
    """Each still compiles, so that what a test sees of it is the fault that was meant."""
    releases.write_tree(root / "backend", variant, tmp_path / "tree")
    package = tmp_path / "tree" / releases.PACKAGE
    for name, text in variant.appended.items():
        changed = (package / name).read_text()
        assert changed.endswith(text)
        compile(changed, name, "exec")
    original = root / "backend" / releases.PACKAGE / "migrations"
    assert len(list((package / "migrations").glob("*.sql"))) == len(list(original.glob("*.sql"))) + 1


def test_a_foreign_line_is_seen() -> None:
    """Another user, store or route, and a user of ours under a request that nobody sent."""
    exchange = Exchange(ID, USER, "GET /sales/{id}", 0.0, 0.1, 200, 0)
    own = {
        "msg": "request_completed",
        "requestId": ID,
        "userId": "7",
        "storeId": "2",
        "route": "GET /sales/{id}",
    }
    of_others = own | {"requestId": "x" * 8, "userId": "999"}
    assert strangers([own, of_others], {ID: exchange}) == []
    for change in ({"userId": "999"}, {"storeId": "999"}, {"route": "GET /"}, {"requestId": "y" * 8}):
        assert len(strangers([own | change], {ID: exchange})) == 1
    assert len(strangers([{"msg": "sale_created", "requestId": ID}], {ID: exchange})) == 1
