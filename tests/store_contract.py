# SPDX-License-Identifier: GPL-3.0-or-later
"""What every store promises, whatever lies behind it; each kind of store runs it with fixtures of its own."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from content import MIB, blocks, digest_of
from pharma_ops.errors import OpsError
from pharma_ops.store.base import ObjectStore


class StoreContract:
    """Needs the fixture ``open_as``, which gives an empty store as `writer` or as `reader` see it."""

    @pytest.fixture
    def writer(self, open_as: Callable[[str], ObjectStore]) -> ObjectStore:
        return open_as("writer")

    @pytest.fixture
    def reader(self, open_as: Callable[[str], ObjectStore]) -> ObjectStore:
        return open_as("reader")

    def test_a_large_stream_comes_back_as_it_was(
        self, writer: ObjectStore, reader: ObjectStore, tmp_path: Path
    ) -> None:
        count = 50
        began = time.monotonic()
        stored = writer.put_stream("db/one/dump.age", blocks(count))
        print(f"upload {count / (time.monotonic() - began):.0f} MiB/s")
        assert (stored.key, stored.bytes, stored.sha256) == ("db/one/dump.age", count * MIB, digest_of(count))
        seen: list[tuple[int, int | None]] = []
        reader.get_file("db/one/dump.age", tmp_path / "back", lambda done, total: seen.append((done, total)))
        assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == digest_of(count)
        assert sorted(seen) == seen
        assert seen[-1] == (count * MIB, count * MIB)
        [info] = reader.list("db/one/")
        assert (info.key, info.bytes) == ("db/one/dump.age", count * MIB)

    @pytest.mark.parametrize("size", [0, 1, 16 * MIB - 1, 16 * MIB, 16 * MIB + 1])
    def test_every_size_comes_back(
        self, writer: ObjectStore, reader: ObjectStore, tmp_path: Path, size: int
    ) -> None:
        data = (os.urandom(1024) * (size // 1024 + 1))[:size]
        stored = writer.put_stream("db/x", iter((data[: size // 2], b"", data[size // 2 :])))
        assert (stored.bytes, stored.sha256) == (size, hashlib.sha256(data).hexdigest())
        reader.get_file("db/x", tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == reader.get_bytes("db/x") == data

    def test_an_unfinished_object_is_not_listed(self, writer: ObjectStore, reader: ObjectStore) -> None:
        def watched() -> Iterator[bytes]:
            yield from blocks(20)
            assert list(reader.list()) == []

        writer.put_stream("db/x", watched())
        assert [info.key for info in reader.list()] == ["db/x"]

    def test_lists_by_prefix_in_order(self, writer: ObjectStore, reader: ObjectStore) -> None:
        for key in ("db/2/x", "db/1/x", "db2/1/x", "other"):
            writer.put_bytes(key, b"12")
        found = list(reader.list("db/"))
        assert [info.key for info in found] == ["db/1/x", "db/2/x"]
        assert found[0].bytes == 2
        assert abs(datetime.now(tz=UTC) - found[0].modified) < timedelta(minutes=1)
        assert [info.key for info in reader.list("db")] == ["db/1/x", "db/2/x", "db2/1/x"]
        assert list(reader.list("nothing/")) == []

    def test_a_missing_object_is_named(self, reader: ObjectStore, tmp_path: Path) -> None:
        for call in (
            lambda: reader.get_bytes("db/none"),
            lambda: reader.get_file("db/none", tmp_path / "x"),
        ):
            with pytest.raises(OpsError, match="db/none") as caught:
                call()
            assert caught.value.code == "STORE_OBJECT_MISSING"
        assert [path for path in tmp_path.iterdir() if path.name.startswith(("x", ".x"))] == []

    def test_too_much_is_refused(self, writer: ObjectStore, reader: ObjectStore) -> None:
        writer.put_bytes("db/x", b"12345")
        assert reader.get_bytes("db/x", limit=5) == b"12345"
        with pytest.raises(OpsError, match="db/x") as caught:
            reader.get_bytes("db/x", limit=4)
        assert caught.value.code == "STORE_OBJECT_TOO_LARGE"
