# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP/1.1 connection that stays open between requests, and that notices when the server does not keep it so."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MAX_HEAD_BYTES = 64 * 1024


class BrokenExchangeError(Exception):
    """A request got no whole answer; the text says what was seen of it."""


@dataclass(frozen=True)
class Endpoint:
    """Where the service is: TLS at ``host``:``port``, verified for ``name`` by ``ca``; or a unix ``socket``."""

    host: str = ""
    port: int = 443
    name: str = ""
    ca: Path | None = None
    socket: Path | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect."""
        if self.socket is not None:
            return await asyncio.open_unix_connection(str(self.socket), limit=MAX_HEAD_BYTES)
        if self.ca is None:
            return await asyncio.open_connection(self.host, self.port, limit=MAX_HEAD_BYTES)
        return await asyncio.open_connection(
            self.host,
            self.port,
            limit=MAX_HEAD_BYTES,
            ssl=ssl.create_default_context(cafile=str(self.ca)),
            server_hostname=self.name,
        )


@dataclass(frozen=True)
class Answer:
    """An answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """Sends one request after the other over one connection, opened at the first and again when it broke.

    ``announced`` counts the closes that the server announced (``Connection: close``), which are its right.
    A close that was not announced is a :class:`BrokenExchangeError`, also when it came between two requests.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.announced = 0
        self.opened = 0

    async def exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", timeout: float = 60
    ) -> Answer:
        """Send a request and read its answer.

        :param timeout: seconds for both.
        :raises BrokenExchangeError: no connection, a connection that ended, or no whole answer in time.
        """
        stage = "connecting"
        try:
            async with asyncio.timeout(timeout):
                used = self._streams is not None
                if self._streams is None:
                    self._streams = await self._endpoint.open()
                    self.opened += 1
                reader, writer = self._streams
                if reader.at_eof():
                    raise BrokenExchangeError("the connection was closed between two requests")
                stage = "sending"
                writer.write(render(method, path, self._endpoint.name or "localhost", headers, body))
                await writer.drain()
                stage = "waiting for the answer" + (" on a kept-alive connection" if used else "")
                status, received = parse(await reader.readuntil(b"\r\n\r\n"))
                stage = "reading the body"
                answer = Answer(status, received, await _body(reader, received))
        except BrokenExchangeError:
            self.close()
            raise
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
            self.close()
            raise BrokenExchangeError(f"{type(error).__name__} while {stage}: {error}") from error
        if "close" in answer.headers.get("connection", "").lower():
            self.announced += 1
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            with suppress(RuntimeError, OSError):
                self._streams[1].close()
            self._streams = None


class Pool:
    """Connections that several clients share: each request takes the one that rested longest, whoever used it last.

    :param clients: how many share them; when all of them have closed it, the connections are closed.
    """

    def __init__(self, endpoint: Endpoint, size: int, clients: int) -> None:
        self._clients = clients
        self._all = [Connection(endpoint) for _ in range(size)]
        self._free: asyncio.Queue[Connection] = asyncio.Queue()
        for connection in self._all:
            self._free.put_nowait(connection)

    @property
    def announced(self) -> int:
        """How many closes the server announced, for all who share it: counted once."""
        count = sum(connection.announced for connection in self._all)
        for connection in self._all:
            connection.announced = 0
        return count

    async def exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", timeout: float = 60
    ) -> Answer:
        """As :meth:`Connection.exchange`, once a connection is free."""
        connection = await self._free.get()
        try:
            return await connection.exchange(method, path, headers, body, timeout)
        finally:
            self._free.put_nowait(connection)
            # Whoever waits for it has it before this client asks again.
            await asyncio.sleep(0)

    def close(self) -> None:
        """One of those who share them is done."""
        self._clients -= 1
        if self._clients <= 0:
            for connection in self._all:
                connection.close()


def render(method: str, path: str, host: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A request as it is sent."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method != "GET":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def parse(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer's head.

    :raises ValueError: it is not HTTP/1.1.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"not an answer of HTTP/1: {first[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.lower()] = value.strip()
    return int(rest[:3]), headers


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    if headers.get("transfer-encoding", "").lower() != "chunked":
        raise ValueError("the answer has neither a length nor chunks")
    chunks: list[bytes] = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(chunks)
