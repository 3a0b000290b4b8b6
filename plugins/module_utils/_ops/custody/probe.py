# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the service itself whether a rotation of its signing secrets works, as a user who is logged in would.

A sample (the tokens of a login before the switch) is kept in a file of root's until the tokens were used again.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import _deps, files
from ..errors import ExitCode, OpsError
from . import ring
from .fingerprint import kid

if TYPE_CHECKING:
    import httpx

Kind = Literal["jwt", "refresh"]
_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Where the service listens and who asks.

    :param socket: unix socket of the colour in service.
    :param path: a path that any user who is logged in may GET.
    """

    socket: Path
    username: str
    password: str
    path: str = "/products?limit=1"


def sample(probe: Probe, store: Path) -> bool:
    """Log in and keep the tokens; False when a sample is there already (the switch was interrupted).

    :raises OpsError: ``PROBE_FAILED``, ``FILE_NOT_WRITTEN``.
    """
    if store.exists():
        return False
    with _asking(probe) as client:
        pair = _login(client, probe)
    # The first trace of a rotation on a host: nothing has made the directory yet.
    store.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    files.write_atomic(store, json.dumps(pair).encode(), 0o600)
    return True


def verify(probe: Probe, kind: Kind, credential: Path, store: Path) -> list[str]:
    """Prove that new tokens are made with the ring's first secret and work, and that those of the sample still do.

    :return: what was seen, one sentence each.
    :raises OpsError: ``PROBE_FAILED``, ``SECRET_MISSING``.
    """
    signing = ring.read(credential)[0].encode()
    with _asking(probe) as client:
        pair = _login(client, probe)
        seen = _new(client, probe, kind, pair, kid(signing))
        seen.append(_old(client, probe, kind, store))
    return seen


def forget(store: Path) -> None:
    """Remove the sample."""
    store.unlink(missing_ok=True)


def _new(client: httpx.Client, probe: Probe, kind: Kind, pair: dict[str, str], wanted: str) -> list[str]:
    made_with = token_kid(kind, pair)
    _require(made_with == wanted, f"a new {kind} token was made with the key {made_with}, not with {wanted}")
    access = pair["access_token"]
    _require(_get(client, probe, access) == 200, "a new access token is refused")
    # A service that lets anything in would pass every other question.
    status = _get(client, probe, altered(access))
    _require(status == 401, f"an access token with an altered signature is answered {status}, not 401")
    return [f"new tokens are made with the key {wanted} and work", "an altered token is refused"]


def _old(client: httpx.Client, probe: Probe, kind: Kind, store: Path) -> str:
    try:
        pair = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _failed(f"there are no tokens from before the switch to try ({store})") from error
    if pair.get("used"):
        return "tokens from before the switch work (seen by the run that was interrupted)"
    if kind == "jwt":
        if claims(pair["access_token"]).get("exp", 0) <= time.time():
            return "tokens from before the switch have expired by themselves"
        _require(_get(client, probe, pair["access_token"]) == 200, "an access token from before is refused")
    else:
        reply = client.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]})
        _require(
            reply.status_code == 200, f"a refresh token from before is answered {reply.status_code}, not 200"
        )
        # It is good once: a second try would look like theft.
        files.write_atomic(store, b'{"used": true}', 0o600)
    return "tokens from before the switch still work"


def token_kid(kind: Kind, pair: dict[str, str]) -> str:
    """The id of the key that a token was made with; empty when it names none."""
    if kind == "refresh":
        head, dot, _rest = pair["refresh_token"].partition(".")
        return head if dot else ""
    return str(_part(pair["access_token"], 0).get("kid", ""))


def claims(token: str) -> dict[str, Any]:
    """What a token says, unverified."""
    return _part(token, 1)


def altered(token: str) -> str:
    """The token with another signature of the same length."""
    head, _dot, signature = token.rpartition(".")
    # The first character carries six whole bits, the last one may carry none.
    return f"{head}.{'B' if signature[:1] == 'A' else 'A'}{signature[1:]}"


def _part(token: str, number: int) -> dict[str, Any]:
    try:
        text = token.split(".")[number]
        part = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (IndexError, ValueError):
        return {}
    return part if isinstance(part, dict) else {}


@contextmanager
def _asking(probe: Probe) -> Iterator[httpx.Client]:
    """A client whose failures say who did not answer; each request has a connection of its own."""
    library = _deps.load("httpx")
    try:
        with library.Client(
            base_url="http://service",
            transport=library.HTTPTransport(uds=str(probe.socket)),
            headers={"Connection": "close"},
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
        ) as client:
            yield client
    except library.HTTPError as error:
        raise _failed(f"{probe.socket} does not answer ({type(error).__name__})") from error


def _login(client: httpx.Client, probe: Probe) -> dict[str, str]:
    reply = client.post("/auth/login", json={"username": probe.username, "password": probe.password})
    _require(reply.status_code == 200, f"the login of {probe.username} is answered {reply.status_code}")
    pair = reply.json()
    return {name: str(pair[name]) for name in ("access_token", "refresh_token")}


def _get(client: httpx.Client, probe: Probe, token: str) -> int:
    return client.get(probe.path, headers={"Authorization": f"Bearer {token}"}).status_code


def _require(met: bool, otherwise: str) -> None:
    if not met:
        raise _failed(otherwise)


def _failed(what: str) -> OpsError:
    return OpsError(
        "PROBE_FAILED",
        f"The service was asked whether the rotation works: {what}.",
        "Check rotate_probe_username and rotate_probe_password; if they are right, take the rotation back"
        " (rotate_back=true).",
        ExitCode.FAILED,
    )
