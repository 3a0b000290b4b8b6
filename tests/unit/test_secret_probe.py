# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe sees each way in which a rotation of a signing secret can be wrong; a small service plays them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from pharma_ops.custody import probe, ring
from pharma_ops.custody.fingerprint import kid
from pharma_ops.custody.probe import Probe
from pharma_ops.errors import OpsError


def b64(data: bytes) -> str:
    """Base64 as tokens have it."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@dataclass
class Service:
    """What a service with key rings does, and what it does wrong.

    :param jwt: ring of the access tokens; ``refresh``: of the refresh tokens.
    :param checks_signatures: False lets any token in.
    """

    jwt: list[str]
    refresh: list[str]
    password: str = "right"
    life: int = 60
    checks_signatures: bool = True
    used: set[str] = field(default_factory=set)

    def access(self) -> str:
        """A token like a JWT."""
        key = self.jwt[0].encode()
        head = (
            b64(json.dumps({"kid": kid(key)}).encode())
            + "."
            + b64(json.dumps({"exp": time.time() + self.life}).encode())
        )
        return f"{head}.{b64(hmac.new(key, head.encode(), hashlib.sha256).digest())}"

    def accepts(self, token: str) -> bool:
        """Whether one of the ring's secrets signed it."""
        if not self.checks_signatures:
            return True
        head, _dot, signature = token.rpartition(".")
        return any(
            b64(hmac.new(key.encode(), head.encode(), hashlib.sha256).digest()) == signature
            for key in self.jwt
        )

    def pair(self) -> dict[str, str]:
        """Tokens of a login."""
        return {
            "access_token": self.access(),
            "refresh_token": f"{kid(self.refresh[0].encode())}.{secrets.token_hex(8)}",
        }

    def answer(self, path: str, body: dict[str, Any], token: str) -> tuple[int, Any]:
        """Status and body."""
        if path == "/auth/login":
            return (200, self.pair()) if body["password"] == self.password else (401, {})
        if path == "/auth/refresh":
            given = body["refresh_token"]
            known = given.partition(".")[0] in {kid(key.encode()) for key in self.refresh}
            fresh = known and given not in self.used
            self.used.add(given)
            return (200, self.pair()) if fresh else (401, {})
        return (200, {}) if self.accepts(token) else (401, {})


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory whose name is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="probe-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def service(place: Path) -> Iterator[Service]:
    """A service that listens, with the old ring."""
    played = Service(jwt=["old-" * 8], refresh=["old-refresh-" * 4])

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            status, data = played.answer(self.path.partition("?")[0], body, token)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(data).encode())

        do_GET = do_POST = _reply  # noqa: N815 - names that the library calls

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    with socketserver.ThreadingUnixStreamServer(str(place / "s"), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield played
        server.shutdown()


class Case:
    """A probe with its files."""

    def __init__(self, place: Path) -> None:
        self.asking = Probe(socket=place / "s", username="probe", password="right")
        self.store = place / "rotations" / "sample"
        self.ring = place / "RING"

    def sample(self) -> bool:
        """Log in before the switch."""
        return probe.sample(self.asking, self.store)

    def verify(self, kind: probe.Kind, signing: list[str]) -> list[str]:
        """After the switch; the credential file holds ``signing``."""
        ring.write(self.ring, signing)
        return probe.verify(self.asking, kind, self.ring, self.store)

    def refusal(self, kind: probe.Kind, signing: list[str]) -> str:
        """Why it is not as it should be."""
        with pytest.raises(OpsError) as caught:
            self.verify(kind, signing)
        assert caught.value.code == "PROBE_FAILED"
        return caught.value.message


@pytest.fixture
def case(place: Path, service: Service) -> Case:
    """A probe of the service."""
    return Case(place)


def test_a_right_rotation_of_the_access_tokens(case: Case, service: Service) -> None:
    assert case.sample()
    assert not case.sample(), "an interrupted switch keeps its sample"
    assert case.store.stat().st_mode & 0o777 == 0o600
    service.jwt.insert(0, "new-" * 8)
    assert case.verify("jwt", service.jwt)[-1] == "tokens from before the switch still work"
    probe.forget(case.store)
    assert not case.store.exists()


def test_a_right_rotation_of_the_refresh_tokens_also_when_it_is_verified_twice(
    case: Case, service: Service
) -> None:
    case.sample()
    service.refresh.insert(0, "new-refresh-" * 4)
    assert case.verify("refresh", service.refresh)[-1] == "tokens from before the switch still work"
    assert "interrupted" in case.verify("refresh", service.refresh)[-1]


def test_a_service_that_was_not_renewed(case: Case, service: Service) -> None:
    case.sample()
    assert "was made with the key" in case.refusal("jwt", ["new-" * 8, *service.jwt])
    assert "was made with the key" in case.refusal("refresh", ["new-refresh-" * 4, *service.refresh])


def test_a_service_that_forgot_the_old_value(case: Case, service: Service) -> None:
    case.sample()
    service.jwt[:] = ["new-" * 8]
    assert "token from before is refused" in case.refusal("jwt", service.jwt)
    service.refresh[:] = ["new-refresh-" * 4]
    assert "refresh token from before is answered 401" in case.refusal("refresh", service.refresh)


def test_a_service_that_checks_nothing(case: Case, service: Service) -> None:
    case.sample()
    service.checks_signatures = False
    assert "altered signature is answered 200" in case.refusal("jwt", service.jwt)


def test_a_sample_that_has_expired_or_is_gone(case: Case, service: Service) -> None:
    service.life = -1
    case.sample()
    service.life = 60
    service.jwt[:] = ["new-" * 8]
    assert case.verify("jwt", service.jwt)[-1] == "tokens from before the switch have expired by themselves"
    probe.forget(case.store)
    assert "no tokens from before" in case.refusal("jwt", service.jwt)


def test_a_wrong_password_and_a_service_that_is_away(case: Case, service: Service, place: Path) -> None:
    service.password = "other"
    with pytest.raises(OpsError, match="the login of probe is answered 401"):
        case.sample()
    assert not case.store.exists()
    away = Probe(socket=place / "nothing", username="probe", password="right")
    with pytest.raises(OpsError, match="does not answer"):
        probe.sample(away, case.store)
