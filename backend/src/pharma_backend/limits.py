# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of a request: the size of its body, the time to send it, the time to answer. Plain ASGI.

A body is read whole before anything is done with it: the largest one is small, and so a slow or endless
one holds neither a handler nor a connection to the database.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import problems
from .errors import Problem

# The rest of the body is still on its way; it is not waited for.
_CLOSE = {"Connection": "close"}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of a body, seconds to receive it, seconds to receive it and answer."""

    body_bytes: int
    body_seconds: float
    request_seconds: float


class LimitsMiddleware:
    """Refuses what exceeds the limits with a problem."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = False

        async def watch(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        deadline = asyncio.timeout(self._limits.request_seconds)
        try:
            async with deadline:
                try:
                    read = await self._whole(scope, receive)
                except Problem as problem:
                    await problems.refuse(problem)(scope, receive, send)
                else:
                    await self._app(scope, read, watch)
        except TimeoutError as error:
            if not deadline.expired() or began:
                raise
            late = _too_late()
            # Its stack is the place where the request was waiting.
            late.__cause__ = error.__cause__
            await problems.refuse(late)(scope, receive, send)

    async def _whole(self, scope: Scope, receive: Receive) -> Receive:
        """A ``receive`` that gives the whole body at once.

        :raises Problem: ``PAYLOAD_TOO_LARGE``, ``BODY_TOO_SLOW`` or ``CLIENT_GONE``.
        """
        length = _announced(scope)
        if length == 0:
            return receive
        if length is not None and length > self._limits.body_bytes:
            raise _too_large()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                body = await self._collect(receive)
        except TimeoutError as error:
            raise Problem(
                "BODY_TOO_SLOW", 408, "The body did not arrive in time", "Send it again.", headers=_CLOSE
            ) from error
        whole: Message | None = {"type": "http.request", "body": body, "more_body": False}

        async def replay() -> Message:
            nonlocal whole
            message, whole = whole, None
            return message or await receive()

        return replay

    async def _collect(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Problem("CLIENT_GONE", 499, "The client went away", headers=_CLOSE)
            body += message.get("body", b"")
            if len(body) > self._limits.body_bytes:
                raise _too_large()
            if not message.get("more_body", False):
                return bytes(body)


def _announced(scope: Scope) -> int | None:
    """The length that the headers announce: 0 for no body, None for one of unknown length."""
    length: int | None = 0
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            # The server has refused what is no number.
            length = int(value)
    return length


def _too_large() -> Problem:
    return Problem("PAYLOAD_TOO_LARGE", 413, "The body is too large", headers=_CLOSE)


def _too_late() -> Problem:
    return Problem(
        "REQUEST_TIMED_OUT",
        503,
        "The request took too long",
        "It is not known whether a change was kept: look, or send it again with the same Idempotency-Key.",
        headers={"Retry-After": "5"},
    )
