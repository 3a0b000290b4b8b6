# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the answers of an S3 API mean for the person who reads the message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import _deps
from ..errors import OpsError
from . import refusals

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_CREDENTIALS = {
    "InvalidAccessKeyId": "does not know the access key",
    "SignatureDoesNotMatch": "says that the secret key is wrong",
    "InvalidToken": "refuses the session token",
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "403"}
_MISSING = {"NoSuchKey", "404", "NotFound"}
_FULL = {"QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "EntityTooLarge", "507"}
_EXISTS = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
# AWS and MinIO name the bucket's region in the answer or its headers; radosgw does not look at the region.
_REGION = {
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "TemporaryRedirect",
    "IllegalLocationConstraintException",
    "InvalidRegion",
    "301",
}
_BUSY = {"SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestLimitExceeded", "503"}
_DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}


def translated(error: Exception, what: str, key: str = "", region: str = "") -> OpsError:
    """The error of boto3 or botocore as an :class:`OpsError`.

    :param what: the store's description: bucket and endpoint.
    :param key: the object that was asked for, if it was one.
    :param region: the one that the configuration says.
    """
    exceptions = _deps.load("botocore.exceptions")
    if isinstance(error, exceptions.ClientError):
        return _answer(error, what, key, region)
    if untrusted(error):
        return refusals.untrusted(what, error)
    if isinstance(error, exceptions.CredentialRetrievalError | exceptions.MetadataRetrievalError):
        return OpsError(
            "STORE_CREDENTIALS_INVALID",
            f"The credentials for the store {what} cannot be renewed: {error}",
            "Check the role of this machine and its metadata service, or name a credentials_file.",
        )
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return OpsError(
            "STORE_CREDENTIALS_INVALID",
            f"There are no credentials for the store {what}.",
            "Name a file that holds access_key and secret_key with credentials_file in the store's section.",
        )
    return refusals.unreachable(what, error)


def untrusted(error: Exception) -> bool:
    """Whether TLS cannot be had at all; a connection that breaks within a record is an SSLError, too."""
    if not isinstance(error, _deps.load("botocore.exceptions").SSLError):
        return False
    text = str(error).lower()
    return any(word in text for word in ("certificate", "wrong_version_number", "alert"))


def lock_refused(error: Exception, what: str) -> OpsError | None:
    """The error of a put that asked for a lock where the bucket knows none; None when it is another.

    AWS answers InvalidRequest and says "Bucket is missing Object Lock Configuration", radosgw says nothing.
    """
    if not isinstance(error, _deps.load("botocore.exceptions").ClientError):
        return None
    answer = error.response.get("Error", {})
    if answer.get("Code") != "InvalidRequest" or "lock" not in (answer.get("Message") or "lock").lower():
        return None
    return OpsError(
        "STORE_LOCK_UNAVAILABLE",
        f"The store refuses to lock objects in {what}: the bucket was made without Object Lock.",
        "Make a bucket with Object Lock; leave lock_mode out only if sets may be removed by a stolen key.",
    )


def _answer(error: ClientError, what: str, key: str, region: str) -> OpsError:
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    operation = error.operation_name
    whole = f"{key} in {what}" if key else what
    if code in _CREDENTIALS:
        return OpsError(
            "STORE_ACCESS_DENIED",
            f"The store {what} {_CREDENTIALS[code]}.",
            "Put the right keys into the store's credentials_file.",
        )
    if code in _EXPIRED:
        return OpsError(
            "STORE_CREDENTIALS_EXPIRED",
            f"The store {what} says that the credentials have expired ({operation}).",
            "Put valid ones into the store's credentials_file; they must outlive the longest backup.",
        )
    if code in _DENIED:
        # Ceph's gateway has no other answer to a session that has ended.
        return refusals.denied(operation, whole, " With a session_token, check that it has not expired.")
    if code == "RequestTimeTooSkewed":
        return refusals.clocks_differ(what)
    if code == "NoSuchBucket":
        return OpsError(
            "STORE_BUCKET_MISSING",
            f"The bucket of {what} does not exist.",
            "Create it (with Object Lock, see docs), or correct the store's bucket.",
        )
    if code in _REGION:
        return wrong_region(what, region, told_region(error.response))
    return _answer_on_object(code, operation, whole, error)


def wrong_region(what: str, configured: str, actual: str) -> OpsError:
    """The error of a bucket that lies in another region than the configuration says."""
    where = f"in the region {actual}" if actual else "in another region, which the store does not name"
    return OpsError(
        "STORE_REGION_WRONG",
        f"The bucket of {what} is {where}; the configuration says {configured}.",
        f"Set the store's region to {actual or 'the one of the bucket'}, or name a bucket of this region.",
    )


def told_region(answer: Mapping[str, Any]) -> str:
    """The bucket's region as an answer tells it, an error or not; empty when it does not."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(answer.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region", ""))


def _answer_on_object(code: str, operation: str, whole: str, error: ClientError) -> OpsError:
    if code in _MISSING:
        return refusals.missing(whole)
    if code == "NoSuchUpload":
        return OpsError(
            "STORE_UPLOAD_GONE",
            f"The unfinished upload of {whole} is gone: it was aborted by another, or the answer was lost.",
            "Run again; a lifecycle rule that aborts uploads must leave them more time than a backup takes.",
        )
    if code in _BUSY:
        return refusals.busy(operation, whole, code)
    if code in _FULL:
        return refusals.full(whole, code)
    if code in _EXISTS:
        return refusals.exists(whole)
    if code in _DAMAGED:
        return refusals.damaged(whole, code)
    message = error.response.get("Error", {}).get("Message") or ""
    return refusals.failed(operation, whole, code, message)
