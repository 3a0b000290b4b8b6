# SPDX-License-Identifier: GPL-3.0-or-later
"""One stream into several stores: who fails or hangs is dropped, the others get every byte."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharma_ops.backup.fanout import QUEUE_CHUNKS, Destination, Fanout
from pharma_ops.errors import ExitCode, OpsError
from pharma_ops.store.base import Stored
from pharma_ops.store.local import LocalStore

KEY = "shop/20260215T020000Z-0a0a0a/dump.age"
CHUNKS = [os.urandom(1000) for _ in range(40)]


class FailingStore(LocalStore):
    """Refuses after some chunks."""

    def __init__(self, root: Path, after: int) -> None:
        super().__init__(root)
        self._after = after

    def put_stream(self, key: str, chunks: Iterator[bytes]) -> Stored:
        def broken() -> Iterator[bytes]:
            for number, chunk in enumerate(chunks):
                if number == self._after:
                    raise OpsError(
                        "STORE_FULL", f"No space is left for {key} in {self.description}.", "Enlarge it."
                    )
                yield chunk

        return super().put_stream(key, broken())


class HangingStore(LocalStore):
    """Takes some chunks and then nothing, until it is let go."""

    def __init__(self, root: Path, after: int) -> None:
        super().__init__(root)
        self._after = after
        self.let_go = threading.Event()
        self.ended = threading.Event()

    def put_stream(self, key: str, chunks: Iterator[bytes]) -> Stored:
        def hanging() -> Iterator[bytes]:
            for number, chunk in enumerate(chunks):
                if number == self._after:
                    self.let_go.wait()
                yield chunk

        try:
            return super().put_stream(key, hanging())
        finally:
            self.ended.set()


class LyingStore(LocalStore):
    """Acknowledges other bytes than it was given."""

    def put_stream(self, key: str, chunks: Iterator[bytes]) -> Stored:
        return super().put_stream(key, (bytes(len(chunk)) for chunk in chunks))


class ShortStore(LocalStore):
    """Ends well before it has read all."""

    def put_stream(self, key: str, chunks: Iterator[bytes]) -> Stored:
        return super().put_stream(key, iter((next(chunks),)))


def fanout(stores: dict[str, LocalStore], stall: float = 20.0) -> Fanout:
    for store in stores.values():
        store.root.mkdir(exist_ok=True)
    found = [
        Destination(name=name, description=store.description, store=store) for name, store in stores.items()
    ]
    return Fanout(found, stall)


def errors(group: Fanout) -> dict[str, str]:
    return {item.name: item.error.code for item in group.destinations if item.error}


def content(store: LocalStore) -> bytes:
    return (store.root / KEY).read_bytes()


def test_every_store_gets_every_byte_and_says_so(tmp_path: Path) -> None:
    stores = {name: LocalStore(tmp_path / name) for name in ("a", "b", "c")}
    group = fanout(stores)
    group.check()
    stored = group.put_stream(KEY, iter(CHUNKS))
    whole = b"".join(CHUNKS)
    assert (stored.bytes, stored.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert [content(store) for store in stores.values()] == [whole] * 3
    assert errors(group) == {}
    assert all(item.acknowledged[KEY].sha256 == stored.sha256 for item in group.destinations)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3000), max_size=30),
    fails=st.lists(st.none() | st.integers(0, 29), min_size=1, max_size=4),
)
def test_whoever_does_not_fail_has_the_whole_stream(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], fails: list[int | None]
) -> None:
    root = tmp_path_factory.mktemp("fan")
    chunks = [os.urandom(size) for size in sizes]
    stores = {
        str(number): LocalStore(root / str(number))
        if after is None or after >= len(sizes)
        else FailingStore(root / str(number), after)
        for number, after in enumerate(fails)
    }
    sound = [store for store in stores.values() if not isinstance(store, FailingStore)]
    group = fanout(stores)
    if not sound:
        with pytest.raises(OpsError):
            group.put_stream(KEY, iter(chunks))
    else:
        group.put_stream(KEY, iter(chunks))
    assert all(content(store) == b"".join(chunks) for store in sound)
    for store in stores.values():
        if isinstance(store, FailingStore):
            assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_a_store_that_failed_once_gets_nothing_more(tmp_path: Path) -> None:
    stores = {"a": FailingStore(tmp_path / "a", 3), "b": LocalStore(tmp_path / "b")}
    group = fanout(stores)
    group.put_stream(KEY, iter(CHUNKS))
    group.put_bytes("shop/20260215T020000Z-0a0a0a/manifest.json", b"{}")
    assert errors(group) == {"a": "STORE_FULL"}
    assert not (stores["a"].root / "shop/20260215T020000Z-0a0a0a/manifest.json").exists()
    assert (stores["b"].root / "shop/20260215T020000Z-0a0a0a/manifest.json").read_bytes() == b"{}"


def test_a_store_that_hangs_does_not_hold_the_others_up(tmp_path: Path) -> None:
    hanging = HangingStore(tmp_path / "a", 5)
    group = fanout({"a": hanging, "b": LocalStore(tmp_path / "b")}, stall=0.5)
    begun = time.monotonic()
    group.put_stream(KEY, iter(CHUNKS))
    assert 0.4 < time.monotonic() - begun < 5
    assert errors(group) == {"a": "STORE_STALLED"}
    assert content(LocalStore(tmp_path / "b")) == b"".join(CHUNKS)
    hanging.let_go.set()
    assert hanging.ended.wait(5)
    assert [path for path in hanging.root.rglob("*") if path.is_file()] == [], "what came back late finished"


def test_a_store_that_hangs_at_the_very_end_is_given_up(tmp_path: Path) -> None:
    chunks = CHUNKS[: QUEUE_CHUNKS + 2]
    hanging = HangingStore(tmp_path / "a", len(chunks) - 1)
    group = fanout({"a": hanging, "b": LocalStore(tmp_path / "b")}, stall=0.5)
    group.put_stream(KEY, iter(chunks))
    assert errors(group) == {"a": "STORE_STALLED"}
    hanging.let_go.set()
    assert hanging.ended.wait(5)
    assert not (hanging.root / KEY).exists()


def test_a_slow_source_is_not_the_stores_fault(tmp_path: Path) -> None:
    def slow() -> Iterator[bytes]:
        for chunk in CHUNKS[:3]:
            time.sleep(0.4)
            yield chunk

    group = fanout({"a": LocalStore(tmp_path / "a")}, stall=0.3)
    group.put_stream(KEY, slow())
    assert errors(group) == {}


def test_what_a_store_acknowledges_is_compared(tmp_path: Path) -> None:
    stores = {
        "a": LyingStore(tmp_path / "a"),
        "b": ShortStore(tmp_path / "b"),
        "c": LocalStore(tmp_path / "c"),
    }
    group = fanout(stores)
    group.put_stream(KEY, iter(CHUNKS))
    assert errors(group) == {"a": "STORE_TRANSFER_DAMAGED", "b": "STORE_TRANSFER_DAMAGED"}


def test_when_the_source_fails_no_store_has_anything(tmp_path: Path) -> None:
    def source() -> Iterator[bytes]:
        yield from CHUNKS[:9]
        raise OpsError("DUMP_FAILED", "pg_dump failed.", "Read its log.")

    stores = {name: LocalStore(tmp_path / name) for name in ("a", "b")}
    group = fanout(stores)
    with pytest.raises(OpsError, match=r"pg_dump failed") as caught:
        group.put_stream(KEY, source())
    assert caught.value.code == "DUMP_FAILED"
    assert errors(group) == {}, "the source's failure is not the stores'"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_only_store_tells_its_own_error_and_several_tell_theirs_together(tmp_path: Path) -> None:
    group = fanout({"a": FailingStore(tmp_path / "a", 0)})
    with pytest.raises(OpsError) as caught:
        group.put_stream(KEY, iter(CHUNKS))
    assert caught.value.code == "STORE_FULL"
    group = fanout({"a": FailingStore(tmp_path / "a", 0), "b": FailingStore(tmp_path / "b", 2)})
    with pytest.raises(OpsError) as caught:
        group.put_stream(KEY, iter(CHUNKS))
    assert caught.value.code == "BACKUP_NOT_STORED"
    assert all(part in caught.value.message for part in ("a: No space", "b: No space"))


def test_the_check_drops_who_is_not_there_and_fails_when_nobody_is(tmp_path: Path) -> None:
    stores = {"a": LocalStore(tmp_path / "a"), "b": LocalStore(tmp_path / "b")}
    group = fanout(stores)
    stores["a"].root.rmdir()
    group.check()
    assert errors(group) == {"a": "STORE_UNREACHABLE"}
    group = fanout(stores)
    for store in stores.values():
        store.root.rmdir()
    with pytest.raises(OpsError) as caught:
        group.check()
    assert (caught.value.code, caught.value.exit_code) == ("BACKUP_NOT_STORED", ExitCode.COULD_NOT_RUN)


def test_the_queue_is_bounded(tmp_path: Path) -> None:
    """The source is not read far ahead of the slowest store."""
    hanging = HangingStore(tmp_path / "a", 0)
    read = 0

    def source() -> Iterator[bytes]:
        nonlocal read
        for chunk in CHUNKS:
            read += 1
            yield chunk

    group = fanout({"a": hanging, "b": LocalStore(tmp_path / "b")})
    pump = threading.Thread(target=group.put_stream, args=(KEY, source()))
    pump.start()
    time.sleep(0.3)
    assert read <= QUEUE_CHUNKS + 2
    hanging.let_go.set()
    pump.join(10)
    assert read == len(CHUNKS)
    assert errors(group) == {}
