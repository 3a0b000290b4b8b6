# SPDX-License-Identifier: GPL-3.0-or-later
"""Receivers of what is told: an HTTPS server and a mail relay, both real, on loopback."""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.server
import ipaddress
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class Identity:
    """A certificate for 127.0.0.1 that is its own authority."""

    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_identity(directory: Path) -> Identity:
    """A new key and certificate in ``directory``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS))]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    made = Identity(directory / "receiver.crt", directory / "receiver.key")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made


@dataclass
class Request:
    """What arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class WebReceiver:
    """Keeps requests; answers with the statuses given, the last one for good. ``headers`` go with each answer."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    statuses: list[int] = field(default_factory=lambda: [200])
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://{ADDRESS}:{self.port}"


@contextlib.contextmanager
def web(identity: Identity) -> Iterator[WebReceiver]:
    """An HTTPS server while the block runs."""
    receiver = WebReceiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            receiver.requests.append(Request(self.path, dict(self.headers), body))
            status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that does not trust the certificate hangs up."""

    server = Server((ADDRESS, 0), Handler)
    server.socket = identity.server_context().wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    with _serving(server):
        yield receiver


@dataclass
class Mail:
    """What a relay took."""

    sender: str
    recipients: list[str]
    data: bytes
    encrypted: bool
    user: str


@dataclass
class MailReceiver:
    """A relay.

    :ivar refuse: recipients that it does not take.
    :ivar password: of ``relay-user``; None: it asks for none.
    """

    identity: Identity
    implicit: bool = False
    starttls: bool = True
    password: str | None = None
    refuse: frozenset[str] = frozenset()
    port: int = 0
    mails: list[Mail] = field(default_factory=list)


@contextlib.contextmanager
def relay(identity: Identity, **settings: Any) -> Iterator[MailReceiver]:
    """A mail relay while the block runs (RFC 5321, STARTTLS, AUTH PLAIN)."""
    receiver = MailReceiver(identity, **settings)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                _Conversation(receiver, self.request).run()

    server = socketserver.ThreadingTCPServer((ADDRESS, 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    with _serving(server):
        yield receiver


class _Conversation:
    def __init__(self, receiver: MailReceiver, connection: Any) -> None:
        self.receiver = receiver
        self.connection = connection
        self.encrypted = False
        self.user = ""
        self.sender = ""
        self.recipients: list[str] = []

    def run(self) -> None:
        if self.receiver.implicit:
            self._encrypt()
        self._open()
        self._say("220 relay")
        while line := self.stream.readline().decode().rstrip("\r\n"):
            word = line.split()[0].upper()
            if word == "QUIT":
                self._say("221 bye")
                return
            getattr(self, f"_on_{word.lower()}", self._unknown)(line)

    def _open(self) -> None:
        self.stream = self.connection.makefile("rb")

    def _encrypt(self) -> None:
        self.connection = self.receiver.identity.server_context().wrap_socket(
            self.connection, server_side=True
        )
        self.encrypted = True

    def _say(self, *lines: str) -> None:
        self.connection.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def _unknown(self, _line: str) -> None:
        self._say("502 not here")

    def _on_ehlo(self, _line: str) -> None:
        offers = ["250-relay"]
        if self.receiver.starttls and not self.encrypted:
            offers.append("250-STARTTLS")
        if self.receiver.password is not None:
            offers.append("250-AUTH PLAIN")
        self._say(*offers, "250 8BITMIME")

    def _on_starttls(self, _line: str) -> None:
        self._say("220 go")
        self._encrypt()
        self._open()

    def _on_auth(self, line: str) -> None:
        _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
        if (user, password) == ("relay-user", self.receiver.password):
            self.user = user
            self._say("235 welcome")
        else:
            self._say("535 no")

    def _on_mail(self, line: str) -> None:
        if self.receiver.password is not None and not self.user:
            self._say("530 who are you")
            return
        self.sender = line.partition("<")[2].partition(">")[0]
        self.recipients = []
        self._say("250 ok")

    def _on_rcpt(self, line: str) -> None:
        recipient = line.partition("<")[2].partition(">")[0]
        if recipient in self.receiver.refuse:
            self._say("550 no such user")
        else:
            self.recipients.append(recipient)
            self._say("250 ok")

    def _on_rset(self, _line: str) -> None:
        self._say("250 ok")

    def _on_data(self, _line: str) -> None:
        self._say("354 go on")
        data = b""
        while (line := self.stream.readline()) not in (b".\r\n", b""):
            data += line.removeprefix(b".") if line.startswith(b"..") else line
        self.receiver.mails.append(Mail(self.sender, list(self.recipients), data, self.encrypted, self.user))
        self._say("250 taken")


@contextlib.contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
