# SPDX-License-Identifier: GPL-3.0-or-later
"""Key rings: several secrets that are valid at once, so that one can take over from another.

A ring is the text of a credential file with one secret a line. The first signs and issues, all of them
verify. Each is known by a ``kid`` that tells nothing of it and is the same wherever it is computed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field

from .errors import CommandError

MIN_SECRET_BYTES = 32
KID_LENGTH = 16
_KID_MESSAGE = b"pharma-backend kid"


@dataclass(frozen=True, slots=True)
class Key:
    """One secret of a ring; its value is in no ``repr``."""

    kid: str
    secret: bytes = field(repr=False)


class KeyRing:
    """Keys in the order of the file; at least one, no two the same."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self._keys = keys
        self._by_kid = {key.kid: key for key in keys}

    @property
    def current(self) -> Key:
        """The key that signs."""
        return self._keys[0]

    def find(self, kid: str) -> Key | None:
        """The key of that id, or None."""
        return self._by_kid.get(kid)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def kid(secret: bytes) -> str:
    """The id of a secret: the first 16 hexadecimal digits of an HMAC-SHA256 keyed with it."""
    return hmac.new(secret, _KID_MESSAGE, hashlib.sha256).hexdigest()[:KID_LENGTH]


def parse(name: str, text: str) -> KeyRing:
    """The ring that the text of a credential holds; blank lines and space around a secret are left out.

    :param name: of the credential, for the message.
    :raises CommandError: ``SECRET_MISSING``, ``SECRET_TOO_SHORT`` or ``SECRET_DUPLICATE``.
    """
    secrets = [line.strip().encode() for line in text.splitlines() if line.strip()]
    if not secrets:
        raise CommandError("SECRET_MISSING", f"The secret {name} is empty.", f"Write a secret into {name}.")
    for number, secret in enumerate(secrets, start=1):
        if len(secret) < MIN_SECRET_BYTES:
            raise CommandError(
                "SECRET_TOO_SHORT",
                f"Secret {number} of {len(secrets)} in {name} has fewer than {MIN_SECRET_BYTES} bytes.",
                "Make one with: openssl rand -base64 48 | tr -d '\\n'",
            )
    keys = tuple(Key(kid(secret), secret) for secret in secrets)
    if len({key.kid for key in keys}) != len(keys):
        raise CommandError(
            "SECRET_DUPLICATE",
            f"{name} holds the same secret twice.",
            "Leave each secret on one line only; the first line signs.",
        )
    return KeyRing(keys)
