# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords: argon2id, verified off the event loop, in the same time for users that do not exist."""

from __future__ import annotations

import asyncio
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MIN_CHARACTERS = 12
MAX_CHARACTERS = 256
# No login is possible with it.
LOCKED = "!"

# RFC 9106, second recommended option with one lane: 64 MiB, 3 passes.
_hasher = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)
# Each verification takes a core and 64 MiB; more at once only makes all of them late.
_slots = asyncio.Semaphore(2)


def make(password: str) -> str:
    """The encoded hash of a password."""
    return _hasher.hash(password)


async def verify(encoded: str | None, password: str) -> bool:
    """Whether the password is right; ``None`` for a user that does not exist takes as long and is False."""
    async with _slots:
        return await asyncio.to_thread(_verify, encoded, password)


def outdated(encoded: str) -> bool:
    """Whether a hash was made with other parameters than those of today."""
    return _hasher.check_needs_rehash(encoded)


async def renew(password: str) -> str:
    """A hash of today for a password that was right, made off the event loop."""
    async with _slots:
        return await asyncio.to_thread(make, password)


def _verify(encoded: str | None, password: str) -> bool:
    known = encoded is not None and encoded != LOCKED
    try:
        right = _hasher.verify(encoded if known and encoded else _decoy(), password)
    except (VerificationError, InvalidHashError):
        return False
    return right and known


@lru_cache(maxsize=1)
def _decoy() -> str:
    return make("a password that nobody has")
