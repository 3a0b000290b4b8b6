# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to Azure Blob Storage: signed, tried again, their answers checked.

The REST interface is spoken directly, over httpx, because Debian has Microsoft's library only inside the
package of everything that Azure offers (docs/stores-azure.md has the figures).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

from .. import _deps, clock
from ..errors import OpsError
from . import azure_auth
from .throttle import Throttle

if TYPE_CHECKING:
    import httpx

VERSION = "2021-12-02"
CONNECT_SECONDS = 5
READ_SECONDS = 60
ATTEMPTS = 4
# What has been under way for an hour is not given up for a store that stumbles for half a minute.
PATIENT_ATTEMPTS = 8
DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 20.0
CONNECTIONS = 8
PUT_BLOCK_LIST = "Put Block List"
_HEADERS = {"x-ms-version": VERSION, "Accept-Encoding": "identity"}
_AGAIN = {408, 429, 500, 502, 503, 504}
_DAMAGED = {"Md5Mismatch", "Crc64Mismatch"}

Body: TypeAlias = "bytes | bytearray"


class AzureError(Exception):
    """An answer that is a refusal.

    :ivar operation: the name of the request in Microsoft's documentation.
    :ivar date: the server's clock; None when it did not say.
    :ivar repeated: whether an attempt before this one ended in a way that leaves open what it did.
    """

    def __init__(self, operation: str, status: int, code: str, message: str, date: datetime | None) -> None:
        super().__init__(f"{operation}: {status} {code}")
        self.operation = operation
        self.status = status
        self.code = code
        self.message = message
        self.date = date
        self.repeated = False


class GivenUpError(Exception):
    """What was being sent is not wanted any more."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that is none: headers by their names in lower case, and the body."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Client:
    """Requests to one container; may be used by several threads at once.

    :param endpoint: ``https://account.blob.core.windows.net`` or ``http://127.0.0.1:10000/account``.
    :param throttle: how fast bodies are sent.
    :raises OpsError: ``CONFIG_INVALID``: the endpoint or the authority's file is not one.
    """

    def __init__(
        self,
        endpoint: str,
        container: str,
        credentials: azure_auth.Credentials,
        ca_file: Path | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self.library: Any = _deps.load("httpx")
        self.credentials = credentials
        self._base = f"{_checked(endpoint)}/{quote(container)}"
        self._throttle = throttle or Throttle(0)
        account = credentials.account or azure_auth.account_of(endpoint)
        self._client: httpx.Client = self.library.Client(
            transport=_Signing(self.library, account, credentials, _context(ca_file)),
            timeout=self.library.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            trust_env=False,
        )

    def request(
        self,
        operation: str,
        method: str,
        name: str = "",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        attempts: int = ATTEMPTS,
        given_up: Callable[[], bool] = lambda: False,
    ) -> Answer:
        """Send a request, again when the server stumbles, and read the answer whole.

        :param name: of the blob; empty: the container.
        :param given_up: True ends it with what is at hand: nobody waits for the answer any more.
        :raises AzureError: the server refuses.
        :raises httpx.HTTPError: it does not answer.
        """
        url = self._url(name) + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        given = {**_HEADERS, **(headers or {})}
        if method == "PUT":
            given["Content-Length"] = str(len(body))
        if body:
            given["Content-MD5"] = md5(body)

        def made() -> httpx.Request:
            content = self._pieces(body, given_up) if body else None
            return self._client.build_request(method, url, headers=given, content=content)

        with contextlib.closing(self._sent(operation, made, attempts, given_up)) as response:
            content = response.read()
        return Answer(status=response.status_code, headers=response.headers, content=content)

    @contextlib.contextmanager
    def opened(
        self, operation: str, name: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """The answer to a GET, with its body still to be read; errors as those of :meth:`request`."""
        request = self._client.build_request("GET", self._url(name), headers={**_HEADERS, **(headers or {})})
        with contextlib.closing(self._sent(operation, lambda: request)) as response:
            yield response

    def _url(self, name: str) -> str:
        return f"{self._base}/{quote(name)}" if name else self._base

    def _sent(
        self,
        operation: str,
        made: Callable[[], httpx.Request],
        attempts: int = ATTEMPTS,
        given_up: Callable[[], bool] = lambda: False,
    ) -> httpx.Response:
        for attempt in range(1, attempts + 1):
            try:
                request = made()
                response = self._client.send(request, stream=True)
                if response.status_code < 300:
                    return response
                error = _refusal(operation, response)
            except self.library.TransportError as broken:
                if attempt == attempts or given_up() or is_untrusted(broken):
                    raise
            else:
                if attempt == attempts or given_up() or not _is_passing(error):
                    error.repeated = attempt > 1
                    raise error
            time.sleep(delay(attempt, random.uniform(0.5, 1)))  # noqa: S311 - chance, and no secret
        raise AssertionError("the last attempt returns or raises")

    def _pieces(self, body: Body, given_up: Callable[[], bool]) -> Iterator[bytes]:
        view = memoryview(body)
        for start in range(0, len(view), self._throttle.chunk_bytes):
            if given_up():
                raise GivenUpError
            piece = bytes(view[start : start + self._throttle.chunk_bytes])
            self._throttle.wait(len(piece))
            yield piece


class _Signing:
    """A transport that authorizes what passes through it.

    The token is put into the address here and not before, because httpx logs the addresses it is given.
    """

    def __init__(
        self, library: Any, account: str, credentials: azure_auth.Credentials, context: ssl.SSLContext
    ) -> None:
        self._library = library
        self._account = account
        self._credentials = credentials
        limits = library.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        self._transport = library.HTTPTransport(verify=context, limits=limits)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Called by the client, once for each attempt."""
        headers = dict(request.headers) | {"x-ms-date": format_datetime(clock.now(), usegmt=True)}
        target, added = azure_auth.signed(
            self._credentials, self._account, request.method, request.url.raw_path.decode("ascii"), headers
        )
        response: httpx.Response = self._transport.handle_request(
            self._library.Request(
                request.method,
                request.url.copy_with(raw_path=target.encode("ascii")),
                headers=headers | added,
                stream=request.stream,
                extensions=request.extensions,
            )
        )
        return response

    def __enter__(self) -> _Signing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


