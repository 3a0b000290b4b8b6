# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store that a configuration names."""

from __future__ import annotations

from .. import config
from ..errors import OpsError
from .base import ObjectStore
from .local import LocalStore
from .s3 import S3Store


def open_store(spec: config.Store) -> ObjectStore:
    """Make the client of a store; nothing is asked of the store yet.

    :raises OpsError: ``CONFIG_INVALID`` when a key that the type needs is missing,
        ``STORE_CREDENTIALS_INVALID`` when the credentials file is not one, ``LIBRARY_MISSING``.
    """
    if spec.type == "local":
        if spec.path is None:
            raise _missing("local", "path")
        return LocalStore(spec.path)
    if not spec.bucket:
        raise _missing("s3", "bucket")
    return S3Store(spec)


def _missing(kind: str, key: str) -> OpsError:
    return OpsError(
        "CONFIG_INVALID",
        f"A store of type {kind} needs {key!r}.",
        "Set it in the section [stores.<name>] of the configuration.",
    )
