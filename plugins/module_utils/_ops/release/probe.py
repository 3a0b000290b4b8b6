# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a colour over its own socket whether it is ready, and which release answers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .. import _deps
from ..config import Release as Settings

if TYPE_CHECKING:
    import httpx

BASE_URL = "http://colour"
TIMEOUT_SECONDS = 2.0
# What may stand behind a version in an answer and still belong to it would make it another version.
_VERSION_CHARACTER = re.compile(r"[A-Za-z0-9._-]")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a colour answered; ``status`` None: nothing, for the reason ``problem``."""

    status: int | None
    release: str
    problem: str

    @property
    def ready(self) -> bool:
        """Whether it said that it is ready, without a word about which release that is."""
        return self.status == 200


class Prober:
    """Asks sockets, each time over a connection of its own: a kept one would hold up a stopping service."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: dict[Path, httpx.Client] = {}

    def ask(self, socket: Path) -> Answer:
        """One question; never raises for what the service does."""
        httpx = _deps.load("httpx")
        try:
            reply = self._client(socket).get(self._settings.health_path)
        except (httpx.HTTPError, OSError) as error:
            return Answer(status=None, release="", problem=f"{type(error).__name__}: {error}".rstrip(": "))
        told = _told(reply.text, self._settings.health_release_key)
        return Answer(status=reply.status_code, release=told, problem="")

    def problem(self, socket: Path, version: str) -> str:
        """Why a colour is not ready with that version; empty when it is."""
        return problem_of(self.ask(socket), version, self._settings)

    def _client(self, socket: Path) -> httpx.Client:
        if socket not in self._clients:
            httpx = _deps.load("httpx")
            self._clients[socket] = httpx.Client(
                base_url=BASE_URL,
                transport=httpx.HTTPTransport(
                    uds=str(socket), limits=httpx.Limits(max_keepalive_connections=0)
                ),
                timeout=TIMEOUT_SECONDS,
                trust_env=False,
            )
        return self._clients[socket]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            client.close()


def problem_of(answer: Answer, version: str, settings: Settings) -> str:
    """Why an answer is not that of a ready colour with that version; empty when it is."""
    if answer.status is None:
        return f"GET {settings.health_path} was not answered ({answer.problem})"
    if not answer.ready:
        return f"GET {settings.health_path} was answered with {answer.status}"
    if settings.health_release_key and not tells(answer.release, version):
        told = answer.release or "no release"
        return f"GET {settings.health_path} names {told} instead of {version}"
    return ""


def tells(told: str, version: str) -> bool:
    """Whether what a service says of itself is that version, with or without a build behind it.

    ``1.2.0+ab12`` is 1.2.0; ``1.2.01`` and ``1.2.0-rc1`` are not.
    """
    return told.startswith(version) and not _VERSION_CHARACTER.match(told[len(version) :])


def _told(text: str, key: str) -> str:
    try:
        body: Any = json.loads(text)
    except ValueError:
        return ""
    value = body.get(key) if isinstance(body, dict) and key else None
    return value if isinstance(value, str) else ""
