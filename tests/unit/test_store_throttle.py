# SPDX-License-Identifier: GPL-3.0-or-later
"""The token bucket, and the waits between tries."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, SSLError
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops import config
from pharma_ops.errors import OpsError
from pharma_ops.store import patience
from pharma_ops.store.open import open_store
from pharma_ops.store.throttle import BURST_SECONDS, Throttle, Tokens, take


@given(
    st.integers(1, 1 << 30),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.floats(0, 100)), min_size=1, max_size=40),
)
def test_no_span_of_time_sees_more_than_the_rate(rate: int, requests: list[tuple[int, float]]) -> None:
    """Every request begins when its wait is over; whatever span is looked at, the rate holds."""
    tokens, now = Tokens(rate=rate, level=0.0, at=0.0), 0.0
    begun: list[tuple[float, int]] = []
    for count, pause in requests:
        now += pause
        tokens, delay = take(tokens, count, now)
        assert delay >= 0
        begun.append((now + delay, count))
    assert begun == sorted(begun, key=lambda one: one[0]), "who comes later begins later"
    for first in range(len(begun)):
        sent = 0
        for start, count in begun[first:]:
            sent += count
            allowed = rate * (start - begun[first][0] + BURST_SECONDS) + begun[first][1]
            assert sent <= allowed * (1 + 1e-6) + 1


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    tokens, delay = take(Tokens(rate=100, level=0.0, at=50.0), 100, 50.0)
    assert delay == pytest.approx(1.0)
    tokens, delay = take(tokens, 100, 10.0)
    assert delay == pytest.approx(2.0)
    assert tokens.at == 50.0


def test_threads_share_one_limit() -> None:
    throttle = Throttle(1 << 20)
    began = time.monotonic()

    def read() -> None:
        body = throttle.body(bytes(256 << 10))
        while body.read(16 << 10):  # type: ignore[union-attr]
            pass

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.6 < time.monotonic() - began < 2.0, "768 KiB at 1 MiB/s"


def test_without_a_limit_nothing_is_copied_and_nothing_waits() -> None:
    data = bytearray(b"x")
    throttle = Throttle(0, sleep=lambda _seconds: pytest.fail("it waited"))
    assert throttle.body(data) is data
    throttle.wait(1 << 40)


@given(st.binary(max_size=5000), st.lists(st.integers(-1, 3000), max_size=8))
def test_a_paced_body_is_a_file_of_the_same_bytes(data: bytes, sizes: list[int]) -> None:
    body = Throttle(1 << 40).body(data)
    assert not isinstance(body, bytes | bytearray)
    assert len(body) == len(data)  # type: ignore[arg-type]
    read = b"".join(body.read(size) or b"" for size in sizes)
    assert data.startswith(read)
    assert body.tell() == len(read)
    assert body.seek(0, 2) == len(data)
    body.seek(0)
    assert body.read() == data


def test_a_body_that_nobody_wants_ends() -> None:
    body = Throttle(1).body(b"x", lambda: True)
    with pytest.raises(InterruptedError):
        body.read()  # type: ignore[union-attr]


def test_a_directory_is_written_at_the_limit(tmp_path: Path) -> None:
    store = open_store(config.Store(type="local", path=tmp_path, bandwidth_limit=1 << 20))
    began = time.monotonic()
    store.put_bytes("db/x", bytes(700 << 10))
    assert 0.5 < time.monotonic() - began < 2.0
    assert store.get_bytes("db/x") == bytes(700 << 10)


def refused(code: str, status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "UploadPart")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (refused("SlowDown", 503), True),
        (refused("InternalError", 500), True),
        (refused("Whatever", 502), True),
        (refused("BadDigest"), True),
        (refused("RequestTimeout"), True),
        (ConnectionClosedError(endpoint_url="x"), True),
        (EndpointConnectionError(endpoint_url="x"), True),
        (SSLError(endpoint_url="x", error="EOF occurred in violation of protocol"), True),
        (SSLError(endpoint_url="x", error="[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), False),
        (OpsError("STORE_TRANSFER_DAMAGED", "x"), True),
        (refused("AccessDenied", 403), False),
        (refused("ExpiredToken"), False),
        (refused("QuotaExceeded", 403), False),
        (refused("NoSuchUpload", 404), False),
        (OpsError("STORE_FULL", "x"), False),
        (RuntimeError("a defect"), False),
    ],
)
def test_what_is_tried_again(error: Exception, again: bool) -> None:
    tries: list[float] = []

    def call() -> None:
        tries.append(0)
        raise error

    with pytest.raises(type(error)):
        patience.patiently(call, sleep=lambda _seconds: None)
    assert len(tries) == (patience.ROUNDS if again else 1)


def test_it_ends_when_nobody_wants_it_or_it_succeeds() -> None:
    outcomes: list[Exception | int] = [refused("SlowDown"), refused("SlowDown"), 7]

    def call() -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    waits: list[float] = []
    assert patience.patiently(call, sleep=waits.append) == 7
    assert len(waits) == 2
    outcomes[:] = [refused("SlowDown"), 7]
    with pytest.raises(ClientError):
        patience.patiently(call, stopped=lambda: True)


def test_the_waits_double_up_to_a_bound() -> None:
    assert list(patience.delays(8, lambda low, high: high)) == [1, 2, 4, 8, 16, 20, 20]
    assert all(low <= wait for low, wait in zip((0.5, 1, 2, 4, 8, 10, 10), patience.delays(8), strict=True))
    assert sum(patience.delays(patience.ROUNDS, lambda low, high: high)) == 31
