# SPDX-License-Identifier: GPL-3.0-or-later
"""A request that is sent again takes effect once, whatever happened to the first one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from api_harness import problem
from backend_harness import Cli, Service, eventually, start_service
from hypothesis import given
from hypothesis import strategies as st

from pharma_backend.idempotency import Claim
from pharma_backend.tokens import Principal

ANA, BIA = Principal(1, 1, "manager"), Principal(2, 1, "cashier")


def key() -> dict[str, str]:
    return {"Idempotency-Key": uuid4().hex}


def order(product: int, quantity: int = 1) -> dict[str, Any]:
    return {"items": [{"product_id": product, "quantity": quantity}]}


def sales_of(sql: psycopg.Connection, product: int) -> int:
    row = sql.execute(
        "select count(distinct sale_id) from pharmacy.sale_items where product_id = %s", (product,)
    ).fetchone()
    assert row
    return int(row[0])


def replayed(reply: httpx.Response) -> bool:
    return reply.headers.get("idempotency-replayed") == "true"


def test_a_repeated_sale_is_answered_again_and_made_once(
    api: httpx.Client, product: int, sql: psycopg.Connection, service: Service
) -> None:
    header = key()
    first = api.post("/sales", json=order(product), headers=header)
    spelled = b'{ "items" : [ { "quantity": 1, "product_id": %d } ] }' % product
    again = api.post("/sales", content=spelled, headers=header | {"content-type": "application/json"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert (replayed(first), replayed(again)) == (False, True)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"] == "application/json"
    assert sales_of(sql, product) == 1
    service.line(again.headers["x-request-id"], "answer_replayed")
    assert api.post("/sales", json=order(product)).json()["id"] != first.json()["id"]


def test_a_repeated_payment_is_taken_once(api: httpx.Client, product: int, sql: psycopg.Connection) -> None:
    sale = api.post("/sales", json=order(product)).json()
    body = {"payments": [{"method": "pix", "amount": sale["total"]}]}
    header = key()
    first, again = (api.post(f"/sales/{sale['id']}/pay", json=body, headers=header) for _ in range(2))
    assert first.json() == again.json()
    assert again.json()["status"] == "paid"
    assert (replayed(first), replayed(again)) == (False, True)
    problem(api.post(f"/sales/{sale['id']}/pay", json=body, headers=key()), 409, "SALE_ALREADY_PAID")
    count = sql.execute("select count(*) from pharmacy.payments where sale_id = %s", (sale["id"],)).fetchone()
    assert count == (1,)


def test_cash_and_cancelling_can_be_repeated(api: httpx.Client, product: int) -> None:
    sale = api.post("/sales", json=order(product)).json()
    closing = {"counted": {"cash": "100.00"}}
    opening = {"register": uuid4().hex, "opening_amount": "5.00"}
    for path, body in (
        (f"/sales/{sale['id']}/cancel", None),
        ("/cash/close", closing),
        ("/cash/open", opening),
    ):
        header = key()
        first, again = (api.post(path, json=body, headers=header) for _ in range(2))
        assert first.is_success, first.text
        assert (again.content, again.status_code) == (first.content, first.status_code)
        assert replayed(again)
    reopened = {"register": uuid4().hex, "opening_amount": "5.00"}
    problem(api.post("/cash/open", json=reopened, headers=key()), 409, "CASH_ALREADY_OPEN")


def test_a_key_stands_for_one_request(api: httpx.Client, product: int, sql: psycopg.Connection) -> None:
    header = key()
    sale = api.post("/sales", json=order(product), headers=header).json()
    problem(api.post("/sales", json=order(product, 2), headers=header), 422, "IDEMPOTENCY_KEY_REUSED")
    body = {"payments": [{"method": "pix", "amount": sale["total"]}]}
    path = f"/sales/{sale['id']}/pay"
    problem(api.post(path, json=body, headers=header), 422, "IDEMPOTENCY_KEY_REUSED")
    problem(api.post(f"/sales/{sale['id']}/cancel", headers=header), 422, "IDEMPOTENCY_KEY_REUSED")
    assert sales_of(sql, product) == 1
    assert api.get(f"/sales/{sale['id']}").json()["status"] == "open"


def test_a_key_belongs_to_its_user(api: httpx.Client, service: Service, product: int) -> None:
    header = key()
    mine = api.post("/sales", json=order(product), headers=header)
    other = service.headers("ana") | header
    assert mine.status_code == 201
    # A replay would answer 201 to whoever has no open cash session too.
    problem(service.client.post("/sales", json=order(product), headers=other), 409, "CASH_NOT_OPEN")


def test_what_was_refused_can_be_asked_again_with_the_same_key(
    api: httpx.Client, product: int, sql: psycopg.Connection
) -> None:
    header = key()
    problem(api.post("/sales", json=order(product, 11), headers=header), 409, "STOCK_INSUFFICIENT")
    sql.execute(
        "update pharmacy.stock set received = received + 5, quantity = quantity + 5 where lot_id ="
        " (select max(id) from pharmacy.lots where product_id = %s)",
        (product,),
    )
    made = api.post("/sales", json=order(product, 11), headers=header)
    assert (made.status_code, replayed(made)) == (201, False)


def test_an_old_key_is_as_good_as_new(api: httpx.Client, product: int, sql: psycopg.Connection) -> None:
    header = key()
    first = api.post("/sales", json=order(product), headers=header).json()
    sql.execute(
        "update pharmacy.idempotency_keys set created_at = now() - interval '24 hours 1 second' where key = %s",
        (header["Idempotency-Key"],),
    )
    second = api.post("/sales", json=order(product, 2), headers=header)
    assert (second.status_code, replayed(second)) == (201, False)
    assert second.json()["id"] != first["id"]


@pytest.mark.parametrize("bad", ["short", "x" * 129, "with space", "semi;colon", ""])
def test_a_malformed_key_is_refused(api: httpx.Client, product: int, bad: str) -> None:
    reply = api.post("/sales", json=order(product), headers={"Idempotency-Key": bad})
    assert problem(reply, 422, "VALIDATION_FAILED")["errors"][0]["path"] == ["header", "Idempotency-Key"]


def judge(replies: list[httpx.Response]) -> Counter[str]:
    """How parallel requests with one key were answered; those who were told to wait were told how long."""
    found: Counter[str] = Counter()
    for reply in replies:
        if reply.status_code == 409:
            problem(reply, 409, "IDEMPOTENCY_IN_PROGRESS")
            assert int(reply.headers["retry-after"]) > 0
            found["waiting"] += 1
        else:
            assert reply.status_code == 201, reply.text
            found["replayed" if replayed(reply) else "made"] += 1
    return found


def test_twenty_at_once_with_one_key_make_one_sale(
    api: httpx.Client, product: int, sql: psycopg.Connection
) -> None:
    header = key()
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: api.post("/sales", json=order(product), headers=header), range(20)))
    assert judge(replies)["made"] == 1
    assert sales_of(sql, product) == 1
    again = api.post("/sales", json=order(product), headers=header)
    assert replayed(again)
    assert {reply.content for reply in replies if reply.status_code == 201} == {again.content}


@pytest.fixture
def other(pharmacy: Cli, tmp_path: Path) -> Iterator[Service]:
    """A second process on the same database, as the other colour is."""
    running = start_service(pharmacy, tmp_path)
    try:
        yield running
    finally:
        running.client.close()
        if running.process.poll() is None:
            running.stop()


def test_two_colours_at_once_make_one_sale(
    api: httpx.Client, other: Service, product: int, sql: psycopg.Connection
) -> None:
    header = key()
    other.client.headers.update(api.headers)

    def send(number: int) -> httpx.Response:
        client = api if number % 2 else other.client
        return client.post("/sales", json=order(product), headers=header)

    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(send, range(20)))
    assert judge(replies)["made"] == 1
    assert sales_of(sql, product) == 1
    assert replayed(other.client.post("/sales", json=order(product), headers=header))


def send_and_forget(client: httpx.Client, body: dict[str, Any], header: dict[str, str]) -> threading.Thread:
    def send() -> None:
        try:
            client.post("/sales", json=body, headers=header)
        except httpx.TransportError:
            return

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_a_crash_in_the_middle_of_a_sale_leaves_nothing(
    api: httpx.Client, other: Service, product: int, sql: psycopg.Connection
) -> None:
    header = key()
    other.client.headers.update(api.headers)
    with psycopg.connect(sql.info.dsn) as blocker:
        blocker.execute(
            "select 1 from pharmacy.stock where lot_id in (select id from pharmacy.lots where product_id = %s)"
            " for update",
            (product,),
        )
        thread = send_and_forget(other.client, order(product), header)
        waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock' and query like '%for update of s%'"
        eventually(lambda: sql.execute(waiting).fetchone())
        problem(api.post("/sales", json=order(product), headers=header), 409, "IDEMPOTENCY_IN_PROGRESS")
        other.process.kill()
        other.process.wait()
        thread.join()
    eventually(lambda: sql.execute(waiting).fetchone() is None)
    made = eventually(
        lambda: (
            (reply := api.post("/sales", json=order(product), headers=header)).status_code == 201 and reply
        )
    )
    assert not replayed(made)
    assert sales_of(sql, product) == 1


@pytest.mark.parametrize("milliseconds", [4, 10, 25])
def test_a_crash_at_any_moment_never_sells_twice(
    api: httpx.Client, other: Service, product: int, sql: psycopg.Connection, milliseconds: int
) -> None:
    header = key()
    other.client.headers.update(api.headers)
    thread = send_and_forget(other.client, order(product), header)
    time.sleep(milliseconds / 1000)
    other.process.kill()
    other.process.wait()
    thread.join()

    def retry() -> bool:
        return api.post("/sales", json=order(product), headers=header).status_code == 201

    eventually(retry)
    assert sales_of(sql, product) == 1


def test_keys_tell_nothing_of_what_was_sold(api: httpx.Client, product: int, sql: psycopg.Connection) -> None:
    row = sql.execute("select cpf from pharmacy.customers limit 1").fetchone()
    assert row
    header = key()
    api.post("/sales", json=order(product) | {"customer_cpf": row[0]}, headers=header)
    kept = sql.execute(
        "select k::text, convert_from(answer, 'UTF8') from pharmacy.idempotency_keys k where key = %s",
        (header["Idempotency-Key"],),
    ).fetchone()
    assert kept
    assert row[0] not in "".join(kept)


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_fingerprints_differ_where_requests_do(one: list[str], two: list[str]) -> None:
    first, second = (Claim.of(ANA, "key-1234", *parts) for parts in (one, two))
    assert (first.fingerprint == second.fingerprint) == (one == two)


def test_locks_differ_between_users_and_keys() -> None:
    claims = [Claim.of(who, name) for who in (ANA, BIA) for name in ("key-1234", "key-12345")]
    assert len({claim.lock for claim in claims}) == 4
    assert all(-(1 << 63) <= claim.lock < 1 << 63 for claim in claims)
