# SPDX-License-Identifier: GPL-3.0-or-later
"""Security headers on every answer, errors included. Plain ASGI. HSTS is the proxy's, which has TLS."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
# A page of the documentation, which there is outside of production, loads its scripts.
_PAGES = frozenset({"/docs"})


class HeadersMiddleware:
    """Adds those of :data:`SECURITY` that the answer does not have."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or scope["path"] in _PAGES:
            await self._app(scope, receive, send)
            return

        async def reply(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                headers += [header for header in SECURITY if header[0] not in present]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, reply)
