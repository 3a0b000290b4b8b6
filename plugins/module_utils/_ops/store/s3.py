# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bucket of any S3 API as a store.

The writer's identity may have the right to put and nothing else, so nothing here looks before it
puts. Every put carries a Content-MD5 (buckets with Object Lock demand one) that the server checks,
and the ETag it answers with is compared again.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .. import _deps, clock, config
from ..errors import OpsError
from . import refusals, s3_client, s3_download, s3_errors, s3_protection, s3_removal, s3_upload
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
from .patience import patiently
from .s3_options import options
from .throttle import Throttle

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import PutObjectOutputTypeDef

_Answer = TypeVar("_Answer")


class S3Store:
    """See :class:`.base.ObjectStore`."""

    discards_uploads = False

    def __init__(self, spec: config.Store, budget_bytes: int = UPLOAD_BUDGET_BYTES) -> None:
        if budget_bytes < s3_upload.MIN_BUDGET_BYTES:
            raise ValueError(f"an upload needs {s3_upload.MIN_BUDGET_BYTES} bytes, not {budget_bytes}")
        self._bucket = spec.bucket or ""
        self._prefix = spec.prefix.strip("/") + "/" if spec.prefix.strip("/") else ""
        where = f"s3://{spec.bucket}/{self._prefix}".rstrip("/")
        self.description = f"{where} at {spec.endpoint or 'AWS ' + spec.region}"
        self._region = spec.region
        self._only_if_free = True
        self._budget = budget_bytes
        self._options = options(spec)
        self._throttle = Throttle(spec.bandwidth_limit)
        self._client = s3_client.connect(spec, self.description)
        for operation in ("PutObject", "CompleteMultipartUpload"):
            self._client.meta.events.register(f"before-call.s3.{operation}", self._ask_to_keep)

    def put_stream(self, key: str, chunks: Iterator[bytes]) -> Stored:
        """See :meth:`.base.ObjectStore.put_stream`."""
        counted = Counted(chunks)
        parts = s3_upload.parts(iter(counted), self._budget)
        first = next(parts)
        if len(first) < s3_upload.part_bytes(1, self._budget):
            return self.put_bytes(key, bytes(first))
        etag = self._put_parts(key, first, parts)
        return Stored(key=key, bytes=counted.bytes, sha256=counted.sha256, etag=etag)

    def put_bytes(self, key: str, data: bytes) -> Stored:
        """See :meth:`.base.ObjectStore.put_bytes`."""
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        name = self._name(key)
        new = self._options.created(clock.now())

        def put() -> PutObjectOutputTypeDef:
            return self._client.put_object(
                Bucket=self._bucket,
                Key=name,
                Body=cast(bytes, self._throttle.body(data)),
                ContentMD5=base64.b64encode(md5).decode(),
                **new,
            )

        with self._translated(key):
            answer = self._unless_taken(lambda: patiently(put))
        etag = str(answer.get("ETag", "")).strip('"')
        if s3_upload.etag_is_md5(answer):
            s3_upload.compare_etag(etag, md5.hex(), key)
        return Stored(key=key, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), etag=etag)

    def get_bytes(self, key: str, limit: int = DEFAULT_LIMIT_BYTES) -> bytes:
        """See :meth:`.base.ObjectStore.get_bytes`."""
        name = self._name(key)

        def get() -> bytes | None:
            answer = self._client.get_object(Bucket=self._bucket, Key=name, **self._options.content)
            with contextlib.closing(answer["Body"]) as body:
                return body.read() if answer["ContentLength"] <= limit else None

        with self._translated(key):
            # The client tries again by itself until an answer begins, not when it breaks off.
            data = patiently(get, rounds=2)
        if data is None:
            raise refusals.too_large(f"{key} in {self.description}", limit)
        return data

    def get_file(self, key: str, path: Path, progress: Advance | None = None) -> None:
        """See :meth:`.base.ObjectStore.get_file`."""
        with arriving(path) as fd, self._translated(key):
            found = s3_download.object_of(self._client, self._bucket, self._name(key), self._options.content)
            download(found, fd, progress)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See :meth:`.base.ObjectStore.list`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with self._translated(""):
            for page in pages:
                for item in page.get("Contents", ()):
                    yield ObjectInfo(
                        key=item["Key"].removeprefix(self._prefix),
                        bytes=item["Size"],
                        modified=item["LastModified"].astimezone(UTC),
                    )

    def check(self) -> None:
        """See :meth:`.base.ObjectStore.check`."""
        exceptions = _deps.load("botocore.exceptions")
        with self._translated(""):
            try:
                answer: Any = self._client.list_objects_v2(
                    Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1
                )
            except exceptions.ClientError as error:
                # A writer is known but may not list; wrong keys have codes of their own.
                if error.response["Error"]["Code"] != "AccessDenied":
                    raise
                answer = error.response
        # The client follows AWS into the right region by itself, on a detour for each request.
        actual = s3_errors.told_region(answer)
        if actual and actual != self._region:
            raise s3_errors.wrong_region(self.description, self._region, actual)

    def delete(self, key: str) -> None:
        """See :meth:`.base.ObjectStore.delete`."""
        try:
            until = self.locked_until(key)
        except OpsError as error:
            # Who may not ask leaves the decision to the store.
            if error.code != "STORE_ACCESS_DENIED":
                raise
            until = None
        if until is not None:
            raise refusals.locked(f"{key} in {self.description}", until)
        with self._translated(key):
            s3_removal.remove(self._client, self._bucket, self._name(key))

    def locked_until(self, key: str) -> datetime | None:
        """See :meth:`.base.ObjectStore.locked_until`."""
        with self._translated(key):
            return s3_removal.locked_until(self._client, self._bucket, self._name(key), clock.now())

    def unfinished_uploads(self, prefix: str = "") -> Iterator[UploadInfo]:
        """See :meth:`.base.ObjectStore.unfinished_uploads`."""
        with self._translated(""):
            yield from s3_removal.unfinished(
                self._client, self._bucket, self._prefix + prefix, len(self._prefix)
            )

    def abort_upload(self, upload: UploadInfo) -> None:
        """See :meth:`.base.ObjectStore.abort_upload`."""
        with self._translated(upload.key):
            s3_removal.abort(self._client, self._bucket, self._prefix + upload.key, upload.id)

    def protection(self) -> Protection:
        """See :meth:`.base.ObjectStore.protection`."""
        with self._translated(""):
            return s3_protection.protection(self._client, self._bucket)

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)

    def _put_parts(self, key: str, first: bytearray, rest: Iterator[bytearray]) -> str:
        with self._translated(key):
            upload = s3_upload.Upload(
                self._client,
                self._bucket,
                self._name(key),
                throttle=self._throttle,
                budget=self._budget,
                new=self._options.created(clock.now()),
                content=self._options.content,
            )
        try:
            part: bytearray | None = first
            while part is not None:
                with self._translated(key):
                    upload.send(part)
                part = next(rest, None)
            with self._translated(key):
                return self._unless_taken(upload.complete)
        except BaseException as error:
            self._abort(upload, key, error)
            raise

    def _abort(self, upload: s3_upload.Upload, key: str, error: BaseException) -> None:
        """Remove an unfinished upload; when that fails too, the first error says so."""
        try:
            with self._translated(key):
                upload.abort()
        except OpsError as second:
            note = (
                f"The parts of {key} sent so far may remain in {self.description} until a pruning or the "
                f"bucket's lifecycle rule removes them: {second.message}"
            )
            error.add_note(note)
            if isinstance(error, OpsError):
                error.action = f"{error.action} {note}".strip()

    def _ask_to_keep(self, params: dict[str, Any], **_: Any) -> None:
        """Ask the server to refuse a key that is taken.

        A header and not the parameter IfNoneMatch, which the botocore of Debian 12 does not know.
        Servers that do not know the header ignore it.
        """
        if self._only_if_free:
            params["headers"]["If-None-Match"] = "*"

    def _unless_taken(self, call: Callable[[], _Answer]) -> _Answer:
        exceptions = _deps.load("botocore.exceptions")
        try:
            return call()
        except exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "NotImplemented" or not self._only_if_free:
                raise
            self._only_if_free = False
            return call()

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        exceptions = _deps.load("botocore.exceptions")
        try:
            yield
        except (exceptions.BotoCoreError, exceptions.ClientError) as error:
            refused = s3_errors.lock_refused(error, self.description) if self._options.lock_mode else None
            raise refused or s3_errors.translated(error, self.description, key, self._region) from error
