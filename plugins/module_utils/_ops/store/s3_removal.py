# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pruner's identity does in a bucket: versions, their retention, their removal, unfinished uploads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .. import _deps
from .base import NO_END, UploadInfo

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Answers that mean "this object or bucket has no such thing", of AWS, radosgw and MinIO.
_NONE = {
    "NoSuchObjectLockConfiguration",
    "ObjectLockConfigurationNotFoundError",
    "InvalidRequest",
    "NoSuchKey",
    "NoSuchVersion",
    "NotImplemented",
    "MethodNotAllowed",
    "404",
}
_DENIED = {"AccessDenied", "Forbidden", "403"}


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version of an object, or a marker that says it is deleted."""

    key: str
    id: str
    modified: datetime
    marker: bool


def versions(client: S3Client, bucket: str, key: str) -> list[Version]:
    """Every version and delete marker of exactly this key, the oldest first."""
    found = []
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
    for page in pages:
        listed = [(item, False) for item in page.get("Versions", ())]
        listed += [(item, True) for item in page.get("DeleteMarkers", ())]  # type: ignore[misc]
        found += [
            Version(key=key, id=item["VersionId"], modified=item["LastModified"], marker=marker)
            for item, marker in listed
            if item["Key"] == key
        ]
        # Keys come in order: what follows the first longer one is of no interest.
        if any(item["Key"] > key for item, _marker in listed):
            break
    return sorted(found, key=lambda version: (version.modified, version.marker))


def locked_until(client: S3Client, bucket: str, key: str, now: datetime) -> datetime | None:
    """The latest end of a retention or hold on any version of the key, None when none is after ``now``.

    Errors of botocore pass through, the refusal to say among them.
    """
    ends = [
        end
        for version in versions(client, bucket, key)
        if not version.marker
        for end in _ends(client, bucket, version)
    ]
    return max((end for end in ends if end > now), default=None)


def _ends(client: S3Client, bucket: str, version: Version) -> Iterator[datetime]:
    key, version_id = version.key, version.id
    retention = _known(lambda: client.get_object_retention(Bucket=bucket, Key=key, VersionId=version_id))
    if retention is not None and "RetainUntilDate" in retention["Retention"]:
        yield retention["Retention"]["RetainUntilDate"].astimezone(UTC)
    try:
        hold = _known(lambda: client.get_object_legal_hold(Bucket=bucket, Key=key, VersionId=version_id))
    except _deps.load("botocore.exceptions").ClientError as error:
        # The retention is what this program sets; a hold, which a person sets, shows at the removal.
        if error_code(error) not in _DENIED:
            raise
        return
    if hold is not None and hold["LegalHold"].get("Status") == "ON":
        yield NO_END


def remove(client: S3Client, bucket: str, key: str) -> None:
    """Remove every version of the key, the oldest first, so that none of them comes to light in between."""
    for version in versions(client, bucket, key):
        client.delete_object(Bucket=bucket, Key=key, VersionId=version.id)


def unfinished(client: S3Client, bucket: str, prefix: str, cut: int) -> Iterator[UploadInfo]:
    """The multipart uploads under way; ``cut`` characters are taken from the front of their keys."""
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Uploads", ()):
            yield UploadInfo(
                key=item["Key"][cut:], id=item["UploadId"], started=item["Initiated"].astimezone(UTC)
            )


def abort(client: S3Client, bucket: str, key: str, upload_id: str) -> None:
    """Remove the parts of an upload; one that is gone is no error."""
    try:
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except _deps.load("botocore.exceptions").ClientError as error:
        if error_code(error) != "NoSuchUpload":
            raise


def _known(ask: Callable[[], Any]) -> Any:
    """The answer, None when there is no such thing."""
    try:
        return ask()
    except _deps.load("botocore.exceptions").ClientError as error:
        if error_code(error) not in _NONE:
            raise
        return None


def error_code(error: Any) -> str:
    """The code of an answer that is an error."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))
