# SPDX-License-Identifier: GPL-3.0-or-later
"""The API against the real service and database."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from api_harness import in_stock, pay, problem, sell
from backend_harness import PASSWORD, Service

Headers = dict[str, str]


def test_a_day_at_the_register(api: httpx.Client, product: int) -> None:
    sale = sell(api, product, 5).json()
    assert [(item["lot_code"], item["quantity"]) for item in sale["items"]] == [("d0", 4), ("d90", 1)]
    assert (sale["status"], sale["total"]) == ("open", "50.00")
    tendered = {"payments": [{"method": "cash", "amount": "20.00", "tendered": "50.00"}]}
    wrong = problem(api.post(f"/sales/{sale['id']}/pay", json=tendered), 409, "PAYMENT_TOTAL_MISMATCH")
    assert (wrong["expected"], wrong["observed"]) == ("50.00", "20.00")
    tendered["payments"].append({"method": "pix", "amount": "30.00"})
    paid = api.post(f"/sales/{sale['id']}/pay", json=tendered).json()
    assert paid["status"] == "paid"
    assert [payment["change_due"] for payment in paid["payments"]] == ["30.00", "0.00"]
    problem(pay(api, sale), 409, "SALE_ALREADY_PAID")
    problem(api.post(f"/sales/{sale['id']}/cancel"), 409, "SALE_ALREADY_PAID")

    short = api.post("/cash/close", json={"counted": {"cash": "119.99", "pix": "30.00"}})
    mismatch = problem(short, 409, "CASH_TOTALS_MISMATCH")
    assert mismatch["differences"] == [{"method": "cash", "expected": "120.00", "observed": "119.99"}]
    closed = api.post("/cash/close", json={"counted": {"cash": "120.00", "pix": "30.00"}})
    assert closed.status_code == 200, closed.text
    assert (closed.json()["closing_amount"], closed.json()["sales"]) == ("120.00", 1)
    problem(api.post("/cash/close", json={"counted": {}}), 409, "CASH_ALREADY_CLOSED")
    problem(sell(api, product), 409, "CASH_NOT_OPEN")
    assert api.get(f"/sales/{sale['id']}").json()["total"] == "50.00"


def test_what_is_not_in_stock_is_refused_and_nothing_is_taken(
    api: httpx.Client, product: int, sql: psycopg.Connection
) -> None:
    refused = problem(sell(api, product, 11), 409, "STOCK_INSUFFICIENT")
    assert (refused["productId"], refused["requested"], refused["available"]) == (product, 11, 10)
    twice = [{"product_id": product, "quantity": 6}, {"product_id": product, "quantity": 5}]
    problem(api.post("/sales", json={"items": twice}), 409, "STOCK_INSUFFICIENT")
    problem(sell(api, 10**9), 404, "PRODUCT_UNKNOWN")
    assert in_stock(sql, product) == {"d-1": 50, "d0": 4, "d90": 6}


def test_twenty_at_once_sell_ten_units(api: httpx.Client, product: int, sql: psycopg.Connection) -> None:
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: sell(api, product), range(20)))
    assert sorted(reply.status_code for reply in replies) == [201] * 10 + [409] * 10
    assert {reply.json()["code"] for reply in replies if reply.status_code == 409} == {"STOCK_INSUFFICIENT"}
    assert in_stock(sql, product) == {"d-1": 50, "d0": 0, "d90": 0}


def test_one_of_ten_payments_at_once_is_taken(
    api: httpx.Client, product: int, sql: psycopg.Connection
) -> None:
    sale = sell(api, product).json()
    with ThreadPoolExecutor(10) as pool:
        statuses = sorted(reply.status_code for reply in pool.map(lambda _: pay(api, sale), range(10)))
    assert statuses == [200] + [409] * 9
    assert sql.execute(
        "select count(*) from pharmacy.payments where sale_id = %s", (sale["id"],)
    ).fetchone() == (1,)


def test_a_cancelled_sale_gives_its_units_back(
    api: httpx.Client, product: int, sql: psycopg.Connection
) -> None:
    sale = sell(api, product, 7).json()
    problem(api.post("/cash/close", json={"counted": {"cash": "100.00"}}), 409, "CASH_HAS_OPEN_SALES")
    assert api.post(f"/sales/{sale['id']}/cancel").json()["status"] == "cancelled"
    assert in_stock(sql, product) == {"d-1": 50, "d0": 4, "d90": 6}
    problem(api.post(f"/sales/{sale['id']}/cancel"), 409, "SALE_CANCELLED")
    problem(pay(api, sale), 409, "SALE_CANCELLED")
    assert api.post("/cash/close", json={"counted": {"cash": "100.00"}}).status_code == 200


def test_one_open_session_for_each_user(api: httpx.Client) -> None:
    again = api.post("/cash/open", json={"register": "other", "opening_amount": "0.00"})
    problem(again, 409, "CASH_ALREADY_OPEN")


def test_roles(api: httpx.Client, service: Service, product: int) -> None:
    sale = sell(api, product).json()
    path = f"/sales/{sale['id']}"
    for username, status in (("ana", 200), ("caio", 200), ("bia", 404)):
        assert service.client.get(path, headers=service.headers(username)).status_code == status, username
    admin = service.headers("caio")
    opened = service.client.post("/cash/open", headers=admin, json={"register": "a", "opening_amount": "0"})
    problem(opened, 403, "AUTH_FORBIDDEN")
    problem(service.client.get(path), 401, "AUTH_REQUIRED")
    problem(service.client.get(path, headers={"Authorization": "Bearer eyJ.x.y"}), 401, "AUTH_TOKEN_INVALID")


def test_login_says_the_same_whatever_was_wrong(service: Service, user: str, sql: psycopg.Connection) -> None:
    sql.execute("update pharmacy.users set active = false where username = %s", (user,))
    documents = []
    for username, password in (("ana", "wrong password"), ("nobody", PASSWORD), (user, PASSWORD)):
        reply = service.client.post("/auth/login", json={"username": username, "password": password})
        document = problem(reply, 401, "AUTH_INVALID_CREDENTIALS")
        document.pop("requestId")
        documents.append(document)
    assert documents[0] == documents[1] == documents[2]


def test_nobody_logs_in_as_a_user_of_the_demo(service: Service, sql: psycopg.Connection) -> None:
    row = sql.execute("select username from pharmacy.users where password_hash = '!' limit 1").fetchone()
    assert row
    reply = service.client.post("/auth/login", json={"username": row[0], "password": "!"})
    problem(reply, 401, "AUTH_INVALID_CREDENTIALS")


def _refresh(service: Service, token: str) -> httpx.Response:
    return service.client.post("/auth/refresh", json={"refresh_token": token})


def _age(sql: psycopg.Connection, seconds: int) -> None:
    """Let time pass for every refresh token that was used."""
    sql.execute(
        "update pharmacy.refresh_tokens set used_at = used_at - make_interval(secs => %s)", (seconds,)
    )


def test_a_refresh_token_is_good_once(service: Service, sql: psycopg.Connection) -> None:
    first = service.login("bia")["refresh_token"]
    second = _refresh(service, first).json()
    assert service.client.get("/products?limit=1", headers=_bearer(second)).status_code == 200
    _age(sql, 11)
    problem(_refresh(service, first), 401, "AUTH_REFRESH_REUSED")
    problem(_refresh(service, second["refresh_token"]), 401, "AUTH_REFRESH_INVALID")
    problem(_refresh(service, first), 401, "AUTH_REFRESH_INVALID")
    hashes = sql.execute("select token_hash from pharmacy.refresh_tokens").fetchall()
    assert all(len(digest) == 32 and first.encode() not in digest for (digest,) in hashes)


def test_a_refresh_whose_answer_was_lost_may_come_again(service: Service) -> None:
    """A till that met a crash or a broken connection goes on, twice if need be; the pairs it never saw are void."""
    first = service.login("bia")["refresh_token"]
    lost = [_refresh(service, first).json()["refresh_token"] for _ in range(2)]
    arrived = _refresh(service, first).json()["refresh_token"]
    following = _refresh(service, arrived)
    assert following.status_code == 200
    assert following.json()["refresh_token"] not in (first, *lost, arrived)


def test_a_thief_who_repeats_a_refresh_in_time_is_found(service: Service) -> None:
    """Owner and thief have a pair each; whoever of them comes later, with whatever, ends it for both."""
    for stolen_first in (True, False):
        token = service.login("bia")["refresh_token"]
        owner = _refresh(service, token).json()["refresh_token"]
        thief = _refresh(service, token).json()["refresh_token"]
        if stolen_first:
            again = _refresh(service, thief)
            assert again.status_code == 200
            thief = again.json()["refresh_token"]
        problem(_refresh(service, owner), 401, "AUTH_REFRESH_REUSED")
        problem(_refresh(service, thief), 401, "AUTH_REFRESH_INVALID")


def test_a_token_does_not_come_again_after_its_successor_was_used(service: Service) -> None:
    first = service.login("bia")["refresh_token"]
    second = _refresh(service, first).json()["refresh_token"]
    third = _refresh(service, second).json()["refresh_token"]
    problem(_refresh(service, first), 401, "AUTH_REFRESH_REUSED")
    problem(_refresh(service, third), 401, "AUTH_REFRESH_INVALID")


def test_of_parallel_refreshes_one_pair_is_left(service: Service) -> None:
    """Each is answered, the last one's pair is good, and a pair that was replaced ends the family."""
    token = service.login("bia")["refresh_token"]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: _refresh(service, token), range(8)))
    assert {reply.status_code for reply in replies} == {200}
    outcomes = [_refresh(service, reply.json()["refresh_token"]) for reply in replies]
    good = [reply for reply in outcomes if reply.status_code == 200]
    assert len(good) <= 1
    assert sum(reply.json().get("code") == "AUTH_REFRESH_REUSED" for reply in outcomes) == 1
    for reply in good:
        problem(_refresh(service, reply.json()["refresh_token"]), 401, "AUTH_REFRESH_INVALID")


