# SPDX-License-Identifier: GPL-3.0-or-later
"""The sink: whole lines in order, nothing raised, nothing waited for, what is lost is counted."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pharma_backend import log
from pharma_backend.sink import MAX_PENDING_BYTES, Sink

LINE = b"x" * 9_999 + b"\n"


@pytest.fixture(params=["pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Reader and writer."""
    if request.param == "pipe":
        reader, writer = os.pipe()
    else:
        one, other = socket.socketpair()
        reader, writer = one.detach(), other.detach()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


def _drain(reader: int, sink: Sink) -> bytes:
    os.set_blocking(reader, False)
    received, quiet = b"", 0
    while quiet < 20:
        try:
            part = os.read(reader, 1 << 20)
        except BlockingIOError:
            part = b""
        received += part
        quiet = 0 if part or sink.pending_bytes else quiet + 1
        time.sleep(0 if part else 0.005)
    return received


def test_a_reader_that_hangs_costs_no_time_and_then_lines(ends: tuple[int, int]) -> None:
    reader, writer = ends
    sink = Sink(writer)
    began = time.monotonic()
    for number in range(300):
        sink(b"%04d" % number + LINE[4:])
    assert time.monotonic() - began < 2
    assert sink.lost > 0
    assert sink.pending_bytes <= MAX_PENDING_BYTES
    received = _drain(reader, sink)
    lines = received.splitlines(keepends=True)
    assert all(len(line) == len(LINE) for line in lines)
    # The oldest are kept, in order; none is written in part.
    assert [int(line[:4]) for line in lines] == list(range(len(lines)))
    assert len(lines) + sink.lost == 300
    assert sink.pending_bytes == 0


def test_a_reader_that_left(ends: tuple[int, int]) -> None:
    reader, writer = ends
    sink = Sink(writer)
    sink(LINE)
    os.close(reader)
    for _ in range(3):
        sink(LINE)
    assert sink.lost == 3


def test_a_descriptor_that_is_closed() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    os.close(reader)
    sink = Sink(writer)
    sink(LINE)
    assert sink.lost == 1


def test_a_full_disk_and_after_it() -> None:
    with Path("/dev/full").open("wb") as full:
        sink = Sink(full.fileno())
        sink(LINE)
        sink(LINE)
    assert sink.lost == 2


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as stream:
        sink = Sink(stream.fileno())
        threads = [
            threading.Thread(target=lambda c=c: [sink(c * 5000 + b"\n") for _ in range(50)])
            for c in (b"a", b"b", b"c")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert len(lines) == 150
    assert all(len(set(line)) == 1 and len(line) == 5000 for line in lines)


def test_the_end_waits_for_the_reader_but_not_for_ever(ends: tuple[int, int]) -> None:
    reader, writer = ends
    sink = Sink(writer)
    for _ in range(100):
        sink(LINE)
    began = time.monotonic()
    sink.flush(0.2)
    assert 0.1 < time.monotonic() - began < 2
    assert sink.pending_bytes > 0
    # What waits would be written to whatever gets the number of the descriptor next.
    _drain(reader, sink)
    assert sink.pending_bytes == 0


def test_a_line_that_cannot_be_rendered_or_written_raises_nothing_and_is_counted() -> None:
    def fail(line: bytes) -> None:
        raise MemoryError

    before = log.counts()[1]
    log.configure("lab", fail)
    try:
        log.info("token_refreshed")
        log.info("server_message", logger="x", text="\ud800 lone")
    finally:
        log.configure("lab")
    assert log.counts()[1] == before + 2
