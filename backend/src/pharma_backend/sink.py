# SPDX-License-Identifier: GPL-3.0-or-later
"""Where lines go: a descriptor that may be full, closed or read by nobody, and never stops a request."""

from __future__ import annotations

import os
import select
import socket
import stat
import threading
import time
from collections import deque

# What waits while the reader is behind; more than that is dropped, the newest lines first.
MAX_PENDING_BYTES = 1 << 20
# A pipe that says it can be written takes this much without blocking (pipe(7), PIPE_BUF).
_ATOMIC_BYTES = 4096
_DRAIN_MILLISECONDS = 250


class Sink:
    """Writes whole lines in order, without ever waiting for the reader.

    A reader that hangs leaves lines pending, then dropped. Nothing is raised; :attr:`lost` counts the
    lines that were given up, :attr:`pending_bytes` what still waits.
    """

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._socket: socket.socket | None = None
        self._kind: int | None = None
        self._poll: select.poll | None = None
        self._pending: deque[bytes] = deque()
        self._drainer: threading.Thread | None = None
        self._lock = threading.RLock()
        self.pending_bytes = 0
        self.lost = 0

    def __call__(self, line: bytes) -> None:
        """Write a line, or keep it until the reader is back."""
        with self._lock:
            if self._pending:
                self._push()
            if not self._pending:
                rest = self._attempt(line)
                if rest:
                    self._keep(rest)
            elif self.pending_bytes + len(line) <= MAX_PENDING_BYTES:
                self._keep(line)
            else:
                self.lost += 1

    def flush(self, seconds: float = 0.0) -> None:
        """Write what waits; at most so many seconds, for the end of the process."""
        limit = time.monotonic() + seconds
        while True:
            with self._lock:
                self._push()
                if not self._pending or time.monotonic() >= limit:
                    return
            time.sleep(0.01)

    def _keep(self, line: bytes) -> None:
        self._pending.append(line)
        self.pending_bytes += len(line)
        if self._drainer is None or not self._drainer.is_alive():
            self._drainer = threading.Thread(target=self._drain, name="log-drain", daemon=True)
            self._drainer.start()

    def _drain(self) -> None:
        """Write what waits as soon as it goes in, also when no further line comes by."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while True:
            poll.poll(_DRAIN_MILLISECONDS)
            # A descriptor that is always ready and takes nothing must not keep the processor busy.
            time.sleep(0.002)
            with self._lock:
                self._push()
                if not self._pending:
                    self._drainer = None
                    return

    def _push(self) -> None:
        while self._pending:
            line = self._pending.popleft()
            self.pending_bytes -= len(line)
            rest = self._attempt(line)
            if rest:
                self._pending.appendleft(rest)
                self.pending_bytes += len(rest)
                return

    def _attempt(self, line: bytes) -> bytes:
        """Write as much as goes in now; what is left. A line that fails for good is lost."""
        try:
            return self._write(line)
        except (OSError, ValueError):
            # Disk full, closed pipe: waiting would not help, and the next line may.
            self.lost += 1
            return b""

    def _write(self, line: bytes) -> bytes:
        kind = self._kind
        if kind is None:
            kind = self._look()
        if kind == stat.S_IFSOCK:
            return self._send(line)
        if kind == stat.S_IFIFO:
            return self._write_when_ready(line)
        written = 0
        while written < len(line):
            written += os.write(self._descriptor, line[written:])
        return b""

    def _look(self) -> int:
        self._kind = stat.S_IFMT(os.fstat(self._descriptor).st_mode)
        if os.isatty(self._descriptor):
            self._kind = stat.S_IFIFO  # a terminal can be stopped like a pipe
        if self._kind == stat.S_IFSOCK:
            self._socket = socket.socket(fileno=os.dup(self._descriptor))
        return self._kind

    def _send(self, line: bytes) -> bytes:
        if self._socket is None:
            raise OSError("not a socket")
        while line:
            try:
                # For this call only: the description is shared with whoever started us.
                line = line[self._socket.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            except (BlockingIOError, InterruptedError):
                return line
        return b""

    def _write_when_ready(self, line: bytes) -> bytes:
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._descriptor, select.POLLOUT)
        while line:
            if not self._poll.poll(0):
                return line
            try:
                line = line[os.write(self._descriptor, line[:_ATOMIC_BYTES]) :]
            except BlockingIOError:
                return line
        return b""
