# SPDX-License-Identifier: GPL-3.0-or-later
"""Readiness, decided in the background and answered from memory.

A checker with a connection of its own asks the database ``select 1``; probes only read the verdict,
so a flood of probes adds no query and an exhausted pool does not take the service out.

The times, for the defaults (interval 2 s, timeout 1 s). While the verdict is good a check has two
attempts, the second on a new connection, and both end within the timeout: 0.3 s + 0.1 s + 0.3 s. So a
database that stops or hangs just after a check is found out 2.7 s later at the latest, by two failures.
While the verdict is bad there is one attempt in each interval, with the whole timeout; the first that
succeeds is repeated 0.1 s later, so the service is ready 3.2 s after the database at the latest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from . import log, metrics, reach

FAIL_AFTER = 2
RECOVER_AFTER = 2
RECHECK_SECONDS = 0.1
# Of the timeout: two attempts and the pause between them must fit into it, with time to spare.
ATTEMPT_SHARE = 0.3


@dataclass
class Verdict:
    """Hysteresis over the results of attempts: changes after two results in a row that contradict it.

    The first result decides at once: nothing is known before it.
    """

    ok: bool = False
    streak: int = 0
    decided: bool = False

    def record(self, result: bool) -> bool:
        """Take in a result; True when the verdict changed."""
        if not self.decided:
            self.decided, self.ok, self.streak = True, result, 0
            return True
        if result == self.ok:
            self.streak = 0
            return False
        self.streak += 1
        if self.streak < (RECOVER_AFTER if result else FAIL_AFTER):
            return False
        self.ok, self.streak = result, 0
        return True

    def patience(self, timeout: float) -> float:
        """Seconds that the next attempt may take."""
        return timeout * ATTEMPT_SHARE if self.ok else timeout

    def pause(self, interval: float, took: float) -> float:
        """Seconds until the next attempt, which may have to confirm the one that took so long."""
        return RECHECK_SECONDS if self.streak else max(0.0, interval - took)


class Readiness:
    """The verdict on the database and on this process, and the task that keeps it."""

    def __init__(
        self,
        url: str,
        *,
        interval: float = 2.0,
        timeout: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._interval = interval
        self._timeout = timeout
        self._clock = clock
        self._connection: reach.Connection | None = None
        self._checked_at = clock()
        self._task: asyncio.Task[None] | None = None
        self._probes: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        # Of the newest failure whose code is known at once; that of a timeout needs a probe.
        self._code = ""
        self._verdict = Verdict()
        self.stopping = False
        self.stale_after = interval + timeout + 1.0
        self.became_ready = asyncio.Event()

    @property
    def database_ok(self) -> bool:
        """Whether the database answered, judged on fresh results only."""
        return self._verdict.ok and self._clock() - self._checked_at <= self.stale_after

    @property
    def ok(self) -> bool:
        """Whether requests may be sent here."""
        return self.database_ok and not self.stopping

    @property
    def checked_ago_ms(self) -> int:
        """Age of the newest result in milliseconds."""
        return int((self._clock() - self._checked_at) * 1000)

    async def start(self) -> None:
        """Check once, then go on in the background."""
        await self.check()
        self._task = asyncio.create_task(self._run(), name="readiness")

    async def close(self) -> None:
        """End the background task and its connection; takes no longer than one attempt."""
        self._closing.set()
        if self._connection is not None:
            reach.cut(self._connection)
        if self._task is not None:
            await asyncio.gather(self._task, *self._probes, return_exceptions=True)
        await self._disconnect()

    async def check(self) -> None:
        """Ask the database once and take in the result."""
        result = await self._ask(self._verdict.patience(self._timeout))
        self._checked_at = self._clock()
        metrics.READINESS_CHECKS.labels("ok" if result else "fail").inc()
        if self._verdict.record(result):
            if result:
                log.info("readiness_changed", db="ok")
            else:
                log.warn("readiness_changed", None, db="fail", **({"code": self._code} if self._code else {}))
        if self.ok:
            self.became_ready.set()

    async def _run(self) -> None:
        took = 0.0
        while not await self._closed_within(self._verdict.pause(self._interval, took)):
            started = self._clock()
            try:
                await self.check()
            except Exception as error:  # noqa: BLE001 - without its checker the service would never be ready again
                log.error("readiness_changed", error, db="fail")
            took = self._clock() - started

    async def _closed_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _ask(self, seconds: float) -> bool:
        deadline = self._clock() + seconds
        try:
            if self._connection is None:
                async with asyncio.timeout(seconds):
                    self._connection = await reach.Connection.connect(
                        self._url, autocommit=True, application_name=f"{log.SERVICE}-readiness"
                    )
        except TimeoutError:
            self._count_timeout(seconds)
            return False
        except (psycopg.Error, OSError) as error:
            self._code = reach.code(str(error))  # counted where the connection was tried
            return False
        try:
            with reach.Patience(self._connection, max(deadline - self._clock(), 0.01)):
                await self._connection.execute("select 1")
        except (psycopg.Error, OSError):
            self._code = self._connection.loss
            metrics.CONNECTION_ERRORS.labels(self._code).inc()
            await self._disconnect()
            return False
        self._code = ""
        return True

    def _count_timeout(self, seconds: float) -> None:
        # Beside the checks: to find out whether the host is there takes time that the verdict does not have.
        probe = asyncio.create_task(reach.count_timeout(self._url, seconds), name="reach")
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
