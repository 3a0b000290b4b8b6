# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the proxy's access log while it grows, is rotated and is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops.release.access import Counter, Tail, parse, upstream_seconds


def line(ts: float = 100.0, status: int = 200, took: float = 0.5, upstream: Any = 0.4) -> bytes:
    values = {"ts": ts, "status": status, "requestTime": took, "upstreamTime": upstream}
    return json.dumps(values | {"requestId": "r-00000001", "method": "GET"}).encode()


def test_only_lines_that_come_later_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    tail = Tail(path)
    assert list(tail.lines()) == []
    with path.open("ab") as stream:
        stream.write(b"one\ntw")
    assert list(tail.lines()) == [b"one"]
    with path.open("ab") as stream:
        stream.write(b"o\n")
    assert list(tail.lines()) == [b"two"]
    tail.close()


def test_a_rotated_file_is_read_until_it_is_quiet(tmp_path: Path) -> None:
    path, rotated = tmp_path / "log", tmp_path / "log.1"
    path.touch()
    tail = Tail(path)
    path.rename(rotated)
    assert list(tail.lines()) == []
    path.write_bytes(b"new\n")
    with rotated.open("ab") as stream:
        stream.write(b"late\n")
    assert sorted(tail.lines()) == [b"late", b"new"]
    for _ in range(12):
        assert list(tail.lines()) == []
    with rotated.open("ab") as stream:
        stream.write(b"too late\n")
    assert list(tail.lines()) == []
    tail.close()


def test_a_file_that_is_cut_or_comes_later_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(path)
    assert list(tail.lines()) == []
    path.write_bytes(b"first line\n")
    assert list(tail.lines()) == [b"first line"]
    path.write_bytes(b"cut\n")
    assert list(tail.lines()) == [b"cut"]
    tail.close()


@given(st.lists(st.binary(min_size=1).filter(lambda data: b"\n" not in data)), st.data())
def test_no_line_is_lost_however_it_arrives(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("tail") / "log"
    path.touch()
    tail = Tail(path)
    whole = b"".join(item + b"\n" for item in lines)
    found: list[bytes] = []
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        with path.open("ab") as stream:
            stream.write(whole[:size])
        whole = whole[size:]
        found += tail.lines()
    tail.close()
    assert found == lines


def test_requests_count_when_they_began_after_the_switch() -> None:
    counter = Counter(since=100.0)
    for item in (
        line(ts=100.4, took=0.5),
        line(ts=100.5, took=0.5, upstream=0.2),
        line(ts=101.0, took=0.1, status=502, upstream="-"),
        line(ts=101.0, took=0.1, status=503, upstream=0.3),
        line(ts=101.0, took=0.1, status=429, upstream=None),
        b"no json",
        b"[]",
        b'{"ts": true, "requestTime": 1, "status": 200}',
    ):
        counter.add(item)
    found = counter.requests()
    assert (found.total, found.errors5xx, found.p95_seconds) == (3, 2, 0.3)
    assert counter.unreadable == 3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(0.25, 0.25), (0, 0.0), ("0.250", 0.25), ("0.1, 0.2", 0.3), ("0.1 : 0.2", 0.3), ("-", None), ("", None),
     (None, None), (True, None), (float("nan"), None), ("-, 0.5", 0.5)],
)  # fmt: skip
def test_the_time_of_the_service(value: Any, seconds: float | None) -> None:
    assert upstream_seconds(value) == (None if seconds is None else pytest.approx(seconds))


@given(st.binary())
def test_any_line_is_a_request_or_refused(data: bytes) -> None:
    try:
        parse(data)
    except ValueError:
        pass
    else:
        assert isinstance(json.loads(data), dict)