def delay(attempt: int, chance: float) -> float:
    """The seconds to wait after a failed attempt (from 1): doubling, at most :data:`LONGEST_DELAY_SECONDS`."""
    return chance * min(LONGEST_DELAY_SECONDS, DELAY_SECONDS * float(2**attempt))


def md5(data: Body) -> str:
    """The digest of a body as the header ``Content-MD5`` has it."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def http_date(moment: datetime) -> str:
    """A moment as HTTP writes it, to the second."""
    return format_datetime(moment.astimezone(UTC).replace(microsecond=0), usegmt=True)


def is_untrusted(error: BaseException | None) -> bool:
    """Whether an error of httpx comes from a certificate that is not trusted."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_damaged(error: AzureError) -> bool:
    """Whether the server received other bytes than were sent; Azurite has no code of its own for that."""
    return error.code in _DAMAGED or (error.status == 400 and "contentMD5" in error.message)


def _is_passing(error: AzureError) -> bool:
    """Whether another attempt may succeed."""
    return error.status in _AGAIN or is_damaged(error)


def _refusal(operation: str, response: httpx.Response) -> AzureError:
    with contextlib.closing(response):
        text = response.read().decode("utf-8", "replace")
    code = response.headers.get("x-ms-error-code") or _element(text, "Code") or str(response.status_code)
    # Below the first line stand numbers of the request; in other elements, what was signed.
    message = _element(text, "Message").partition("\n")[0]
    try:
        date = parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        date = None
    return AzureError(operation, response.status_code, code, message, date)


def _element(text: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)", text)
    return found[1].strip() if found else ""


def _checked(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise OpsError(
            "CONFIG_INVALID",
            "The endpoint of a store of type azure is not the address of a storage account.",
            "Write it as https://account.blob.core.windows.net; a token belongs into credentials_file.",
        )
    return endpoint.rstrip("/")


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except OSError as error:
        raise OpsError(
            "CONFIG_INVALID",
            f"{ca_file} does not give the authority of the store's certificate: {error.strerror or error}.",
            "Name a PEM file with ca_file in the store's section.",
        ) from error
