# SPDX-License-Identifier: GPL-3.0-or-later
"""A server between the store's client and Azurite that does what networks and busy services do."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from server import Azurite

Fault = Literal["", "busy", "reset", "mute", "cut", "corrupt", "lie"]
"""
busy: answer 503 and pass nothing on. reset: break the connection before passing anything on. mute: pass it
on and break the connection instead of answering. cut: answer with half of the body. corrupt: change a byte of
the body on its way to the server. lie: answer with another digest than the server's.
"""


@dataclass
class Seen:
    """A request that came by; the names of its headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    bytes: int


@dataclass
class Middle:
    """What the server does, and what it saw.

    :ivar fault: asked for each request, with its number from 0 among those it applies to.
    """

    port: int = 0
    fault: Callable[[Seen], Fault] = lambda _seen: ""
    seen: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def endpoint(self, azurite: Azurite) -> str:
        return f"http://127.0.0.1:{self.port}/{azurite.account}"

    def count(self, word: str) -> int:
        """How many requests had this in their method and path."""
        return sum(word in f"{seen.method} {seen.path}" for seen in self.seen)


def first(times: int, word: str, fault: Fault) -> Callable[[Seen], Fault]:
    """The fault for the first so many requests that have ``word`` in their method and path."""
    left = iter(range(times))

    def decide(seen: Seen) -> Fault:
        return fault if word in f"{seen.method} {seen.path}" and next(left, None) is not None else ""

    return decide


class _Server(ThreadingHTTPServer):
    def __init__(self, azurite: Azurite, middle: Middle) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.azurite = azurite
        self.middle = middle


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, headers, len(body))
        with self.server.middle.lock:
            self.server.middle.seen.append(seen)
            fault = self.server.middle.fault(seen)
        if fault == "reset":
            return self.vanish()
        if fault == "busy":
            return self.answer(503, [("x-ms-error-code", "ServerBusy")], b"")
        if fault == "corrupt":
            body = bytes([body[0] ^ 1]) + body[1:]
        answer = self.passed_on(body)
        if fault == "mute":
            return self.vanish()
        if fault == "lie":
            answer[1].append(("Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA=="))
        return self.answer(*answer, cut=fault == "cut")

    do_GET = do_PUT = do_HEAD = do_DELETE = handle_one  # noqa: N815 - http.server's names

    def passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        azurite = self.server.azurite
        context = ssl.create_default_context(cafile=str(azurite.ca_file))
        connection = http.client.HTTPSConnection("127.0.0.1", azurite.port, context=context)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            hop = {"transfer-encoding", "connection", "keep-alive"}
            if self.command != "HEAD":
                hop.add("content-length")
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in hop]
            return answer.status, headers, content

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.vanish()

    def vanish(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def between(azurite: Azurite) -> Iterator[Middle]:
    """Run the server on the loopback, over plain http."""
    middle = Middle()
    with _Server(azurite, middle) as server:
        middle.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield middle
        finally:
            server.shutdown()
            thread.join()
