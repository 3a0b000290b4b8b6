# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One POST to an address that is a secret: from its file, never into a message, tried again when that may help."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .. import _deps
from ..errors import OpsError
from ..log import scanned

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 10.0
ATTEMPTS = 3
PAUSES_SECONDS = (1.0, 4.0)
LONGEST_PAUSE_SECONDS = 30.0
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


def read_address(path: Path) -> str:
    """The address in a file.

    :raises OpsError: ``SECRET_MISSING``, ``SECRET_INVALID``; name the file, never its content.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise OpsError(
            "SECRET_MISSING",
            f"The address in {path} cannot be read: {reason}.",
            "Deploy it with the role pharma.hardening.ops, or correct url_file in the configuration.",
        ) from None
    if not text.startswith(("https://", "http://")) or len(text.split()) != 1:
        raise OpsError(
            "SECRET_INVALID",
            f"{path} does not hold one address that begins with https:// or http://.",
            "Write the address alone into it, one line.",
        )
    return text


def post(
    what: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes,
    *,
    ca_file: Path | None = None,
    attempts: int = ATTEMPTS,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Send ``content``; an answer of 2xx is success.

    :param what: names the channel in messages: ``the webhook chat``.
    :raises OpsError: ``NOTIFY_FAILED``; ``LIBRARY_MISSING``.
    """
    httpx = _deps.load("httpx")
    try:
        with httpx.Client(verify=_trust(what, ca_file), timeout=TIMEOUT_SECONDS) as client:
            for attempt in range(1, attempts + 1):
                problem, pause = _try(client, url, headers, content)
                if not problem:
                    return
                if pause is None or attempt == attempts:
                    break
                sleep(max(pause, PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS)) - 1]))
    except httpx.InvalidURL:
        problem = "its address is not a URL"
    except UnicodeError:
        problem = "its address has characters that no URL has"
    raise failed(what, problem)


def failed(what: str, problem: str) -> OpsError:
    """A channel that did not take the message."""
    return OpsError(
        "NOTIFY_FAILED",
        f"{what[:1].upper()}{what[1:]} did not take the message: {problem}.",
        "Check its address, network and certificate from this host: pharma-ops notify --test",
    )


def _try(
    client: httpx.Client, url: str, headers: Mapping[str, str], content: bytes
) -> tuple[str, float | None]:
    """Why it failed (empty: it did not), and after how many seconds another try may help (None: never)."""
    httpx = _deps.load("httpx")
    try:
        # The answer's body is not read: nothing that a server says goes into a message.
        with client.stream("POST", url, headers=dict(headers), content=content) as answer:
            status, later = answer.status_code, answer.headers.get("Retry-After", "")
    except httpx.UnsupportedProtocol:
        return "its address is not a URL", None
    except httpx.TransportError as error:
        return f"{type(error).__name__}: {without(scanned(str(error)), url)}".strip(": "), 0.0
    if 200 <= status < 300:
        return "", None
    if status in _AGAIN:
        pause = float(later) if later.isascii() and later.isdigit() else 0.0
        return f"it answered {status}", min(pause, LONGEST_PAUSE_SECONDS)
    return f"it answered {status}", None


def without(text: str, url: str) -> str:
    """The text without the address or its path, should a library have put them there."""
    path = url.partition("://")[2].partition("/")[2]
    for secret in (url, path):
        if len(secret) > 3:
            text = text.replace(secret, "***")
    return text


def _trust(what: str, ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise failed(what, f"the authority {ca_file} cannot be used: {error.strerror or error}") from error
