# SPDX-License-Identifier: GPL-3.0-or-later
"""Request ids and W3C trace context: what is accepted from a client, decided on bytes."""

from __future__ import annotations

import re
import secrets

from . import identifiers

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16

# What PostgreSQL keeps of application_name (NAMEDATALEN - 1).
APPLICATION_NAME_BYTES = 63


def make() -> str:
    """A new request id: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def accept(raw: bytes | None) -> tuple[str, int | None]:
    """The request id to use, and the length of a rejected one (None when nothing was rejected)."""
    if raw is None:
        return make(), None
    if _REQUEST_ID.fullmatch(raw) and not _is_secret(raw):
        return raw.decode("ascii"), None
    return make(), len(raw)


def _is_secret(raw: bytes) -> bool:
    """Whether the id is a token, or a number of a person or a card: it would stand in every line."""
    if raw.startswith(b"eyJ"):
        return True
    return raw.translate(None, b"._-").isdigit() and identifiers.is_personal(raw.decode("ascii"))


def trace_id(traceparent: bytes | None) -> str | None:
    """The trace id of a ``traceparent`` header that is valid per W3C Trace Context, else None.

    Version ``ff`` is invalid; version ``00`` has exactly four fields, later ones may have more.
    """
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if match is None:
        return None
    version, trace, span, _flags, more = match.groups()
    if version == b"ff" or trace == _NO_TRACE or span == _NO_SPAN or (version == b"00" and more is not None):
        return None
    return trace.decode("ascii")


def application_name(request_id: str) -> str:
    """The request id as it stands in ``application_name`` and so in the database's log."""
    return request_id[:APPLICATION_NAME_BYTES]
