# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the answers of Azure Blob Storage mean for the person who reads the message.

Codes: learn.microsoft.com/rest/api/storageservices/blob-service-error-codes and .../common-rest-api-error-codes.
"""

from __future__ import annotations

from datetime import timedelta

from .. import clock
from ..errors import OpsError
from . import refusals
from .azure_auth import Credentials
from .azure_client import PUT_BLOCK_LIST, AzureError, is_damaged, is_untrusted

_UNAUTHENTICATED = {"AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"}
_DENIED = {
    "AuthorizationFailure", "AuthorizationPermissionMismatch", "AuthorizationResourceTypeMismatch",
    "AuthorizationServiceMismatch", "AuthorizationProtocolMismatch", "AuthorizationSourceIPMismatch",
    "InsufficientAccountPermissions", "AccountIsDisabled", "KeyBasedAuthenticationNotPermitted", "403",
    "ResourceTypeMismatch", "PublicAccessNotPermitted",
}  # fmt: skip
_NO_BUCKET = {"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled", "InvalidResourceName"}
_MISSING = {"BlobNotFound", "ResourceNotFound", "404"}
_EXISTS = {"BlobAlreadyExists", "UnauthorizedBlobOverwrite"}
_LOCKED = {"BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold", "ContainerImmutableDueToPolicy"}
_FULL = {"AccountLimitExceeded", "InsufficientStorage", "507"}
_LARGE = {
    "BlockCountExceedsLimit",
    "BlockListTooLong",
    "RequestBodyTooLarge",
    "UncommittedBlockCountExceedsLimit",
}
# Azure refuses a request whose date is further away than this.
_SKEW = timedelta(minutes=15)


def translated(error: Exception, what: str, credentials: Credentials, key: str = "") -> OpsError:
    """The error of :mod:`.azure_client` or of httpx as an :class:`OpsError`.

    :param what: the store's description: container and endpoint.
    :param key: the object that was asked for, if it was one.
    """
    if isinstance(error, AzureError):
        return _answer(error, what, credentials, key)
    if is_untrusted(error):
        return refusals.untrusted(what, error)
    return refusals.unreachable(what, error or type(error).__name__)


def _answer(error: AzureError, what: str, credentials: Credentials, key: str) -> OpsError:
    if _unauthenticated(error):
        return _credentials(error, what, credentials)
    whole = f"{key} in {what}" if key else what
    if error.code in _DENIED:
        return refusals.denied(error.operation, whole)
    if error.code in _NO_BUCKET:
        return OpsError(
            "STORE_BUCKET_MISSING",
            f"The bucket of {what} does not exist.",
            "Create it (with version-level immutability, see docs/stores-azure.md), or correct the store's bucket.",
        )
    return _answer_on_object(error, whole)


def is_forbidden(error: AzureError) -> bool:
    """Whether the store knows who asks, and refuses."""
    return error.code in _DENIED and not _unauthenticated(error)


def _unauthenticated(error: AzureError) -> bool:
    # Azurite calls a wrong signature AuthorizationFailure, which on Azure is a matter of rights.
    return error.code in _UNAUTHENTICATED or (
        error.code == "AuthorizationFailure" and "failed to authenticate" in error.message
    )


def _credentials(error: AzureError, what: str, credentials: Credentials) -> OpsError:
    now = clock.now()
    if error.date is not None and abs(error.date - now) > _SKEW:
        return refusals.clocks_differ(what)
    if credentials.expires is not None and credentials.expires <= now:
        return OpsError(
            "STORE_CREDENTIALS_EXPIRED",
            f"The store {what} says that the credentials have expired ({error.operation}): "
            f"the SAS token ended {clock.to_text(credentials.expires)}.",
            "Put valid ones into the store's credentials_file; they must outlive the longest backup.",
        )
    if credentials.key is not None:
        reason = "says that the account key is wrong"
    elif credentials.begins is not None and credentials.begins > now:
        reason = f"refuses the SAS token, whose time begins only {clock.to_text(credentials.begins)}"
    else:
        reason = "says that the SAS token is wrong, has been revoked, or is for another container"
    return OpsError(
        "STORE_ACCESS_DENIED",
        f"The store {what} {reason}.",
        "Put the right account_key or sas_token into the store's credentials_file.",
    )


def _answer_on_object(error: AzureError, whole: str) -> OpsError:
    code = error.code
    if code in _MISSING:
        return refusals.missing(whole)
    if code in _LOCKED:
        return OpsError(
            "STORE_OBJECT_LOCKED",
            f"{whole} is locked by the store ({code}) and cannot be removed or replaced.",
            "Nothing is wrong: the lock does what it is for. Remove the object after its time.",
        )
    if code in _FULL:
        return refusals.full(whole, code)
    if code in _EXISTS or (code == "ConditionNotMet" and error.operation == PUT_BLOCK_LIST):
        return refusals.exists(whole)
    return _answer_on_bytes(error, whole)


def _answer_on_bytes(error: AzureError, whole: str) -> OpsError:
    code = error.code
    if code in _LARGE:
        return OpsError(
            "STORE_OBJECT_TOO_LARGE",
            f"{whole} is larger than the store takes ({code}).",
            "Use a physical backup for a database of this size.",
        )
    if code == "InvalidBlockList":
        return OpsError(
            "STORE_UPLOAD_GONE",
            f"The unfinished upload of {whole} is gone: another was put under that name, or a week went by.",
            "Run again; find out which other program writes here.",
        )
    if error.status in (429, 503):
        return refusals.busy(error.operation, whole, code)
    if is_damaged(error):
        return refusals.damaged(whole, code)
    if code == "ConditionNotMet":
        return OpsError(
            "STORE_TRANSFER_DAMAGED",
            f"{whole} was replaced while it was read.",
            "Run again; find out which other program writes here.",
        )
    return refusals.failed(error.operation, whole, code, error.message)
