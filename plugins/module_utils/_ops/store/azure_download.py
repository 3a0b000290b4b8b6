# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A download in ranges, several at once, each resumed by itself when the connection breaks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ..errors import OpsError
from ..files import CHUNK_BYTES
from .azure_client import Client
from .base import Advance

RANGE_BYTES = 32 << 20
THREADS = 3
ATTEMPTS = 4
GET_BLOB = "Get Blob"


def download(client: Client, name: str, fd: int, progress: Advance | None) -> None:
    """Write a blob into an open file.

    :raises OpsError: ``STORE_TRANSFER_DAMAGED`` when less arrives than the store announced; errors of the
        client pass through.
    """
    head = client.request("Get Blob Properties", "HEAD", name).headers
    job = _Download(client, name, head["etag"], int(head["content-length"]), fd, progress)
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


def read(client: Client, name: str, limit: int) -> bytes | None:
    """The content of a small blob, None when it has more than ``limit`` bytes."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with client.opened(GET_BLOB, "GET", name) as response:
                return response.read() if int(response.headers["content-length"]) <= limit else None
        except client.library.TransportError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


@dataclass
class _Download:
    client: Client
    name: str
    etag: str
    total: int
    fd: int
    progress: Advance | None
    done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def fetch(self, start: int) -> None:
        """Bring the range that begins at ``start``, going on from where a broken connection left off."""
        end = min(start + RANGE_BYTES, self.total)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                for chunk in self._chunks(start, end):
                    _write_at(self.fd, chunk, start)
                    start += len(chunk)
                    self._advance(len(chunk))
            except self.client.library.TransportError:
                if attempt == ATTEMPTS:
                    raise
            if start >= end or self.stopped.is_set():
                return
        raise OpsError(
            "STORE_TRANSFER_DAMAGED",
            f"{self.name} ended {end - start} bytes early, {ATTEMPTS} times.",
            "Run again; if it happens again, suspect the network path to the store.",
        )

    def _chunks(self, start: int, end: int) -> Iterator[bytes]:
        # If-Match: all ranges come from one and the same version of the blob.
        headers = {"Range": f"bytes={start}-{end - 1}", "If-Match": self.etag}
        with self.client.opened(GET_BLOB, "GET", self.name, headers=headers) as response:
            for chunk in response.iter_raw(CHUNK_BYTES):
                if self.stopped.is_set():
                    return
                yield chunk[: end - start]
                start += len(chunk)

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
