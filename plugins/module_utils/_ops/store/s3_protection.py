# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps the objects of a bucket: its versioning, its Object Lock and the default retention."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .. import _deps
from .base import Protection
from .s3_removal import error_code

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_T = TypeVar("_T")
_DAYS_A_YEAR = 365
# A bucket without Object Lock; AWS and MinIO say the first, radosgw the second.
_NO_LOCK = {"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration", "404"}
# What an identity may not ask and what a server does not know amount to the same: nobody can tell.
_UNKNOWN = {"AccessDenied", "Forbidden", "403", "NotImplemented", "MethodNotAllowed"}


def protection(client: S3Client, bucket: str) -> Protection:
    """Ask the bucket; errors of botocore pass through, except the refusal to say."""
    lock = _answer(lambda: _lock(client, bucket))
    versioning = _answer(lambda: client.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled")
    if lock is None:
        return Protection(versioning=versioning, locking=None, lock_mode=None, lock_days=None)
    rule = lock.get("Rule", {}).get("DefaultRetention", {})
    return Protection(
        versioning=versioning,
        locking=lock.get("ObjectLockEnabled") == "Enabled",
        lock_mode=rule.get("Mode", ""),
        lock_days=rule.get("Days") or rule.get("Years", 0) * _DAYS_A_YEAR,
    )


def _lock(client: S3Client, bucket: str) -> dict[str, Any]:
    try:
        answer = client.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    except _deps.load("botocore.exceptions").ClientError as error:
        if error_code(error) in _NO_LOCK:
            return {}
        raise
    return dict(answer)


def _answer(ask: Callable[[], _T]) -> _T | None:
    try:
        return ask()
    except _deps.load("botocore.exceptions").ClientError as error:
        if error_code(error) in _UNKNOWN:
            return None
        raise
