# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DSSE envelopes (https://github.com/secure-systems-lab/dsse, v1): a payload and who signed it.

Of the many ways to write one envelope exactly one is accepted here, so that no byte of the file can
be changed without being noticed, not even one that the signature does not cover.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from ..errors import OpsError
from ..sealing import signing

PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Opened:
    """A payload whose signature is right, and the id of the trusted key that made it."""

    payload: bytes
    key_id: str


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: what is really signed."""
    name = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def seal(payload: bytes, key_pem: bytes) -> bytes:
    """The envelope of a payload, as the bytes of its file.

    :raises OpsError: ``SIGNING_KEY_INVALID``.
    """
    signature = signing.sign(key_pem, pae(PAYLOAD_TYPE, payload))
    return _encode(payload, signing.key_id(signing.public_of(key_pem)), signature)


def open_sealed(data: bytes, public_keys_pem: bytes) -> Opened:
    """Check an envelope and take out its payload.

    :raises OpsError: ``ENVELOPE_INVALID``, ``SIGNATURE_INVALID``, ``TRUSTED_KEYS_INVALID``.
    """
    payload, named, signature = _decode(data)
    key_id = signing.verify(public_keys_pem, pae(PAYLOAD_TYPE, payload), signature)
    if key_id != named:
        raise _invalid(f"it names the key {named!r}, but {key_id} has signed it")
    return Opened(payload, key_id)


def payload_of(data: bytes) -> bytes:
    """The payload of an envelope whose signature cannot be checked for want of a key.

    :raises OpsError: ``ENVELOPE_INVALID``.
    """
    return _decode(data)[0]


def _encode(payload: bytes, key_id: str, signature: bytes) -> bytes:
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(envelope, indent=2).encode() + b"\n"


def _decode(data: bytes) -> tuple[bytes, str, bytes]:
    try:
        envelope = json.loads(data)
        (entry,) = envelope["signatures"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(entry["sig"], validate=True)
        key_id = str(entry["keyid"])
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
        raise _invalid("it is not a DSSE envelope with one signature") from None
    if _encode(payload, key_id, signature) != data:
        raise _invalid("it is not written as it was when it was sealed")
    return payload, key_id, signature


def _invalid(message: str) -> OpsError:
    return OpsError(
        "ENVELOPE_INVALID",
        f"The envelope of the evidence was altered: {message}.",
        "Take the copy of this drill's directory from another place.",
    )
