# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store that a configuration names."""

from __future__ import annotations

from collections.abc import Callable

from .. import config
from ..errors import OpsError
from .azure import AzureStore
from .base import UPLOAD_BUDGET_BYTES, ObjectStore
from .local import LocalStore
from .s3 import S3Store


def open_store(spec: config.Store, *, upload_budget_bytes: int = UPLOAD_BUDGET_BYTES) -> ObjectStore:
    """Make the client of a store; nothing is asked of the store yet.

    :param upload_budget_bytes: what an upload may hold in memory, at least 30 MiB; whoever uploads to
        several stores at once shares out what there is.
    :raises OpsError: ``CONFIG_INVALID`` when a key that the type needs is missing,
        ``STORE_CREDENTIALS_INVALID`` when the credentials file is not one, ``LIBRARY_MISSING``.
    """
    if spec.bandwidth_limit < 0:
        raise _invalid("bandwidth_limit is below 0")
    opener = _OPENERS.get(spec.type)
    if opener is None:
        raise _invalid(f"there are no stores of the type {spec.type!r}")
    return opener(spec, upload_budget_bytes)


def _local(spec: config.Store, _budget: int) -> ObjectStore:
    if spec.path is None:
        raise _missing("local", "path")
    asked = [name for name in _OF_BUCKETS if getattr(spec, name)]
    if asked:
        raise _invalid(f"a directory knows no {asked[0]}")
    return LocalStore(spec.path, spec.bandwidth_limit)


def _s3(spec: config.Store, budget: int) -> ObjectStore:
    if not spec.bucket:
        raise _missing("s3", "bucket")
    return S3Store(spec, budget)


def _azure(spec: config.Store, budget: int) -> ObjectStore:
    for key in ("bucket", "endpoint"):
        if not getattr(spec, key):
            raise _missing("azure", key)
    return AzureStore(spec, budget)


_OPENERS: dict[str, Callable[[config.Store, int], ObjectStore]] = {
    "local": _local,
    "s3": _s3,
    "azure": _azure,
}
# What a directory cannot do must not be asked of it and silently left out.
_OF_BUCKETS = ("lock_mode", "lock_days", "sse", "sse_kms_key_id", "sse_customer_key_file", "storage_class")


def _invalid(reason: str) -> OpsError:
    return OpsError(
        "CONFIG_INVALID",
        f"The section of a store is wrong: {reason}.",
        "Correct the section [stores.<name>] of the configuration.",
    )


def _missing(kind: str, key: str) -> OpsError:
    return OpsError(
        "CONFIG_INVALID",
        f"A store of type {kind} needs {key!r}.",
        "Set it in the section [stores.<name>] of the configuration.",
    )
