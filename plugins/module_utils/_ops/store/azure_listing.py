# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listings of a container: blobs, their versions and locks, uploads that were not committed.

Format: learn.microsoft.com/rest/api/storageservices/list-blobs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from .. import clock
from .azure_client import AzureError, Client
from .base import NO_END

LIST_BLOBS = "List Blobs"


@dataclass(frozen=True, kw_only=True)
class Blob:
    """One entry of a listing.

    :ivar modified: aware, in UTC; None for an upload whose begin the server does not tell.
    :ivar version: id of the version; empty without versioning.
    :ivar current: whether this is what a reader gets; False for earlier versions and snapshots.
    :ivar locked_until: end of its immutability policy, ``NO_END`` for a legal hold.
    """

    name: str
    bytes: int
    modified: datetime | None
    version: str = ""
    snapshot: str = ""
    current: bool = True
    locked_until: datetime | None = None


def blobs(client: Client, prefix: str, include: str = "", limit: int = 0) -> Iterator[Blob]:
    """The entries whose name begins with ``prefix``, in the order of their names.

    :param include: what is listed besides, as the interface names it: ``versions,legalhold``.
    :param limit: entries in a page; 0: as many as the server gives.
    :raises AzureError: the server refuses, or its answer is not a listing.
    """
    query = {"restype": "container", "comp": "list", "prefix": prefix}
    query |= {"include": include} if include else {}
    query |= {"maxresults": str(limit)} if limit else {}
    while True:
        found, marker = parsed(client.request(LIST_BLOBS, "GET", query=query).content)
        yield from found
        if not marker:
            return
        query["marker"] = marker


def versions(client: Client, name: str) -> list[Blob]:
    """Every version and snapshot of exactly this blob, with their locks, the oldest first."""
    found = blobs(client, name, "versions,snapshots,immutabilitypolicy,legalhold")
    same = [blob for blob in found if blob.name == name]
    return sorted(same, key=lambda blob: (blob.current, blob.version))


def end_of_lock(found: list[Blob]) -> datetime | None:
    """The latest end of a lock on one of these blobs, None when there is none in the future."""
    now = clock.now()
    ends = [blob.locked_until for blob in found if blob.locked_until is not None]
    return max((end for end in ends if end > now), default=None)


def uncommitted(client: Client, prefix: str) -> Iterator[Blob]:
    """Names that have blocks but no blob: uploads under way, and what killed ones left.

    A listing does not say which of its entries these are, so the names that it has without them are
    taken away; what is committed in between is not reported.
    """
    begun = list(blobs(client, prefix, "uncommittedblobs"))
    there = {blob.name for blob in blobs(client, prefix)}
    yield from (blob for blob in begun if blob.name not in there)


def parsed(content: bytes) -> tuple[list[Blob], str]:
    """The entries of a page, and where the next one begins (empty: this was the last).

    :raises AzureError: it is not a listing.
    """
    if b"<!DOCTYPE" in content:
        raise _not_a_listing("it has a document type")
    try:
        root = ET.fromstring(content)  # noqa: S314 - without a document type there are no entities to expand
    except ET.ParseError as error:
        raise _not_a_listing(str(error)) from error
    entries = (_blob(item) for item in root.iterfind("Blobs/Blob"))
    return [blob for blob in entries if blob is not None], root.findtext("NextMarker") or ""


def _blob(item: ET.Element) -> Blob | None:
    properties = item.find("Properties")
    name = item.find("Name")
    if properties is None or name is None or properties.findtext("ResourceType") == "directory":
        return None
    text = name.text or ""
    modified = properties.findtext("Last-Modified") or properties.findtext("Creation-Time")
    snapshot = item.findtext("Snapshot") or ""
    version = item.findtext("VersionId") or ""
    return Blob(
        name=unquote(text) if name.get("Encoded") == "true" else text,
        bytes=int(properties.findtext("Content-Length") or 0),
        modified=_moment(modified),
        version=version,
        snapshot=snapshot,
        current=not snapshot and (not version or item.findtext("IsCurrentVersion") == "true"),
        locked_until=NO_END
        if properties.findtext("LegalHold") == "true"
        else _moment(properties.findtext("ImmutabilityPolicyUntilDate")),
    )


def _moment(text: str | None) -> datetime | None:
    return parsedate_to_datetime(text).astimezone(UTC) if text else None


def _not_a_listing(reason: str) -> AzureError:
    return AzureError(LIST_BLOBS, 200, "NotAListing", f"the answer cannot be read: {reason}", None)
