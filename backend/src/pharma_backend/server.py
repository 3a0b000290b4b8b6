# SPDX-License-Identifier: GPL-3.0-or-later
"""The process: uvicorn, systemd's notifications, and a stop that drops no request."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from types import FrameType

import uvicorn

from . import app, log
from .api.services import Services
from .notify import Notifier


class Server(uvicorn.Server):
    """Says READY=1 once requests can be served; at a stop answers 503 on readiness before it closes."""

    def __init__(self, config: uvicorn.Config, shared: Services, notifier: Notifier) -> None:
        super().__init__(config)
        self._shared = shared
        self._notifier = notifier
        self._began = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def main_loop(self) -> None:
        """Serve until a stop is asked for."""
        self._loop = asyncio.get_running_loop()
        self._tasks.append(asyncio.create_task(self._announce(), name="announce"))
        if self._notifier.watchdog_seconds:
            self._tasks.append(asyncio.create_task(self._watchdog(), name="watchdog"))
        await super().main_loop()
        for task in self._tasks:
            task.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: not ready from now on, stop after the drain time. Second: stop at once."""
        if self._shared.readiness.stopping or self._loop is None:
            super().handle_exit(sig, frame)
            return
        self._shared.readiness.stopping = True
        self._loop.call_soon_threadsafe(self._begin_stop, sig)

    def _begin_stop(self, sig: int) -> None:
        drain = self._shared.settings.drain_seconds
        log.info("service_stopping", signal=signal.Signals(sig).name, drainSeconds=drain)
        self._notifier.send("STOPPING=1", "STATUS=Draining")
        asyncio.get_running_loop().call_later(drain, super().handle_exit, sig, None)

    async def _announce(self) -> None:
        self._notifier.send("STATUS=Waiting for the database")
        await self._shared.readiness.became_ready.wait()
        self._notifier.send("READY=1", "STATUS=Serving")
        elapsed = int((time.monotonic() - self._began) * 1000)
        log.info("service_ready", release=self._shared.release.label, startMs=elapsed)

    async def _watchdog(self) -> None:
        interval = (self._notifier.watchdog_seconds or 0) / 3
        log.info("watchdog_enabled", intervalMs=int(interval * 1000))
        while True:
            self._notifier.send("WATCHDOG=1")
            await asyncio.sleep(interval)


def serve(shared: Services, *, uds: Path | None, host: str, port: int) -> int:
    """Serve until a signal; the exit code of the process."""
    release = shared.release
    log.info("service_starting", release=release.label, version=release.version, pid=os.getpid())
    config = uvicorn.Config(
        app.create(shared),
        host=host,
        port=port,
        uds=str(uds) if uds else None,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        reset_contextvars=True,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=shared.settings.stop_timeout,
    )
    # uvicorn raises the signal again once it has stopped; the process then ends by itself, with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    server = Server(config, shared, Notifier())
    server.run()
    if uds is not None:
        uds.unlink(missing_ok=True)
    log.info("service_stopped", uptimeSec=shared.uptime_seconds)
    return 0 if server.started else 2
