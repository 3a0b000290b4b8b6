# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store's section asks of every request: storage class, encryption by the store, lock at upload."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from .. import config
from ..errors import OpsError
from . import refusals

KEY_BYTES = 32
# An object there must be brought back, for hours, before it can be read: no drill, no recovery.
ARCHIVES = ("glacier", "deep_archive")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Parameters for the calls of boto3.

    :ivar new: of whatever makes an object (PutObject, CreateMultipartUpload), the lock apart.
    :ivar content: of whatever carries or reads content (parts, GetObject, HeadObject): the client's key.
    :ivar lock_mode: ``GOVERNANCE``, ``COMPLIANCE`` or empty.
    """

    new: dict[str, Any] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)
    lock_mode: str = ""
    lock_days: int = 0

    def created(self, now: datetime) -> dict[str, Any]:
        """What is asked for an object that is begun now; its lock is counted from now."""
        if not self.lock_mode:
            return self.new
        until = now + timedelta(days=self.lock_days)
        return self.new | {"ObjectLockMode": self.lock_mode, "ObjectLockRetainUntilDate": until}


def options(spec: config.Store) -> Options:
    """The options of a store's section.

    :raises OpsError: ``CONFIG_INVALID`` when they contradict each other; ``STORE_KEY_INVALID`` when the
        file of the client's key holds none.
    """
    _consistent(spec)
    content: dict[str, Any] = {}
    if spec.sse_customer_key_file is not None:
        content = customer_key(_key(spec.sse_customer_key_file))
    new: dict[str, Any] = dict(content)
    if spec.storage_class:
        new["StorageClass"] = spec.storage_class
    if spec.sse in ("AES256", "aws:kms"):
        new["ServerSideEncryption"] = spec.sse
    if spec.sse_kms_key_id:
        new["SSEKMSKeyId"] = spec.sse_kms_key_id
    return Options(new=new, content=content, lock_mode=spec.lock_mode, lock_days=spec.lock_days)


def customer_key(key: bytes) -> dict[str, str]:
    """The three parameters of SSE-C; the store forgets the key with the answer.

    boto3 would add the digest by itself, from a key given as text that it takes for the raw bytes.
    """
    return {
        "SSECustomerAlgorithm": "AES256",
        "SSECustomerKey": base64.b64encode(key).decode(),
        "SSECustomerKeyMD5": base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode(),
    }


def _consistent(spec: config.Store) -> None:
    if bool(spec.lock_mode) is not (spec.lock_days > 0):
        raise refusals.wrong_section("lock_mode and lock_days (above 0) go together")
    if (spec.sse == "customer") is not (spec.sse_customer_key_file is not None):
        raise refusals.wrong_section('sse = "customer" and sse_customer_key_file go together')
    if spec.sse_kms_key_id and spec.sse != "aws:kms":
        raise refusals.wrong_section('sse_kms_key_id goes with sse = "aws:kms"')
    if spec.sse == "customer" and (spec.endpoint or "").startswith("http://"):
        raise refusals.wrong_section('sse = "customer" sends a key, so its endpoint begins with https://')


def _key(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _no_key(path, str(error.strerror)) from error
    if len(data) == KEY_BYTES:
        return data
    try:
        key = base64.b64decode(data.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise _no_key(path, f"it holds neither {KEY_BYTES} bytes nor their base64")
    return key


def _no_key(path: Path, reason: str) -> OpsError:
    return OpsError(
        "STORE_KEY_INVALID",
        f"{path} does not give the key that encrypts in the store: {reason}.",
        "Make it with: head -c 32 /dev/urandom | base64. Without it the objects there cannot be read.",
    )
