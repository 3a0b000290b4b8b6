# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A multipart upload from an iterator, in bounded memory, that leaves nothing behind when it fails."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..errors import OpsError
from . import refusals, s3_removal
from .base import UPLOAD_BUDGET_BYTES
from .patience import patiently
from .throttle import Throttle

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_T = TypeVar("_T")

MIB = 1 << 20
THREADS = 3
MAX_PARTS = 10_000
SMALLEST_PART_BYTES = 5 * MIB  # S3 refuses smaller ones, the last apart
MIN_BUDGET_BYTES = 6 * SMALLEST_PART_BYTES

# (up to this part, the budget divided by so much is a part's size): with the default of 96 MiB objects
# grow to about 390 GiB within 10,000 parts, and never need more than the budget for one part that is
# filled and one that is sent.
_STEPS = ((1000, 6), (4000, 3), (MAX_PARTS, 2))


def part_bytes(number: int, budget: int = UPLOAD_BUDGET_BYTES) -> int:
    """The size of part ``number`` (from 1) in bytes, for an upload that may hold ``budget`` bytes.

    :raises OpsError: ``STORE_OBJECT_TOO_LARGE`` beyond the last part that S3 allows.
    """
    for last, divisor in _STEPS:
        if number <= last:
            return budget // divisor
    raise OpsError(
        "STORE_OBJECT_TOO_LARGE",
        f"The backup is larger than the {largest_bytes(budget) >> 30} GiB that {MAX_PARTS} parts hold.",
        "Upload to fewer stores at once, or use a physical backup for a database of this size.",
    )


def largest_bytes(budget: int = UPLOAD_BUDGET_BYTES) -> int:
    """The size of the largest object that an upload with this budget can make."""
    sizes = zip((0, *(last for last, _divisor in _STEPS)), _STEPS, strict=False)
    return sum((last - before) * (budget // divisor) for before, (last, divisor) in sizes)


def parts(chunks: Iterator[bytes], budget: int = UPLOAD_BUDGET_BYTES) -> Iterator[bytearray]:
    """Cut a stream of bytes into the parts of an upload; a stream without a byte gives one empty part."""
    number = 1
    size = part_bytes(number, budget)
    buffer = bytearray()
    for chunk in chunks:
        view = memoryview(chunk)
        while len(buffer) + len(view) >= size:
            taken = size - len(buffer)
            buffer += view[:taken]
            view = view[taken:]
            yield buffer
            buffer = bytearray()
            number += 1
            size = part_bytes(number, budget)
        buffer += view
    if buffer or number == 1:
        yield buffer


@dataclass(frozen=True)
class Part:
    """A part that the store has confirmed.

    :ivar md5: digest of what was read from the caller.
    :ivar plain: whether the ETag is that digest (a key service for encryption makes it another).
    """

    number: int
    etag: str
    md5: bytes
    plain: bool


class Upload:
    """One multipart upload: :meth:`send` the parts, then :meth:`complete`.

    Whoever holds it must call :meth:`abort` when anything fails before :meth:`complete` returned.

    :param new: parameters of CreateMultipartUpload (lock, storage class, encryption).
    :param content: parameters of each part (the client's key).
    :param budget: bytes that the parts under way may hold, the one that the caller fills included.
    """

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        key: str,
        *,
        throttle: Throttle,
        budget: int = UPLOAD_BUDGET_BYTES,
        new: Mapping[str, Any] | None = None,
        content: Mapping[str, Any] | None = None,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._throttle = throttle
        self._budget = budget
        self._content = dict(content or {})
        self._id = client.create_multipart_upload(Bucket=bucket, Key=key, **(new or {}))["UploadId"]
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="upload")
        self._running: dict[Future[Part], int] = {}
        self._done: list[Part] = []
        self._sent = 0
        self._given_up = threading.Event()

    def send(self, data: bytearray) -> None:
        """Start sending a part; waits while the parts under way would exceed the memory budget."""
        self._collect(len(data))
        self._sent += 1
        future = self._pool.submit(self._put, self._sent, data)
        self._running[future] = len(data)

    def complete(self) -> str:
        """Wait for all parts, then make the object exist; returns its ETag."""
        self._collect(self._budget)
        self._pool.shutdown()
        self._done.sort(key=lambda part: part.number)
        answer = self._patiently(
            lambda: self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._id,
                MultipartUpload={
                    "Parts": [{"PartNumber": part.number, "ETag": part.etag} for part in self._done]
                },
            )
        )
        etag = answer.get("ETag", "").strip('"')
        digest = hashlib.md5(b"".join(part.md5 for part in self._done), usedforsecurity=False).hexdigest()
        # radosgw answers without an ETag when it is asked once more for what it has completed.
        if etag and all(part.plain for part in self._done):
            compare_etag(etag, f"{digest}-{len(self._done)}", self._key)
        return etag

    def abort(self) -> None:
        """Remove what has been sent. Ends the running parts first: one that arrives later would stay."""
        self._given_up.set()
        for future in self._running:
            future.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
        s3_removal.abort(self._client, self._bucket, self._key, self._id)

    def _collect(self, wanted: int) -> None:
        # One part more is being filled by the caller while `wanted` and the running ones are sent.
        while self._running and (
            len(self._running) >= THREADS or sum(self._running.values()) + 2 * wanted > self._budget
        ):
            finished, _waiting = wait(self._running, return_when=FIRST_COMPLETED)
            for future in finished:
                del self._running[future]
                self._done.append(future.result())

    def _put(self, number: int, data: bytearray) -> Part:
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        return self._patiently(lambda: self._put_once(number, data, digest))

    def _put_once(self, number: int, data: bytearray, digest: bytes) -> Part:
        answer = self._client.upload_part(
            Bucket=self._bucket,
            Key=self._key,
            UploadId=self._id,
            PartNumber=number,
            # botocore takes a bytearray or a stream as it is; its stubs do not say so
            Body=cast(bytes, self._throttle.body(data, self._given_up.is_set)),
            ContentMD5=base64.b64encode(digest).decode(),
            **self._content,
        )
        etag = answer["ETag"]
        plain = etag_is_md5(answer)
        if plain:
            compare_etag(etag.strip('"'), digest.hex(), self._key)
        return Part(number, etag, digest, plain)

    def _patiently(self, call: Callable[[], _T]) -> _T:
        return patiently(call, self._given_up.is_set, self._given_up.wait)


def etag_is_md5(answer: Mapping[str, Any]) -> bool:
    """Whether the ETag of an answer to a put is the MD5 of the content.

    It is not with keys of a key service or of the client (AWS, "Checking object integrity"); then the
    comparison that the server made with Content-MD5 stands alone.
    """
    return answer.get("ServerSideEncryption") in (None, "AES256") and "SSECustomerAlgorithm" not in answer


def compare_etag(etag: str, expected: str, key: str) -> None:
    """Compare what the store says it has with what was sent.

    :raises OpsError: ``STORE_TRANSFER_DAMAGED``.
    """
    if etag != expected:
        raise refusals.other_bytes(key, "ETag", etag, expected)
