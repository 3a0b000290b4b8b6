# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One stream into several stores at once: a store that fails or hangs is dropped, the others go on."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import ExitCode, OpsError
from ..store.base import ObjectStore, Stored

QUEUE_CHUNKS = 4
"""Chunks that wait for a store; they are shared, so several stores keep hardly more than one does."""
_LEAVE_SECONDS = 30.0
_POLL_SECONDS = 0.5


class AbandonedError(Exception):
    """Raised inside a store's own upload: it is not to be finished."""


@dataclass(eq=False)
class Destination:
    """A store that a backup goes to, and the reason why it does not any more.

    :ivar name: as the configuration names it.
    :ivar store: None when it could not be opened; then ``error`` says why.
    :ivar acknowledged: what it said to have stored, by key.
    """

    name: str
    description: str
    store: ObjectStore | None
    error: OpsError | None = None
    acknowledged: dict[str, Stored] = field(default_factory=dict)


class Fanout:
    """The stores of one backup. Puts may run in several threads; the first error of a store stands.

    :param stall_seconds: how long a store may take nothing in before it is dropped.
    :param stored: called with each store and what it acknowledged.
    :param dropped: called once for each store that is dropped; its ``error`` says why.
    """

    def __init__(
        self,
        destinations: Sequence[Destination],
        stall_seconds: float,
        stored: Callable[[Destination, Stored], None] = lambda _destination, _stored: None,
        dropped: Callable[[Destination], None] = lambda _destination: None,
    ) -> None:
        self.destinations = tuple(destinations)
        self._stall_seconds = stall_seconds
        self._stored = stored
        self._dropped = dropped
        self._lock = threading.Lock()

    @property
    def alive(self) -> list[Destination]:
        """The stores that have taken everything so far."""
        return [destination for destination in self.destinations if destination.error is None]

    def check(self) -> None:
        """Ask every store whether it is there, all at once.

        :raises OpsError: none is; see :meth:`failure`.
        """
        calls = [_Call(destination, _checked) for destination in self.alive]
        for call in calls:
            call.start()
        for call in calls:
            self._settle(call)
        self._require_any()

    def put_stream(self, key: str, chunks: Iterator[bytes]) -> Stored:
        """Store what the iterator yields in every store that is still there; read once, digested once.

        An exception of the iterator is passed on as it is, and nothing stands under ``key`` then.

        :raises OpsError: no store has it whole; see :meth:`failure`.
        """
        branches = [_Branch(destination, key) for destination in self.alive]
        for branch in branches:
            branch.start()
        digest = hashlib.sha256()
        total = 0
        with _closed(chunks), self._abandoned(branches):
            self._require_any()
            for chunk in chunks:
                digest.update(chunk)
                total += len(chunk)
                self._spread(branches, chunk)
            for branch in branches:
                branch.channel.end()
            for branch in branches:
                self._settle(branch)
            sent = Stored(key=key, bytes=total, sha256=digest.hexdigest())
            for branch in branches:
                self._compare(branch, sent)
            self._require_any()
        return sent

    def put_bytes(self, key: str, data: bytes) -> Stored:
        """Store a small object; the same promises as :meth:`put_stream`."""
        return self.put_stream(key, iter((data,)))

    def failure(self) -> OpsError:
        """Why no store is left: the error of the only one, or those of all in one."""
        errors = [(item, item.error) for item in self.destinations if item.error is not None]
        if len(errors) == 1:
            return errors[0][1]
        told = "; ".join(f"{item.name}: {error.message}" for item, error in errors)
        return OpsError(
            "BACKUP_NOT_STORED",
            f"None of {len(errors)} stores took the backup: {told}",
            "Look at each store; what is common to all of them is likely to be this host's network.",
        )

    def drop(self, destination: Destination, error: OpsError) -> None:
        """Take a store out of this backup; a second reason is not looked at."""
        with self._lock:
            if destination.error is not None:
                return
            destination.error = error
        self._dropped(destination)

    def _require_any(self) -> None:
        if not self.alive:
            raise self.failure()

    def _spread(self, branches: Sequence[_Branch], chunk: bytes) -> None:
        for branch in branches:
            if branch.destination.error is not None:
                branch.channel.abandon()
            elif not branch.channel.offer(chunk, self._stall_seconds):
                self._fell_behind(branch)
        self._require_any()

    def _fell_behind(self, branch: _Branch) -> None:
        """The upload ended by itself, or has taken nothing for too long."""
        branch.channel.abandon()
        if branch.channel.left:
            branch.thread.join()
            self.drop(branch.destination, branch.error or _ended_early(branch))
        else:
            self.drop(branch.destination, _stalled(branch, self._stall_seconds))

    def _settle(self, call: _Call) -> None:
        """Wait for the end of a call, and drop its store when it failed or takes too long."""
        while call.thread.is_alive() and call.idle_seconds() < self._stall_seconds:
            call.thread.join(min(_POLL_SECONDS, self._stall_seconds))
        if call.thread.is_alive():
            call.abandon()
            self.drop(call.destination, _stalled(call, self._stall_seconds))
        elif call.error is not None:
            self.drop(call.destination, call.error)

    def _compare(self, branch: _Branch, sent: Stored) -> None:
        """Hold what the store acknowledged against what was read."""
        if branch.destination.error is not None:
            return
        got = branch.acknowledged
        if got is None or (got.bytes, got.sha256) != (sent.bytes, sent.sha256):
            said = f"{got.bytes} bytes, sha256 {got.sha256}" if got else "nothing"
            error = OpsError(
                "STORE_TRANSFER_DAMAGED",
                f"{branch.destination.description} acknowledged {said} for {sent.key}, "
                f"where {sent.bytes} bytes, sha256 {sent.sha256} were sent.",
                "Run again; if it happens again, suspect this host's memory.",
            )
            self.drop(branch.destination, error)
            return
        branch.destination.acknowledged[sent.key] = got
        self._stored(branch.destination, got)

    @contextmanager
    def _abandoned(self, branches: Sequence[_Branch]) -> Iterator[None]:
        """When the block fails, no store may finish, and what it began is removed before we go on."""
        try:
            yield
        except BaseException:
            for branch in branches:
                branch.channel.abandon()
            deadline = time.monotonic() + _LEAVE_SECONDS
            for branch in branches:
                branch.thread.join(max(0.0, deadline - time.monotonic()))
            raise


