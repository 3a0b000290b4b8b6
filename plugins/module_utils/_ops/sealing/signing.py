# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ed25519 signatures (RFC 8032): detached, 64 raw bytes, the same as those of ``openssl pkeyutl -rawin``."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from .. import _deps
from ..errors import OpsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE_BYTES = 64
_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


def generate() -> tuple[bytes, bytes]:
    """A new key pair: (private PKCS #8 PEM, public SubjectPublicKeyInfo PEM)."""
    _deps.require("cryptography")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem, _public_pem(private.public_key())


def sign(key_pem: bytes, data: bytes) -> bytes:
    """The signature of ``data``, 64 bytes.

    :raises OpsError: ``SIGNING_KEY_INVALID``.
    """
    return _private(key_pem).sign(data)


def public_of(key_pem: bytes) -> bytes:
    """The public key of a private one, as PEM.

    :raises OpsError: ``SIGNING_KEY_INVALID``.
    """
    return _public_pem(_private(key_pem).public_key())


def key_id(public_pem: bytes) -> str:
    """The name of a public key: the first 16 hex digits of the sha256 of its DER SubjectPublicKeyInfo.

    :raises OpsError: ``TRUSTED_KEYS_INVALID``.
    """
    return next(iter(_publics(public_pem)))


def verify(public_keys_pem: bytes, data: bytes, signature: bytes) -> str:
    """Check a signature against every trusted key; returns the id of the one that made it.

    :param public_keys_pem: one or more public keys, one after the other.
    :raises OpsError: ``SIGNATURE_INVALID``, ``TRUSTED_KEYS_INVALID``.
    """
    keys = _publics(public_keys_pem)
    exceptions = _deps.load("cryptography.exceptions")
    for name, key in keys.items():
        try:
            key.verify(signature, data)
        except exceptions.InvalidSignature:
            continue
        return name
    raise OpsError(
        "SIGNATURE_INVALID",
        f"The signature is of none of the trusted keys ({', '.join(keys)}), or the content was altered.",
        "Treat it as forged until the key that signed it is known and trusted.",
    )


def _private(pem: bytes) -> Ed25519PrivateKey:
    _deps.require("cryptography")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise OpsError(
            "SIGNING_KEY_INVALID",
            "The signing key is not an unencrypted Ed25519 private key in PEM.",
            "Make one with: openssl genpkey -algorithm ed25519.",
        )
    return key


def _publics(pem: bytes) -> dict[str, Ed25519PublicKey]:
    _deps.require("cryptography")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    keys: dict[str, Ed25519PublicKey] = {}
    for block in _PUBLIC.findall(pem):
        try:
            key = serialization.load_pem_public_key(block + b"\n")
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise _untrusted("One of the trusted keys is not an Ed25519 public key in PEM.")
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        keys[hashlib.sha256(der).hexdigest()[:16]] = key
    if not keys:
        raise _untrusted("There is no public key in PEM among the trusted keys.")
    return keys


def _untrusted(message: str) -> OpsError:
    return OpsError(
        "TRUSTED_KEYS_INVALID", message, "A public key is printed by: openssl pkey -in PRIVATE -pubout."
    )


def _public_pem(key: Ed25519PublicKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
