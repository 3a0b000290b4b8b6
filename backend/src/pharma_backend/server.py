# SPDX-License-Identifier: GPL-3.0-or-later
"""The process: uvicorn, systemd's notifications, and a stop that drops no request."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from . import app, log, metrics
from .api.services import Services
from .errors import CommandError
from .notify import Notifier
from .refusal import RefusingProtocol

BACKLOG = 4096
# How long connections that were accepted before a stop are still read from.
GRACE_SECONDS = 0.25
# How long a stop waits for a request that is announced: a connection without its first, or half a head.
ANNOUNCED_SECONDS = 1.0
DEFAULT_DRAIN_SECONDS = 1.0
# Of WatchdogSec=: the rest is for the kill and the new start, so that a stuck service is back within it.
WATCHDOG_SHARE = 2 / 3
LAG_INTERVAL = 0.25


@dataclass(frozen=True)
class Endpoint:
    """Where to listen: an inherited descriptor, else a unix socket, else an address."""

    fd: int | None = None
    uds: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000


class Protocol(RefusingProtocol):
    """HTTP/1.1 that knows whether a request is announced whose head is not yet here."""

    head_began = False

    @property
    def announced(self) -> bool:
        """True before the first request of a connection and in the middle of any request's head."""
        return self.cycle is None or self.head_began

    def on_message_begin(self) -> None:
        """Called by the parser at the first byte of a request."""
        self.head_began = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Called by the parser at the end of a head."""
        self.head_began = False
        super().on_headers_complete()


class Server(uvicorn.Server):
    """Says READY=1 once requests can be served, and stops without losing one.

    :param drain: seconds between the first signal and the end of accepting. Zero for an inherited socket:
        whoever holds it keeps its queue for the successor.
    """

    def __init__(self, config: uvicorn.Config, shared: Services, notifier: Notifier, drain: float) -> None:
        super().__init__(config)
        self._shared = shared
        self._notifier = notifier
        self._drain = drain
        self._began = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def main_loop(self) -> None:
        """Serve until a stop is asked for."""
        self._loop = asyncio.get_running_loop()
        self._tasks.append(asyncio.create_task(self._announce(), name="announce"))
        self._tasks.append(asyncio.create_task(_measure_lag(), name="lag"))
        if self._notifier.watchdog_seconds:
            watchdog = self._watchdog(self._notifier.watchdog_seconds * WATCHDOG_SHARE)
            self._tasks.append(asyncio.create_task(watchdog, name="watchdog"))
        await super().main_loop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, read what was accepted, finish it, close."""
        self._stop_accepting()
        await asyncio.sleep(GRACE_SECONDS)
        limit = time.monotonic() + ANNOUNCED_SECONDS
        while self._announced() and time.monotonic() < limit and not self.force_exit:
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)
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
        log.info("service_stopping", signal=signal.Signals(sig).name, drainSeconds=self._drain)
        self._notifier.send("STOPPING=1", "STATUS=Draining")
        if self._drain:
            asyncio.get_running_loop().call_later(self._drain, super().handle_exit, sig, None)
            return
        self._stop_accepting()
        super().handle_exit(sig, None)

    def _stop_accepting(self) -> None:
        for server in self.servers:
            server.close()

    def _announced(self) -> bool:
        return any(
            isinstance(connection, Protocol) and connection.announced
            for connection in self.server_state.connections
        )

    async def _announce(self) -> None:
        self._notifier.send("STATUS=Waiting for the database")
        await self._shared.readiness.became_ready.wait()
        self._notifier.send("READY=1", "STATUS=Serving")
        elapsed = int((time.monotonic() - self._began) * 1000)
        log.info("service_ready", release=self._shared.release.label, startMs=elapsed)

    async def _watchdog(self, seconds: float) -> None:
        interval = seconds / 3
        log.info("watchdog_enabled", intervalMs=int(interval * 1000))
        self._notifier.send(f"WATCHDOG_USEC={int(seconds * 1_000_000)}")
        while True:
            self._notifier.send("WATCHDOG=1")
            await asyncio.sleep(interval)


async def _measure_lag() -> None:
    while True:
        began = time.monotonic()
        await asyncio.sleep(LAG_INTERVAL)
        lag = max(0.0, time.monotonic() - began - LAG_INTERVAL)
        metrics.LOOP_LAG.observe(lag)
        metrics.LOOP_LAG_LAST.set(lag)


def inherited(fd: int) -> socket.socket:
    """The listening socket behind a descriptor.

    :raises CommandError: ``SOCKET_INVALID`` when it is none.
    """
    try:
        # A duplicate: closing ours leaves the descriptor as it was given.
        found = socket.socket(fileno=os.dup(fd))
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except OSError as error:
        raise _no_listener(fd, os.strerror(error.errno or 0)) from error
    if not listens or found.type != socket.SOCK_STREAM:
        raise _no_listener(fd, "it does not listen for connections")
    return found


def _no_listener(fd: int, cause: str) -> CommandError:
    return CommandError(
        "SOCKET_INVALID",
        f"Descriptor {fd} is no listening socket: {cause}.",
        "Start the service through its socket unit (Sockets= of the service, Accept=no), where it is 3.",
    )


def serve(shared: Services, endpoint: Endpoint) -> int:
    """Serve until a signal; the exit code of the process.

    :raises CommandError: ``SOCKET_INVALID``.
    """
    release, chosen = shared.release, shared.settings
    log.info(
        "service_starting",
        release=release.label,
        version=release.version,
        pid=os.getpid(),
        colour=chosen.colour,
    )
    sockets = [inherited(endpoint.fd)] if endpoint.fd is not None else None
    drain = chosen.drain_seconds
    if drain is None:
        drain = 0.0 if sockets else DEFAULT_DRAIN_SECONDS
    config = uvicorn.Config(
        app.create(shared),
        host=endpoint.host,
        port=endpoint.port,
        uds=str(endpoint.uds) if endpoint.uds else None,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        reset_contextvars=True,
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=chosen.stop_timeout,
    )
    server = Server(config, shared, Notifier(), drain)
    # For the moments in which uvicorn's own handlers are not in place: before, so that no signal is missed,
    # and after it has stopped, when it raises the signal again; the process then ends by itself, with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run(sockets)
    if sockets is None and endpoint.uds is not None:
        endpoint.uds.unlink(missing_ok=True)
    log.info("service_stopped", uptimeSec=shared.uptime_seconds)
    return 0 if server.started else 2
