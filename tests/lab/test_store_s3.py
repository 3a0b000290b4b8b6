# SPDX-License-Identifier: GPL-3.0-or-later
"""The store's client against a real S3 gateway with Object Lock and three identities."""

from __future__ import annotations

import resource
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from content import blocks
from pharma_ops.errors import OpsError
from pharma_ops.store import patience, s3_client
from pharma_ops.store.base import ObjectStore
from store_contract import StoreContract

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "pharma-backups"
Open = Callable[..., ObjectStore]  # the fixture `open_as`


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot be reached is given up sooner than in the middle of a backup."""
    monkeypatch.setattr(patience, "ROUNDS", 2)
    monkeypatch.setattr(s3_client, "ATTEMPTS", 2)


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


class TestContract(StoreContract):
    """What every store promises."""


def unfinished(admin: S3Client, prefix: str) -> list[str]:
    answer = admin.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    return [upload["Key"] for upload in answer.get("Uploads", [])]


def test_a_large_stream_is_sent_in_parts(open_as: Open) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stored = open_as("writer").put_stream("db/one/dump.age", blocks(50))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    print(f"peak memory grew by {grown:.0f} MiB")
    assert stored.etag.endswith("-4"), "50 MiB are 4 parts of 16 MiB"


@pytest.mark.parametrize("after", [1, 20, 49])
def test_a_failing_producer_leaves_nothing(
    open_as: Open, s3_as: Callable[..., S3Client], prefix: str, after: int
) -> None:
    def broken() -> Iterator[bytes]:
        yield from blocks(after)
        raise RuntimeError("the dump died")

    with pytest.raises(RuntimeError, match="the dump died") as caught:
        open_as("writer").put_stream("db/x", broken())
    assert not getattr(caught.value, "__notes__", [])
    assert list(open_as("reader").list()) == []
    assert unfinished(s3_as("admin"), prefix) == []


def test_an_interruption_leaves_nothing(open_as: Open, s3_as: Callable[..., S3Client], prefix: str) -> None:
    def interrupted() -> Iterator[bytes]:
        yield from blocks(40)
        assert unfinished(s3_as("admin"), prefix) == [f"{prefix}/db/x"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_as("writer").put_stream("db/x", interrupted())
    assert unfinished(s3_as("admin"), prefix) == []


def test_the_writer_can_only_put(open_as: Open, tmp_path: Path) -> None:
    writer = open_as("writer")
    writer.check()
    writer.put_bytes("db/x", b"x")
    for call in (
        lambda: writer.get_bytes("db/x"),
        lambda: writer.get_file("db/x", tmp_path / "x"),
        lambda: list(writer.list()),
    ):
        with pytest.raises(OpsError) as caught:
            call()
        assert caught.value.code == "STORE_ACCESS_DENIED"
    assert not (tmp_path / "x").exists()


def test_the_reader_cannot_put(open_as: Open) -> None:
    reader = open_as("reader")
    reader.check()
    for call in (
        lambda: reader.put_bytes("db/x", b"x"),
        lambda: reader.put_stream("db/x", blocks(17)),
    ):
        with pytest.raises(OpsError) as caught:
            call()
        assert caught.value.code == "STORE_ACCESS_DENIED"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"endpoint": "https://127.0.0.1:9"}, "STORE_UNREACHABLE"),
        ({"endpoint": "https://no-such-host.invalid:7443"}, "STORE_UNREACHABLE"),
        ({"endpoint": "nonsense"}, "CONFIG_INVALID"),
        ({"bucket": "no-such-bucket-here"}, "STORE_BUCKET_MISSING"),
        ({"ca_file": None}, "STORE_TLS_FAILED"),
        ({"secret_key": "wrong-secret"}, "STORE_ACCESS_DENIED"),
        ({"credentials_file": Path("/nonexistent.toml")}, "STORE_CREDENTIALS_INVALID"),
    ],
)
def test_what_is_wrong_is_named(open_as: Open, changes: dict[str, object], code: str) -> None:
    with pytest.raises(OpsError) as caught:
        open_as("reader", **changes).check()
    assert caught.value.code == code
    assert caught.value.action
    with pytest.raises(OpsError) as caught:
        open_as("writer", **changes).put_bytes("db/x", b"x")
    assert caught.value.code == code


def test_lists_across_pages(open_as: Open) -> None:
    writer = open_as("writer")
    keys = [f"db/{number:04d}" for number in range(1005)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: writer.put_bytes(key, b""), keys))
    found = [info.key for info in open_as("reader").list("db/")]
    assert found == keys
