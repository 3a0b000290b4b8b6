# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a download asks of an S3 API."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..files import CHUNK_BYTES
from .download import ATTEMPTS
from .patience import delays, transient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Object:
    """An object of a bucket as a :class:`.download.Source`.

    :ivar content: parameters of each request (the client's key).
    """

    client: S3Client
    bucket: str
    name: str
    etag: str
    total: int
    content: Mapping[str, Any]

    def chunks(self, start: int, end: int) -> Generator[bytes, None, None]:
        """See :meth:`.download.Source.chunks`."""
        # IfMatch: all ranges come from one and the same version of the object.
        answer = self.client.get_object(
            Bucket=self.bucket,
            Key=self.name,
            Range=f"bytes={start}-{end - 1}",
            IfMatch=self.etag,
            **self.content,
        )
        with contextlib.closing(answer["Body"]) as body:
            while chunk := body.read(CHUNK_BYTES):
                yield chunk

    def passing(self, error: Exception) -> bool:
        """See :meth:`.download.Source.passing`."""
        return transient(error)

    def pauses(self) -> Iterable[float]:
        """See :meth:`.download.Source.pauses`."""
        return delays(ATTEMPTS)


def object_of(client: S3Client, bucket: str, name: str, content: Mapping[str, Any]) -> Object:
    """The object that stands under a name now; parameters as those of :class:`Object`."""
    head = client.head_object(Bucket=bucket, Key=name, **content)
    return Object(client, bucket, name, head["ETag"], head["ContentLength"], content)
