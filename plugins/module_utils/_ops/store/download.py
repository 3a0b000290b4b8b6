# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A download in ranges, several at once, each resumed by itself when the connection breaks."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import OpsError
from .base import Advance

RANGE_BYTES = 32 << 20
THREADS = 3
ATTEMPTS = 4


class Source(Protocol):
    """One version of one object."""

    @property
    def name(self) -> str:
        """What the store calls the object, for messages."""

    @property
    def total(self) -> int:
        """Its size in bytes."""

    def chunks(self, start: int, end: int) -> Generator[bytes, None, None]:
        """The bytes from ``start`` to before ``end`` as they arrive, in one request.

        It may end early, and raises the errors of the store's library as they are.
        """

    def passing(self, error: Exception) -> bool:
        """Whether another attempt may succeed after such an error."""

    def pauses(self) -> Iterable[float]:
        """The seconds to wait before each attempt but the first: ``ATTEMPTS - 1`` of them."""


def download(source: Source, fd: int, progress: Advance | None) -> None:
    """Write an object into an open file.

    :raises OpsError: ``STORE_TRANSFER_DAMAGED`` when less arrives than the store announced; errors of the
        source pass through.
    """
    job = _Download(source, fd, progress)
    os.truncate(fd, source.total)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="download") as pool:
        futures = [pool.submit(job.fetch, start) for start in range(0, source.total, RANGE_BYTES)]
        try:
            for future in futures:
                future.result()
        except BaseException:
            job.stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@dataclass
class _Download:
    source: Source
    fd: int
    progress: Advance | None
    done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def fetch(self, start: int) -> None:
        """Bring the range that begins at ``start``, going on from where a broken connection left off."""
        end = min(start + RANGE_BYTES, self.source.total)
        for pause in (*self.source.pauses(), None):
            try:
                with contextlib.closing(self.source.chunks(start, end)) as chunks:
                    for chunk in chunks:
                        start += self._write(start, chunk[: end - start])
                        if self.stopped.is_set():
                            return
            except Exception as error:
                if pause is None or not self.source.passing(error):
                    raise
            if start >= end or (pause is not None and self.stopped.wait(pause)):
                return
        raise OpsError(
            "STORE_TRANSFER_DAMAGED",
            f"{self.source.name} ended {end - start} bytes early, {ATTEMPTS} times.",
            "Run again; if it happens again, suspect the network path to the store.",
        )

    def _write(self, start: int, chunk: bytes) -> int:
        """Put a chunk where it belongs; returns its size in bytes."""
        left = memoryview(chunk)
        while left:
            written = os.pwrite(self.fd, left, start)
            start += written
            left = left[written:]
        with self.lock:
            self.done += len(chunk)
            if self.progress:
                self.progress(self.done, self.source.total)
        return len(chunk)