def _bearer(tokens: dict[str, str]) -> Headers:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


@pytest.mark.parametrize(
    "body",
    [
        {"items": []},
        {"items": [{"product_id": 1, "quantity": 0}]},
        {"items": [{"product_id": 1, "quantity": 1, "price": "0.01"}]},
        {"items": [{"product_id": 1 << 70, "quantity": 1}]},
        {"items": [{"product_id": 1, "quantity": 1}], "customer_cpf": "52998224726"},
    ],
)
def test_bad_input_is_named_but_not_repeated(api: httpx.Client, body: dict[str, Any]) -> None:
    document = problem(api.post("/sales", json=body), 422, "VALIDATION_FAILED")
    assert document["errors"]
    assert "52998224726" not in json.dumps(document)


def test_money_is_never_a_json_number(api: httpx.Client, product: int) -> None:
    sale = sell(api, product).json()
    body = {"payments": [{"method": "pix", "amount": 10.0}]}
    problem(api.post(f"/sales/{sale['id']}/pay", json=body), 422, "VALIDATION_FAILED")


def test_a_customer_is_found_by_cpf(api: httpx.Client, product: int, sql: psycopg.Connection) -> None:
    row = sql.execute("select id, cpf from pharmacy.customers limit 1").fetchone()
    assert row
    items = [{"product_id": product, "quantity": 1}]
    assert api.post("/sales", json={"items": items, "customer_cpf": row[1]}).json()["customer_id"] == row[0]
    problem(api.post("/sales", json={"items": items, "customer_cpf": "52998224725"}), 404, "CUSTOMER_UNKNOWN")


def test_unknown_places(service: Service) -> None:
    problem(service.client.get("/no/such/place"), 404, "NOT_FOUND")
    problem(service.client.delete("/health/live"), 405, "METHOD_NOT_ALLOWED")
