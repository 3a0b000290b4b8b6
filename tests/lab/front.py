# SPDX-License-Identifier: GPL-3.0-or-later
"""A front before the object store that breaks what it is told to break and passes on everything else.

It ends the client's TLS with a certificate of the lab's authority and speaks TLS to the store, so the client
and the store are the real ones and only the way between them is bad. By its address, not as ``localhost``:
the gateway would take another name than its own for a bucket's.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_QUERIES = (
    ("PUT", "partNumber", "UploadPart"),
    ("POST", "uploads", "CreateMultipartUpload"),
    ("POST", "uploadId", "CompleteMultipartUpload"),
    ("DELETE", "uploadId", "AbortMultipartUpload"),
    ("GET", "list-type", "ListObjectsV2"),
)
_PLAIN = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}


def operation(method: str, target: str) -> str:
    """What a request asks for, in the words of the API."""
    query = parse_qs(urlsplit(target).query, keep_blank_values=True)
    return next(
        (name for verb, key, name in _QUERIES if verb == method and key in query), _PLAIN.get(method, method)
    )


def refusal(status: int, code: str, more: str = "") -> tuple[int, bytes]:
    """An answer as S3 words its errors."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>from the front</Message>{more}</Error>"
    return status, text.encode()


class Front:
    """Faults by operation, each list used up in order; the last one stays when it is ``forever``.

    A fault is ``"reset"`` (the connection is reset in the middle of the request), ``"lose"`` (the request is
    done, its answer lost), ``"corrupt"`` (a byte of the body is changed), ``"cut"`` (the answer breaks off),
    ``"pass"``, or an answer made by :func:`refusal`.
    """

    def __init__(self, port: int) -> None:
        self.endpoint = f"https://127.0.0.1:{port}"
        self._lock = threading.Lock()
        self._faults: dict[str, list[str | tuple[int, bytes]]] = {}
        self._forever: set[str] = set()
        self.seen: list[tuple[str, str]] = []

    def break_(self, what: str, *faults: str | tuple[int, bytes], forever: bool = False) -> None:
        """Break requests of this operation, one after the other."""
        with self._lock:
            self._faults[what] = list(faults)
            if forever:
                self._forever.add(what)

    def next(self, what: str) -> str | tuple[int, bytes]:
        """What is to happen to this request."""
        with self._lock:
            waiting = self._faults.get(what, [])
            last = len(waiting) == 1 and what in self._forever
            fault = "pass" if not waiting else waiting[0] if last else waiting.pop(0)
            self.seen.append((what, fault if isinstance(fault, str) else str(fault[0])))
        return fault

    def count(self, what: str, fault: str) -> int:
        """How often a fault has happened."""
        return self.seen.count((what, fault))


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: Front
    store: tuple[str, int]
    trusted: ssl.SSLContext

    def handle_any(self) -> None:
        what = operation(self.command, self.path)
        fault = self.front.next(what)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length // 2 if fault == "reset" else length)
        if fault == "reset":
            self.reset()
        elif isinstance(fault, tuple):
            self.answer(fault[0], [("Content-Type", "application/xml")], fault[1])
        else:
            if fault == "corrupt":
                body = bytes([body[0] ^ 1]) + body[1:]
            self.pass_on(body, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

    def pass_on(self, body: bytes, fault: str) -> None:
        store = http.client.HTTPSConnection(*self.store, context=self.trusted, timeout=60)
        with contextlib.closing(store):
            store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    store.putheader(name, value)
            store.endheaders(body)
            answer = store.getresponse()
            data = answer.read()
            headers = [pair for pair in answer.getheaders() if pair[0].lower() != "transfer-encoding"]
        if fault == "lose":
            self.reset()
        else:
            self.answer(answer.status, headers, data, cut=fault == "cut")

    def answer(self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "content-length"):
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.wfile.flush()
            self.reset()

    def reset(self) -> None:
        """End the connection with a reset, as a firewall or a dying server does."""
        self.close_connection = True
        raw = self.connection
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            socket.close(raw.detach())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing; ``Front.seen`` holds what happened."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that goes away in the middle: that is what this is about."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def front(store: tuple[str, int], state_dir: Path, root: Path) -> Iterator[Front]:
    """A front before the store at this address, while the block runs."""
    keys = [sys.executable, str(root / "lab" / "keys.py"), "--state-dir", str(state_dir), "front=127.0.0.1"]
    subprocess.run(keys, check=True, capture_output=True)
    pki = state_dir / "pki"
    trusted = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    handler = type("Handler", (_Handler,), {"store": store, "trusted": trusted})
    server = _Server(("127.0.0.1", 0), handler)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(pki / "front.crt", pki / "front.key")
    server.socket = own.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    handler.front = made = Front(server.server_address[1])  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
