# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a download asks of Azure Blob Storage."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

from ..files import CHUNK_BYTES
from .azure_client import Client
from .download import ATTEMPTS

GET_BLOB = "Get Blob"


@dataclass(frozen=True)
class Blob:
    """A blob as a :class:`.download.Source`."""

    client: Client
    name: str
    etag: str
    total: int

    def chunks(self, start: int, end: int) -> Generator[bytes, None, None]:
        """See :meth:`.download.Source.chunks`."""
        # If-Match: all ranges come from one and the same version of the blob.
        headers = {"Range": f"bytes={start}-{end - 1}", "If-Match": self.etag}
        with self.client.opened(GET_BLOB, self.name, headers) as response:
            yield from response.iter_raw(CHUNK_BYTES)

    def passing(self, error: Exception) -> bool:
        """See :meth:`.download.Source.passing`."""
        return isinstance(error, self.client.library.TransportError)

    def pauses(self) -> Iterable[float]:
        """See :meth:`.download.Source.pauses`: none, because the client waits by itself."""
        return (0.0,) * (ATTEMPTS - 1)


def blob(client: Client, name: str) -> Blob:
    """The blob that stands under a name now."""
    head = client.request("Get Blob Properties", "HEAD", name).headers
    return Blob(client, name, head["etag"], int(head["content-length"]))


def read(client: Client, name: str, limit: int) -> bytes | None:
    """The content of a small blob, None when it has more than ``limit`` bytes."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with client.opened(GET_BLOB, name) as response:
                return response.read() if int(response.headers["content-length"]) <= limit else None
        except client.library.TransportError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")
