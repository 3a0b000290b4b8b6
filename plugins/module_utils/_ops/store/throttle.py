# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A limit on the bytes a second that all uploads to a store share: a token bucket."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

CHUNK_BYTES = 64 << 10
# A bucket may save up what was not sent for so long; more would be a burst, less a stutter.
BURST_SECONDS = 0.25


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The state of a token bucket.

    :ivar rate: bytes a second.
    :ivar level: bytes that may be sent at once; below zero while those who came before still wait.
    :ivar at: seconds of a monotonic clock at which that was so.
    """

    rate: int
    level: float
    at: float


def take(tokens: Tokens, count: int, now: float) -> tuple[Tokens, float]:
    """Take ``count`` bytes at ``now``; the bucket afterwards, and the seconds to wait before sending them.

    Whoever comes later waits for those before: in any span of time t no more than
    rate * (t + BURST_SECONDS) bytes begin to be sent, and one chunk.
    """
    filled = tokens.level + max(0.0, now - tokens.at) * tokens.rate
    level = min(filled, tokens.rate * BURST_SECONDS) - count
    # A clock that stands before the bucket's must not fill it twice.
    return Tokens(rate=tokens.rate, level=level, at=max(now, tokens.at)), max(0.0, -level / tokens.rate)


class Throttle:
    """What the threads of all uploads to one store share.

    :param rate: bytes a second; 0 means that nothing waits.
    """

    def __init__(
        self,
        rate: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._tokens = Tokens(rate=rate, level=0.0, at=clock())
        # Small pieces of a slow line: a server gives up on a connection that is silent for long.
        self.chunk_bytes = min(CHUNK_BYTES, max(4096, rate // 8)) if rate else CHUNK_BYTES

    def wait(self, count: int) -> None:
        """Wait until ``count`` more bytes may be sent."""
        if not self.rate:
            return
        with self._lock:
            self._tokens, delay = take(self._tokens, count, self._clock())
        if delay:
            self._sleep(delay)

    def body(
        self, data: bytes | bytearray, given_up: Callable[[], bool] = lambda: False
    ) -> bytes | bytearray | io.RawIOBase:
        """The same bytes as a stream that is read no faster than the limit, or as they are without one.

        :param given_up: True makes the stream fail, so that nobody waits for what is not wanted any more.
        """
        return _Paced(data, self, given_up) if self.rate else data


class _Paced(io.RawIOBase):
    """Bytes as a file: HTTP clients read it to its end, and once more from its start when they try again."""

    def __init__(self, data: bytes | bytearray, throttle: Throttle, given_up: Callable[[], bool]) -> None:
        super().__init__()
        self._given_up = given_up
        self._view = memoryview(data)
        self._throttle = throttle
        self._position = 0

    def __len__(self) -> int:
        return len(self._view)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._view)}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        wanted = len(self._view) if size is None or size < 0 else size
        taken = []
        while wanted and self._position < len(self._view):
            if self._given_up():
                raise InterruptedError("the upload was given up")
            step = min(wanted, self._throttle.chunk_bytes)
            piece = bytes(self._view[self._position : self._position + step])
            self._throttle.wait(len(piece))
            self._position += len(piece)
            wanted -= len(piece)
            taken.append(piece)
        return b"".join(taken)
