# SPDX-License-Identifier: GPL-3.0-or-later
"""A line each minute, so that silence can be told from a quiet night."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from . import log

INTERVAL_SECONDS = 60.0


@asynccontextmanager
async def beating(
    *, release: str, ready: Callable[[], bool], uptime: Callable[[], int], interval: float = INTERVAL_SECONDS
) -> AsyncIterator[None]:
    """Write a heartbeat at once and then at each interval (seconds) while the block runs."""
    task = asyncio.create_task(_beat(release, ready, uptime, interval), name="heartbeat")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _beat(release: str, ready: Callable[[], bool], uptime: Callable[[], int], interval: float) -> None:
    while True:
        lines, lost = log.counts()
        log.info(
            "heartbeat",
            uptimeSec=uptime(),
            ready=ready(),
            release=release,
            linesWritten=sum(lines.values()),
            linesLost=lost,
        )
        await asyncio.sleep(interval)
