# SPDX-License-Identifier: GPL-3.0-or-later
"""The multipart upload's decisions and what it does when the store fails in the middle."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops import config
from pharma_ops.errors import OpsError
from pharma_ops.store import patience, s3_upload
from pharma_ops.store.s3 import S3Store

MIB = 1 << 20


class FakeClient:
    """Answers as S3 does, keeps nothing but the sizes, and fails where it is told to."""

    def __init__(self, *, fail_part: int = 0, fail_complete: str = "", fail_abort: bool = False) -> None:
        self.fail_part, self.fail_complete, self.fail_abort = fail_part, fail_complete, fail_abort
        self.lock = threading.Lock()
        self.parts: dict[int, bytes] = {}
        self.calls: list[str] = []
        self.wrong_etag = False
        self.encryption: str | None = None

    def create_multipart_upload(self, **_: Any) -> dict[str, Any]:
        self.calls.append("create")
        return {"UploadId": "one"}

    def upload_part(self, **request: Any) -> dict[str, Any]:
        with self.lock:
            self.calls.append("part")
        if request["PartNumber"] == self.fail_part:
            raise error("InternalError", "UploadPart")
        digest = hashlib.md5(request["Body"], usedforsecurity=False)
        with self.lock:
            self.parts[request["PartNumber"]] = digest.digest()
        etag = "0" * 32 if self.wrong_etag or self.encryption else digest.hexdigest()
        return {"ETag": f'"{etag}"'} | ({"ServerSideEncryption": self.encryption} if self.encryption else {})

    def complete_multipart_upload(self, **request: Any) -> dict[str, Any]:
        self.calls.append("complete")
        if self.fail_complete:
            raise error(self.fail_complete, "CompleteMultipartUpload")
        numbers = [part["PartNumber"] for part in request["MultipartUpload"]["Parts"]]
        assert numbers == sorted(self.parts)
        whole = hashlib.md5(b"".join(self.parts[number] for number in numbers), usedforsecurity=False)
        return {"ETag": f'"{whole.hexdigest()}-{len(numbers)}"'}

    def abort_multipart_upload(self, **_: Any) -> dict[str, Any]:
        self.calls.append("abort")
        if self.fail_abort:
            raise error("InternalError", "AbortMultipartUpload")
        return {}

    def put_object(self, **request: Any) -> dict[str, Any]:
        self.calls.append("put")
        return {"ETag": f'"{hashlib.md5(request["Body"], usedforsecurity=False).hexdigest()}"'}


def error(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


def store_with(client: FakeClient) -> S3Store:
    store = S3Store(config.Store(type="s3", bucket="b", endpoint="https://127.0.0.1:9"))
    store._client = client  # type: ignore[assignment]
    return store


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "BASE_SECONDS", 0.001)


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(12, 60))
def test_parts_hold_the_stream_and_have_their_sizes(chunks: list[int], budget: int) -> None:
    data = [bytes([number % 251]) * size for number, size in enumerate(chunks)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_upload, "_STEPS", ((1, 6), (3, 3), (10_000, 2)))
        cut = [bytes(part) for part in s3_upload.parts(iter(data), budget)]
        wanted = [s3_upload.part_bytes(number, budget) for number in range(1, len(cut) + 1)]
    assert b"".join(cut) == b"".join(data)
    assert [len(part) for part in cut[:-1]] == wanted[:-1]
    assert len(cut[-1]) <= wanted[-1]
    assert cut[-1] or len(cut) == 1


def test_the_largest_object_is_near_390_gib() -> None:
    total = sum(s3_upload.part_bytes(number) for number in range(1, s3_upload.MAX_PARTS + 1))
    assert total == s3_upload.largest_bytes()
    assert 390 < total / (1 << 30) < 391
    with pytest.raises(OpsError, match="390 GiB") as caught:
        s3_upload.part_bytes(s3_upload.MAX_PARTS + 1)
    assert caught.value.code == "STORE_OBJECT_TOO_LARGE"


@given(st.integers(s3_upload.MIN_BUDGET_BYTES, 1 << 30), st.integers(1, s3_upload.MAX_PARTS))
def test_two_parts_fit_into_any_budget_and_none_is_too_small_for_s3(budget: int, number: int) -> None:
    size = s3_upload.part_bytes(number, budget)
    assert size >= s3_upload.SMALLEST_PART_BYTES
    assert 2 * size <= budget


def test_a_budget_that_holds_no_upload_is_refused() -> None:
    with pytest.raises(ValueError, match="31457280"):
        S3Store(config.Store(type="s3", bucket="b"), s3_upload.MIN_BUDGET_BYTES - 1)


def blocks(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield bytes([number]) * MIB


def test_a_small_stream_is_one_put() -> None:
    client = FakeClient()
    stored = store_with(client).put_stream("db/x", iter((b"a", b"b")))
    assert client.calls == ["put"]
    assert (stored.bytes, stored.sha256) == (2, hashlib.sha256(b"ab").hexdigest())


def test_a_large_stream_is_completed_once() -> None:
    client = FakeClient()
    stored = store_with(client).put_stream("db/x", blocks(50))
    assert client.calls.count("part") == 4
    assert client.calls[-1] == "complete"
    assert "abort" not in client.calls
    assert stored.etag.endswith("-4")


@pytest.mark.parametrize(
    ("client", "code"),
    [
        (FakeClient(fail_part=1), "STORE_REQUEST_FAILED"),
        (FakeClient(fail_part=4), "STORE_REQUEST_FAILED"),
        (FakeClient(fail_complete="PreconditionFailed"), "STORE_OBJECT_EXISTS"),
        (FakeClient(fail_complete="QuotaExceeded"), "STORE_FULL"),
        (FakeClient(fail_complete="NoSuchBucket"), "STORE_BUCKET_MISSING"),
    ],
)
def test_a_failing_store_gets_an_abort(client: FakeClient, code: str) -> None:
    with pytest.raises(OpsError) as caught:
        store_with(client).put_stream("db/x", blocks(50))
    assert caught.value.code == code
    assert "db/x" in caught.value.message or code == "STORE_BUCKET_MISSING"
    assert client.calls[-1] == "abort"


def test_a_part_that_arrives_damaged_is_found() -> None:
    client = FakeClient()
    client.wrong_etag = True
    with pytest.raises(OpsError) as caught:
        store_with(client).put_stream("db/x", blocks(20))
    assert caught.value.code == "STORE_TRANSFER_DAMAGED"
    assert client.calls[-1] == "abort"


def test_etags_of_a_key_service_are_not_compared() -> None:
    client = FakeClient()
    client.encryption = "aws:kms"
    store_with(client).put_stream("db/x", blocks(20))
    assert client.calls[-1] == "complete"


def test_parts_that_could_not_be_removed_are_told() -> None:
    def broken() -> Iterator[bytes]:
        yield from blocks(20)
        raise OpsError("DUMP_FAILED", "pg_dump failed.", "Read its words.")

    with pytest.raises(OpsError) as caught:
        store_with(FakeClient(fail_abort=True)).put_stream("db/x", broken())
    assert caught.value.code == "DUMP_FAILED"
    assert caught.value.action.startswith("Read its words. The parts of db/x sent so far may remain")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not toml =",
        'access_key = "a"',
        'access_key = "a"\nsecret_key = 1',
        'access_key=""\nsecret_key="b"',
    ],
)
def test_a_credentials_file_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "credentials.toml"
    path.write_text(text)
    with pytest.raises(OpsError, match=str(path)) as caught:
        S3Store(config.Store(type="s3", bucket="b", credentials_file=path))
    assert caught.value.code == "STORE_CREDENTIALS_INVALID"
