# SPDX-License-Identifier: GPL-3.0-or-later
"""Readiness, decided in the background and answered from memory.

A checker with a connection of its own asks the database ``select 1``; probes only read the verdict,
so a flood of probes adds no query and an exhausted pool does not take the service out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from . import log, metrics

FAIL_AFTER = 2
RECOVER_AFTER = 2


@dataclass
class Verdict:
    """Hysteresis over the results of checks: changes after two results in a row that contradict it.

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
        self._connection: psycopg.AsyncConnection | None = None
        self._checked_at = clock()
        self._task: asyncio.Task[None] | None = None
        self._verdict = Verdict()
        self.stopping = False
        self.stale_after = 2 * interval + timeout + 1.0
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
        """End the background task and its connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._disconnect()

    async def check(self) -> None:
        """Ask the database once and take in the result."""
        result = await self._ask()
        self._checked_at = self._clock()
        if self._verdict.record(result):
            write = log.info if result else log.warn
            write("readiness_changed", db="ok" if result else "fail")
        if self.ok:
            self.became_ready.set()
        metrics.READY.set(int(self.ok))

    async def _run(self) -> None:
        while True:
            started = self._clock()
            await asyncio.sleep(self._interval)
            # A loop that was blocked for long has let the verdict go stale; say so in the metric.
            if self._clock() - started > self.stale_after:
                metrics.READY.set(0)
            await self.check()

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(self._timeout):
                if self._connection is None:
                    self._connection = await psycopg.AsyncConnection.connect(
                        self._url, autocommit=True, application_name=f"{log.SERVICE}-readiness"
                    )
                await self._connection.execute("select 1")
        except (psycopg.Error, OSError, TimeoutError):
            await self._disconnect()
            return False
        return True

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
