# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A download in ranges, several at once, each resumed by itself when the connection breaks."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import OpsError
from ..files import CHUNK_BYTES
from .base import Advance
from .patience import delays, transient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RANGE_BYTES = 32 << 20
THREADS = 3
ATTEMPTS = 4


def download(
    client: S3Client,
    bucket: str,
    key: str,
    fd: int,
    progress: Advance | None,
    content: Mapping[str, Any],
) -> None:
    """Write an object into an open file.

    :param content: parameters of each request (the client's key).
    :raises OpsError: ``STORE_TRANSFER_DAMAGED`` when less arrives than the store announced; errors of
        botocore pass through.
    """
    head = client.head_object(Bucket=bucket, Key=key, **content)
    job = _Download(client, bucket, key, head["ETag"], head["ContentLength"], fd, progress, content)
    os.truncate(fd, job.total)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="download") as pool:
        futures = [pool.submit(job.fetch, start) for start in range(0, job.total, RANGE_BYTES)]
        try:
            for future in futures:
                future.result()
        except BaseException:
            job.stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@dataclass
class _Download:
    client: S3Client
    bucket: str
    key: str
    etag: str
    total: int
    fd: int
    progress: Advance | None
    content: Mapping[str, Any]
    done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def fetch(self, start: int) -> None:
        """Fetch the range that begins at ``start``, going on from where a broken connection left off."""
        end = min(start + RANGE_BYTES, self.total)
        for delay in (*delays(ATTEMPTS), None):
            try:
                start = self._stream(start, end)
            except Exception as error:
                if delay is None or not transient(error):
                    raise
            if start >= end or delay is None or self.stopped.wait(delay):
                break
        if start < end and not self.stopped.is_set():
            raise OpsError(
                "STORE_TRANSFER_DAMAGED",
                f"{self.key} ended {end - start} bytes early, {ATTEMPTS} times.",
                "Run again; if it happens again, suspect the network path to the store.",
            )

    def _stream(self, start: int, end: int) -> int:
        """Read on from ``start``; returns how far it came."""
        # IfMatch: all ranges come from one and the same version of the object.
        answer = self.client.get_object(
            Bucket=self.bucket,
            Key=self.key,
            Range=f"bytes={start}-{end - 1}",
            IfMatch=self.etag,
            **self.content,
        )
        with contextlib.closing(answer["Body"]) as body:
            while start < end and not self.stopped.is_set() and (chunk := body.read(CHUNK_BYTES)):
                _write_at(self.fd, chunk, start)
                start += len(chunk)
                self._advance(len(chunk))
        return start

    def _advance(self, count: int) -> None:
        with self.lock:
            self.done += count
            if self.progress:
                self.progress(self.done, self.total)


def _write_at(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]
