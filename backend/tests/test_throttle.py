# SPDX-License-Identifier: GPL-3.0-or-later
"""Login throttling: slows the one who guesses, and nobody else."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import argon2
import httpx
import psycopg
import pytest
from api_harness import problem
from backend_harness import PASSWORD, Cli, Service, start_service
from hypothesis import given
from hypothesis import strategies as st

from pharma_backend.throttle import LOCAL, Policy, Throttle, client_address

POLICY = Policy(free=3, longest=900)


@given(st.integers(0, 10_000), st.integers(1, 50), st.integers(1, 4000))
def test_the_delay_grows_and_is_bounded(attempts: int, free: int, longest: int) -> None:
    policy = Policy(free, longest)
    assert 0 <= policy.delay(attempts) <= policy.delay(attempts + 1) <= longest
    assert (policy.delay(attempts) == 0) == (attempts < free)
    assert policy.wait(attempts, policy.delay(attempts)) == 0


def test_the_delay_doubles() -> None:
    assert [POLICY.delay(attempts) for attempts in (2, 3, 4, 5, 12, 13, 10**6)] == [0, 1, 2, 4, 512, 900, 900]
    assert POLICY.wait(5, 0.5) == 4
    assert POLICY.wait(5, 3.2) == 1


@given(st.lists(st.floats(0, 100_000), max_size=50), st.integers(1, 50))
def test_attempts_are_regained(pauses: list[float], free: int) -> None:
    policy, attempts = Policy(free, 60), 0.0
    for pause in pauses:
        before, attempts = attempts, policy.count(attempts, pause)
        assert 1 <= attempts <= min(before + 1, free + 30)
    assert policy.count(attempts, 3600 * (attempts / free)) == pytest.approx(1)


def test_a_busy_place_where_people_mistype_now_and_then_never_waits() -> None:
    policy, attempts = Policy(100, 60), 0.0
    for _ in range(5000):
        assert policy.wait(attempts, 40) == 0
        attempts = policy.count(attempts, 40)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        (None, ["203.0.113.7"], "203.0.113.7"),
        (("", 0), [" 203.0.113.7 "], "203.0.113.7"),
        (None, ["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        (None, ["::ffff:203.0.113.7"], "203.0.113.7"),
        (None, [], LOCAL),
        (None, ["203.0.113.7", "203.0.113.8"], LOCAL),
        (None, ["203.0.113.7, 203.0.113.8"], LOCAL),
        (None, ["\xff"], LOCAL),
        (("198.51.100.1", 4711), ["203.0.113.7"], "198.51.100.1"),
        (("2001:db8::1", 4711), ["203.0.113.7"], "2001:db8::/64"),
    ],
)
def test_whose_word_is_taken_for_the_address(peer: Any, forwarded: list[str], address: str) -> None:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    assert client_address({"type": "http", "client": peer, "headers": headers}) == address


def test_subjects_tell_neither_name_nor_address() -> None:
    throttle = Throttle(b"k" * 32, person=POLICY, address=POLICY)
    subjects = {
        subject
        for name in ("ana", "bia", "a\0na", "\ud800")
        for place in ("203.0.113.7", "203.0.113.8")
        for attempt in [throttle.attempt(name, place)]
        for subject in (attempt.address, attempt.person)
    }
    assert len(subjects) == 4 * 2 + 2
    assert all(len(subject) == 32 for subject in subjects)
    assert throttle.attempt("Ana", "x") == throttle.attempt("ana", "x")


@pytest.fixture(scope="module")
def strict(pharmacy: Cli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Service]]:
    """Two processes on one database, as two colours are: 3 free attempts for a person, 12 for an address."""
    pair = [
        start_service(
            pharmacy,
            tmp_path_factory.mktemp(f"strict{number}"),
            PHARMA_LOGIN_FREE_ATTEMPTS="3",
            PHARMA_LOGIN_FREE_ATTEMPTS_ADDRESS="12",
        )
        for number in range(2)
    ]
    try:
        yield pair
    finally:
        for running in pair:
            running.client.close()
            running.stop()


@pytest.fixture
def address() -> str:
    number = uuid4().int
    return f"10.{number % 250}.{number // 250 % 250}.{number // 62500 % 250}"


def login(service: Service, username: str, password: str, address: str) -> httpx.Response:
    body = {"username": username, "password": password}
    return service.client.post("/auth/login", json=body, headers={"X-Forwarded-For": address})


def wrong(service: Service, username: str, address: str) -> int:
    return login(service, username, "not the password", address).status_code


def hold(sql: psycopg.Connection) -> None:
    """Let no wait end while a slow machine runs the test."""
    sql.execute("update pharmacy.login_attempts set last_at = clock_timestamp() + interval '1 hour'")


def test_who_guesses_waits_at_both_colours_and_the_user_elsewhere_does_not(
    strict: list[Service], user: str, address: str, sql: psycopg.Connection
) -> None:
    assert [wrong(strict[number % 2], user, address) for number in range(3)] == [401] * 3
    hold(sql)
    for service in strict:
        reply = login(service, user, PASSWORD, address)
        problem(reply, 429, "AUTH_THROTTLED")
        assert reply.headers["retry-after"] == "1"
        service.line(reply.headers["x-request-id"], "login_throttled")
    assert login(strict[0], user, PASSWORD, "192.0.2.77").status_code == 200
    assert login(strict[0], "ana", PASSWORD, address).status_code == 200


def test_the_wait_ends_grows_and_is_forgotten_after_a_success(
    strict: list[Service], user: str, address: str, sql: psycopg.Connection
) -> None:
    def pass_time(seconds: float) -> None:
        sql.execute(
            "update pharmacy.login_attempts set last_at = clock_timestamp() - make_interval(secs => %s)",
            (seconds,),
        )

    service = strict[0]
    assert [wrong(service, user, address) for _ in range(3)] == [401] * 3
    waits = []
    for _ in range(3):
        hold(sql)
        reply = login(service, user, "not the password", address)
        problem(reply, 429, "AUTH_THROTTLED")
        waits.append(int(reply.headers["retry-after"]))
        pass_time(waits[-1])
        assert wrong(service, user, address) == 401
    assert waits == [1, 2, 4]
    pass_time(60)
    assert login(service, user, PASSWORD, address).status_code == 200
    assert [wrong(service, user, address) for _ in range(3)] == [401] * 3
    hold(sql)
    assert wrong(service, user, address) == 429
    pass_time(7200)
    assert [wrong(service, user, address) for _ in range(3)] == [401] * 3


def test_names_that_nobody_has_are_throttled_alike(
    strict: list[Service], user: str, address: str, sql: psycopg.Connection
) -> None:
    def story(name: str, place: str) -> list[tuple[int, dict[str, str]]]:
        replies = [login(strict[0], name, "not the password", place) for _ in range(3)]
        hold(sql)
        replies.append(login(strict[0], name, PASSWORD, place))
        return [(reply.status_code, {**reply.json(), "requestId": ""}) for reply in replies]

    names = [(user, address), (f"nobody-{uuid4().hex}", "192.0.2.81"), ("no\0name", "192.0.2.82")]
    stories = [story(name, place) for name, place in names]
    assert stories[0] == stories[1] == stories[2]
    assert [status for status, _ in stories[0]] == [401, 401, 401, 429]


def test_an_address_that_tries_many_names_waits(
    strict: list[Service], user: str, address: str, sql: psycopg.Connection
) -> None:
    assert [wrong(strict[n % 2], f"nobody-{uuid4().hex}", address) for n in range(12)] == [401] * 12
    hold(sql)
    problem(login(strict[0], user, PASSWORD, address), 429, "AUTH_THROTTLED")
    assert login(strict[0], user, PASSWORD, "192.0.2.78").status_code == 200


def test_many_guesses_at_once_gain_nothing(strict: list[Service], user: str, address: str) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        found = Counter(pool.map(lambda number: wrong(strict[number % 2], user, address), range(20)))
    # After the three that are free, one more after 1 s, the next 2 s later, and so on.
    assert 3 <= found[401] <= 3 + math.log2(1 + time.monotonic() - began)
    assert found[401] + found[429] == 20


def test_many_who_know_their_password_do_not_wait(strict: list[Service], user: str, address: str) -> None:
    statuses = [login(strict[0], user, PASSWORD, address).status_code for _ in range(15)]
    assert statuses == [200] * 15


def test_a_password_is_hashed_anew_when_the_parameters_changed(
    service: Service, user: str, sql: psycopg.Connection
) -> None:
    old = argon2.PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    sql.execute("update pharmacy.users set password_hash = %s where username = %s", (old, user))

    def kept() -> str:
        row = sql.execute("select password_hash from pharmacy.users where username = %s", (user,)).fetchone()
        assert row
        return str(row[0])

    assert login(service, user, "not the password", "192.0.2.80").status_code == 401
    assert kept() == old
    assert login(service, user, PASSWORD, "192.0.2.80").status_code == 200
    new = kept()
    assert new.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert login(service, user, PASSWORD, "192.0.2.80").status_code == 200
    assert kept() == new