class _Call:
    """Something that a store is asked, in a thread of its own that nobody has to wait for."""

    def __init__(self, destination: Destination, work: Callable[[ObjectStore], None]) -> None:
        self.destination = destination
        self.error: OpsError | None = None
        self._work = work
        self._begun = time.monotonic()
        self.thread = threading.Thread(target=self._run, name=f"store-{destination.name}", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def idle_seconds(self) -> float:
        return time.monotonic() - self._begun

    def abandon(self) -> None:
        pass

    def _run(self) -> None:
        store = self.destination.store
        try:
            if store is not None:
                self._work(store)
        except AbandonedError:
            pass
        except OpsError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - one store's defect must not cost the others their backup
            self.error = OpsError(
                "STORE_REQUEST_FAILED",
                f"{self.destination.description} failed in an unforeseen way: {type(error).__name__}: {error}.",
                "Report it as a defect, with the log of this run.",
            )


class _Branch(_Call):
    """The upload of one object into one store."""

    def __init__(self, destination: Destination, key: str) -> None:
        super().__init__(destination, self._put)
        self.channel = _Channel()
        self.acknowledged: Stored | None = None
        self._key = key

    def idle_seconds(self) -> float:
        return self.channel.idle_seconds()

    def abandon(self) -> None:
        self.channel.abandon()

    def _put(self, store: ObjectStore) -> None:
        try:
            self.acknowledged = store.put_stream(self._key, iter(self.channel))
        finally:
            self.channel.leave()


class _Channel:
    """A bounded queue from the one who reads the backup to the thread of one store."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._abandoned = False
        self._since = time.monotonic()
        self.left = False

    def offer(self, chunk: bytes, stall_seconds: float) -> bool:
        """Give the store a chunk; False when it left, or has taken nothing for so long."""
        with self._condition:
            while not self.left and len(self._chunks) >= QUEUE_CHUNKS:
                remaining = stall_seconds - self.idle_seconds()
                if remaining <= 0:
                    return False
                self._condition.wait(remaining)
            if self.left:
                return False
            if not self._chunks:
                # It had nothing to take until now: that was not its fault.
                self._since = time.monotonic()
            self._chunks.append(chunk)
            self._condition.notify_all()
            return True

    def end(self) -> None:
        """There is no more."""
        with self._condition:
            if not self._chunks:
                self._since = time.monotonic()
            self._ended = True
            self._condition.notify_all()

    def abandon(self) -> None:
        """What was given so far is not to be stored."""
        with self._condition:
            self._abandoned = True
            self._chunks.clear()
            self._condition.notify_all()

    def leave(self) -> None:
        """The store takes no more."""
        with self._condition:
            self.left = True
            self._chunks.clear()
            self._condition.notify_all()

    def idle_seconds(self) -> float:
        """For how long the store has taken nothing though there was something to take."""
        return time.monotonic() - self._since

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._condition:
                while not (self._chunks or self._ended or self._abandoned):
                    self._condition.wait()
                if self._abandoned:
                    raise AbandonedError
                if not self._chunks:
                    return
                chunk = self._chunks.popleft()
                self._since = time.monotonic()
                self._condition.notify_all()
            yield chunk


def _checked(store: ObjectStore) -> None:
    store.check()


def _stalled(call: _Call, seconds: float) -> OpsError:
    return OpsError(
        "STORE_STALLED",
        f"{call.destination.description} has taken nothing in for {seconds:g} s and was given up.",
        "Look at the store and the way to it; a slow one that is healthy needs a higher backup.stall_seconds.",
        ExitCode.FAILED,
    )


def _ended_early(branch: _Branch) -> OpsError:
    return OpsError(
        "STORE_TRANSFER_DAMAGED",
        f"{branch.destination.description} ended an upload before all of it was sent.",
        "Run again; if it happens again, report it as a defect.",
    )


@contextmanager
def _closed(chunks: Iterator[bytes]) -> Iterator[None]:
    """End what produces the chunks, whoever stopped reading them."""
    try:
        yield
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
