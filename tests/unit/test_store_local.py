# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops import config
from pharma_ops.errors import OpsError
from pharma_ops.store.base import UNPROTECTED, ObjectStore, UploadInfo, checked_key
from pharma_ops.store.local import LocalStore
from pharma_ops.store.open import open_store
from store_contract import StoreContract


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    root = tmp_path / "store"
    root.mkdir()
    return open_store(config.Store(type="local", path=root))


@pytest.fixture
def open_as(store: ObjectStore) -> Callable[[str], ObjectStore]:
    """A directory is the same for every identity."""
    return lambda identity: store


class TestContract(StoreContract):
    """What every store promises."""


def test_a_failing_producer_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("the dump died")

    with pytest.raises(RuntimeError, match="the dump died"):
        store.put_stream("db/one/dump.age", broken())
    assert list(store.list()) == []
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_never_overwrites(store: ObjectStore) -> None:
    store.put_bytes("db/a", b"first")
    with pytest.raises(OpsError) as caught:
        store.put_bytes("db/a", b"second")
    assert caught.value.code == "STORE_OBJECT_EXISTS"
    assert store.get_bytes("db/a") == b"first"


def test_an_unmounted_disk_is_not_filled_in(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "absent")
    for call in (store.check, lambda: store.put_bytes("a", b""), lambda: list(store.list())):
        with pytest.raises(OpsError) as caught:
            call()
        assert caught.value.code == "STORE_UNREACHABLE"
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a b", "é", "a\n"])
def test_keys_that_are_not_safe_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        checked_key(key)


@given(st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True), min_size=1, max_size=4))
def test_plain_words_are_keys(words: list[str]) -> None:
    key = "/".join(words)
    assert checked_key(key) == key


def test_the_configuration_must_name_what_the_type_needs() -> None:
    for spec, word in ((config.Store(type="local"), "path"), (config.Store(type="s3"), "bucket")):
        with pytest.raises(OpsError, match=word) as caught:
            open_store(spec)
        assert caught.value.code == "CONFIG_INVALID"


def test_a_deleted_set_leaves_no_directory(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("db/1/manifest.json", b"x")
    store.put_bytes("db/2/manifest.json", b"x")
    store.delete("db/1/manifest.json")
    assert [info.key for info in store.list()] == ["db/2/manifest.json"]
    assert not (tmp_path / "store" / "db" / "1").exists()
    store.delete("db/2/manifest.json")
    assert list((tmp_path / "store").iterdir()) == []
    store.delete("db/2/manifest.json")


def test_a_directory_locks_and_protects_nothing(store: ObjectStore) -> None:
    store.put_bytes("db/a", b"x")
    assert store.locked_until("db/a") is None
    assert store.protection() == UNPROTECTED


def test_what_a_killed_upload_left_is_found_and_removed(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("db/1/globals.sql.age", b"x")
    killed(store, "db/1/dump.age")
    found = list(store.unfinished_uploads())
    assert [upload.key for upload in found] == ["db/1/dump.age"]
    assert abs(datetime.now(tz=UTC) - found[0].started) < timedelta(minutes=1)
    assert list(store.unfinished_uploads("db/1/d")) == found
    assert list(store.unfinished_uploads("db/2/")) == []
    store.abort_upload(found[0])
    assert list(store.unfinished_uploads()) == []
    assert [info.key for info in store.list()] == ["db/1/globals.sql.age"]
    store.abort_upload(found[0])


def killed(store: ObjectStore, key: str) -> None:
    """Leave an upload as a kill leaves it: its file stays."""
    root = store.root  # type: ignore[attr-defined]
    taken = root / "taken"

    def watching() -> Iterator[bytes]:
        yield b"half"
        [path] = root.rglob(".incoming.*")
        path.rename(taken)
        where.append(path)

    where: list[Path] = []

    with pytest.raises(OpsError):
        store.put_stream(key, watching())
    taken.rename(where[0])


@pytest.mark.parametrize("name", ["dump.age", "../dump.age", ".incoming.x/../dump.age", ".incoming./x"])
def test_only_an_upload_is_aborted(store: ObjectStore, name: str) -> None:
    store.put_bytes("db/dump.age", b"x")
    with pytest.raises(ValueError, match=r"not a|not an upload"):
        store.abort_upload(UploadInfo(key="db/dump.age", id=name, started=datetime.now(tz=UTC)))
    assert store.get_bytes("db/dump.age") == b"x"


def test_ten_thousand_sets_are_listed_in_time(store: ObjectStore, tmp_path: Path) -> None:
    root = tmp_path / "store" / "db"
    for number in range(10_000):
        place = root / f"20260101T000000Z-{number:06d}"
        place.mkdir(parents=True)
        for name in ("globals.sql.age", "dump.age", "manifest.json.sig", "manifest.json"):
            (place / name).touch()
    began = time.monotonic()
    found = sum(1 for _info in store.list("db/"))
    seconds = time.monotonic() - began
    assert found == 40_000
    print(f"40,000 objects listed in {seconds:.2f} s")
    assert seconds < 2
    assert list(store.unfinished_uploads()) == []


def test_a_directory_that_goes_while_it_is_listed_is_no_error(store: ObjectStore, tmp_path: Path) -> None:
    for number in range(3):
        store.put_bytes(f"db/{number}/x", b"x")
    entries = store._files("")  # type: ignore[attr-defined]
    next(entries)
    for number in range(3):
        store.delete(f"db/{number}/x")
    assert list(entries) == []
