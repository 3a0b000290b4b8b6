# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container of Azure Blob Storage as a store.

The writer's identity may have the right to create and write blobs and nothing else, so nothing here looks
before it puts. Every block carries a Content-MD5 that the server checks, and what it answers with is
compared again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from .. import clock, config
from ..errors import OpsError
from . import azure_auth, azure_download, azure_errors, azure_listing, azure_upload, refusals
from .azure_client import AzureError, Client, http_date
from .base import (
    DEFAULT_LIMIT_BYTES,
    UPLOAD_BUDGET_BYTES,
    Advance,
    Counted,
    ObjectInfo,
    Protection,
    Stored,
    UploadInfo,
    arriving,
    checked_key,
)
from .download import download
from .throttle import Throttle

# What an object's retention is called here, and there.
LOCK_MODES = {"GOVERNANCE": "Unlocked", "COMPLIANCE": "Locked"}
TIERS = ("Hot", "Cool", "Cold")
_UNKNOWN = Protection(versioning=None, locking=None, lock_mode=None, lock_days=None)


class AzureStore:
    """See :class:`.base.ObjectStore`.

    :param budget_bytes: memory that an upload may take.
    """

    discards_uploads = True

    def __init__(self, spec: config.Store, budget_bytes: int = UPLOAD_BUDGET_BYTES) -> None:
        _check(spec)
        self._prefix = spec.prefix.strip("/") + "/" if spec.prefix.strip("/") else ""
        where = f"azure://{spec.bucket}/{self._prefix}".rstrip("/")
        self.description = f"{where} at {spec.endpoint}"
        self._block_bytes = azure_upload.block_bytes(budget_bytes)
        self._tier = spec.storage_class
        self._lock_mode = LOCK_MODES.get(spec.lock_mode, "")
        self._lock_days = spec.lock_days
        self._credentials = azure_auth.read(spec.credentials_file)
        self._client = Client(
            spec.endpoint or "",
            spec.bucket or "",
            self._credentials,
            spec.ca_file,
            Throttle(spec.bandwidth_limit),
        )

    def put_stream(self, key: str, chunks: Iterator[bytes]) -> Stored:
        """See :meth:`.base.ObjectStore.put_stream`."""
        counted = Counted(chunks)
        upload = azure_upload.Upload(self._client, self._name(key), self._wanted())
        try:
            for block in azure_upload.blocks(iter(counted), self._block_bytes):
                with self._translated(key):
                    upload.send(block)
            with self._translated(key):
                etag = upload.complete()
        except BaseException:
            upload.stop()
            raise
        return Stored(key=key, bytes=counted.bytes, sha256=counted.sha256, etag=etag)

    def put_bytes(self, key: str, data: bytes) -> Stored:
        """See :meth:`.base.ObjectStore.put_bytes`."""
        return self.put_stream(key, iter((data,)))

    def get_bytes(self, key: str, limit: int = DEFAULT_LIMIT_BYTES) -> bytes:
        """See :meth:`.base.ObjectStore.get_bytes`."""
        with self._translated(key):
            data = azure_download.read(self._client, self._name(key), limit)
        if data is None:
            raise refusals.too_large(f"{key} in {self.description}", limit)
        return data

    def get_file(self, key: str, path: Path, progress: Advance | None = None) -> None:
        """See :meth:`.base.ObjectStore.get_file`."""
        with arriving(path) as fd, self._translated(key):
            download(azure_download.blob(self._client, self._name(key)), fd, progress)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See :meth:`.base.ObjectStore.list`."""
        with self._translated(""):
            for blob in azure_listing.blobs(self._client, self._prefix + prefix):
                yield ObjectInfo(
                    key=blob.name.removeprefix(self._prefix),
                    bytes=blob.bytes,
                    modified=blob.modified or clock.now(),
                )

    def check(self) -> None:
        """See :meth:`.base.ObjectStore.check`."""
        try:
            with self._translated(""):
                next(azure_listing.blobs(self._client, self._prefix, limit=1), None)
        except OpsError as error:
            # A writer is known but may not list; wrong credentials are told by another answer.
            if not self._only_forbidden(error):
                raise

    def delete(self, key: str) -> None:
        """See :meth:`.base.ObjectStore.delete`."""
        name = self._name(key)
        with self._translated(key):
            found = azure_listing.versions(self._client, name)
            if (until := azure_listing.end_of_lock(found)) is not None:
                raise refusals.locked(f"{key} in {self.description}", until)
            for blob in found:
                if not blob.current and not blob.snapshot:
                    self._remove(name, blob.version)
            # With versioning, what was current becomes a version like the others: it goes last.
            for blob in found:
                if blob.current:
                    self._remove(name)
                    if blob.version:
                        self._remove(name, blob.version)

    def locked_until(self, key: str) -> datetime | None:
        """See :meth:`.base.ObjectStore.locked_until`."""
        with self._translated(key):
            return azure_listing.end_of_lock(azure_listing.versions(self._client, self._name(key)))

    def unfinished_uploads(self, prefix: str = "") -> Iterator[UploadInfo]:
        """See :meth:`.base.ObjectStore.unfinished_uploads`; their id is their name."""
        with self._translated(""):
            for blob in azure_listing.uncommitted(self._client, self._prefix + prefix):
                yield UploadInfo(
                    key=blob.name.removeprefix(self._prefix),
                    id=blob.name,
                    started=blob.modified or clock.now(),
                )

    def abort_upload(self, upload: UploadInfo) -> None:
        """Leave it to the service (``discards_uploads``): blocks end a week after the last of them was put.

        No request does that earlier, except one that puts a blob under the name: for that the pruner
        would need the right to write, and where the container locks what is new, the blob would stay.
        """

    def protection(self) -> Protection:
        """See :meth:`.base.ObjectStore.protection`.

        The retention that a container gives by default is told to the account's administrators only.
        """
        try:
            with self._translated(""):
                answer = self._client.request(
                    "Get Container Properties", "HEAD", query={"restype": "container"}
                )
        except OpsError as error:
            if not self._only_forbidden(error):
                raise
            return _UNKNOWN
        return _protection(answer.headers.get("x-ms-immutable-storage-with-versioning-enabled"))

    def _remove(self, name: str, version: str = "") -> None:
        try:
            self._client.request(
                "Delete Blob",
                "DELETE",
                name,
                {"versionid": version} if version else None,
                {} if version else {"x-ms-delete-snapshots": "include"},
            )
        except AzureError as error:
            if error.status != 404:
                raise

    def _wanted(self) -> dict[str, str]:
        """Headers that ask for the tier and for a lock that is counted from now."""
        headers = {"x-ms-access-tier": self._tier} if self._tier else {}
        if self._lock_mode:
            until = clock.now() + timedelta(days=self._lock_days)
            headers["x-ms-immutability-policy-until-date"] = http_date(until)
            headers["x-ms-immutability-policy-mode"] = self._lock_mode
        return headers

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)

    def _only_forbidden(self, error: OpsError) -> bool:
        cause = error.__cause__
        return isinstance(cause, AzureError) and azure_errors.is_forbidden(cause)

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except (AzureError, self._client.library.HTTPError) as error:
            raise azure_errors.translated(error, self.description, self._credentials, key) from error


def _protection(locking: str | None) -> Protection:
    if locking is None:
        return _UNKNOWN
    if locking == "true":  # only a container of an account with versioning can have it
        return Protection(versioning=True, locking=True, lock_mode=None, lock_days=None)
    return Protection(versioning=None, locking=False, lock_mode="", lock_days=0)


def _check(spec: config.Store) -> None:
    """:raises OpsError: ``CONFIG_INVALID``."""
    wrong = ""
    if bool(spec.lock_mode) is not (spec.lock_days > 0):
        wrong = "lock_mode and lock_days (above 0) go together"
    elif spec.storage_class not in ("", *TIERS):
        wrong = f"storage_class is one of {', '.join(TIERS)}: what is archived cannot be read by a drill"
    elif spec.sse not in ("", "AES256") or spec.sse_kms_key_id or spec.sse_customer_key_file:
        wrong = "sse is not for a store of type azure, which encrypts everything by itself"
    if wrong:
        raise refusals.wrong_section(wrong)
