# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names for secrets that tell nothing of them: keyed fingerprints of the host, and the key ids of tokens."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from ..errors import OpsError

DIGITS = 16
_KEY_BYTES = 32
_KID_MESSAGE = b"pharma-backend kid"


def host_key(path: Path) -> bytes:
    """The key of this host's fingerprints, made at its first use (32 random bytes, mode 0600).

    :raises OpsError: ``FINGERPRINT_KEY_UNUSABLE``.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise _unusable(path, str(error.strerror)) from error
    with os.fdopen(fd, "wb") as stream:
        stream.write(secrets.token_bytes(_KEY_BYTES))
        stream.flush()
        os.fsync(stream.fileno())
    return _read(path)


def _read(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except OSError as error:
        raise _unusable(path, str(error.strerror)) from error
    if len(key) != _KEY_BYTES:
        raise _unusable(path, f"it holds {len(key)} bytes, not {_KEY_BYTES}")
    return key


def _unusable(path: Path, why: str) -> OpsError:
    return OpsError(
        "FINGERPRINT_KEY_UNUSABLE",
        f"The key of the fingerprints, {path}, cannot be used: {why}.",
        "Run as root; if the file is damaged, remove it: a new key is made, and all ages begin anew.",
    )


def fingerprint(key: bytes, value: bytes) -> str:
    """16 hex digits of HMAC-SHA256; without the key nobody can test a guess against it."""
    return hmac.new(key, value, hashlib.sha256).hexdigest()[:DIGITS]


def kid(secret: bytes) -> str:
    """The key id that tokens carry for a secret of a key ring (docs/secrets.md)."""
    return hmac.new(secret, _KID_MESSAGE, hashlib.sha256).hexdigest()[:DIGITS]
