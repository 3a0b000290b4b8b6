# SPDX-License-Identifier: GPL-3.0-or-later
"""Contents of objects that are cheap to make again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

MIB = 1 << 20


def blocks(count: int) -> Iterator[bytes]:
    """A MiB of its own for each number, cheap to make again."""
    for number in range(count):
        yield hashlib.sha256(str(number).encode()).digest() * (MIB // 32)


def digest_of(count: int) -> str:
    return hashlib.sha256(b"".join(blocks(count))).hexdigest()
