# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to a database that may be gone or, worse, may hang: bounded waits, and failures counted by code.

A driver that is cancelled in the middle of a statement asks the server to cancel it and waits for its
answer. A server that hangs gives none. So nothing here cancels a statement: when the time is over the
socket is shut down under the driver, which then ends by itself and at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow

from . import metrics

_PROBE_SECONDS = 0.5
_DEFAULT_DIRECTORY = "/var/run/postgresql"


class Connection(psycopg.AsyncConnection[DictRow]):
    """A connection whose failure to come about is counted.

    ``hung`` is true once the server's answer was waited for in vain.
    """

    hung = False

    @property
    def loss(self) -> str:
        """The code under which the loss of this connection is counted."""
        return metrics.REACHED_TIMED_OUT if self.hung else metrics.CLOSED_BY_SERVER

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """Connect as psycopg does, and count what fails."""
        try:
            return await super().connect(conninfo, **options)
        except psycopg.errors.ConnectionTimeout:
            await count_timeout(conninfo, _PROBE_SECONDS)
            raise
        except (psycopg.OperationalError, OSError) as error:
            metrics.CONNECTION_ERRORS.labels(code(str(error))).inc()
            raise


class Patience:
    """A bound on what is awaited on a connection inside the block: then the connection is cut.

    Whoever waits gets psycopg's error of a lost connection; :attr:`Connection.hung` tells it from other losses.
    """

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._exhaust)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _exhaust(self) -> None:
        self._connection.hung = True
        cut(self._connection)


def cut(connection: Connection) -> None:
    """Shut the socket down under the driver; whoever waits on the connection finds it lost."""
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as channel:
            channel.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        return  # it is closed already


def code(message: str) -> str:
    """The code of a connection that failed with this message of libpq, and not by time.

    libpq gives no SQLSTATE for a connection that did not come about; the severity stands in the text.
    """
    return metrics.REFUSED if "FATAL" in message else metrics.CANNOT_REACH


async def count_timeout(conninfo: str, seconds: float) -> None:
    """Count a connection that timed out: ``P1002`` when the host takes connections, else ``P1001``."""
    reached = await takes_connections(conninfo, seconds)
    metrics.CONNECTION_ERRORS.labels(metrics.REACHED_TIMED_OUT if reached else metrics.CANNOT_REACH).inc()


async def takes_connections(conninfo: str, seconds: float) -> bool:
    """Whether something accepts connections where the first server of the URL should be."""
    try:
        async with asyncio.timeout(seconds):
            _, writer = await _open(conninfo)
    except (TimeoutError, OSError):
        return False
    writer.close()
    return True


async def _open(conninfo: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    options = conninfo_to_dict(conninfo)
    hosts = options.get("hostaddr") or options.get("host") or os.environ.get("PGHOST") or _DEFAULT_DIRECTORY
    host = str(hosts).split(",", 1)[0]
    port = str(options.get("port") or os.environ.get("PGPORT") or 5432).split(",", 1)[0]
    if host.startswith("/"):
        return await asyncio.open_unix_connection(str(Path(host) / f".s.PGSQL.{port}"))
    return await asyncio.open_connection(host, int(port))
