# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Key rings: one secret a line. The first line signs, all lines verify."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .. import files
from ..errors import OpsError

MINIMUM_BYTES = 32
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


def parse(text: str) -> tuple[str, ...]:
    """The secrets of a ring, the signing one first; empty lines are none."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def dump(ring: Sequence[str]) -> bytes:
    """The ring as its file holds it; byte for byte as the role backend writes it."""
    return "\n".join(ring).encode()


def check(name: str, secret: str) -> None:
    """Refuse what cannot be a line of a ring.

    :raises OpsError: ``SECRET_UNFIT``; says what is wrong, never the value.
    """
    if not _PRINTABLE.fullmatch(secret):
        why = "it is empty or holds spaces, line ends or characters beyond ASCII"
    elif len(secret) < MINIMUM_BYTES:
        why = f"it has {len(secret)} bytes, fewer than {MINIMUM_BYTES}"
    else:
        return
    raise OpsError(
        "SECRET_UNFIT",
        f"The new value for {name} cannot be used: {why}.",
        "Make one: openssl rand -base64 48",
    )


def read(path: Path) -> tuple[str, ...]:
    """The ring of a credential file.

    :raises OpsError: ``SECRET_MISSING``.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise OpsError(
            "SECRET_MISSING",
            f"The secret {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.",
            "Deploy it (the role pharma.hardening.backend writes it), and run as root.",
        ) from error


def write(path: Path, ring: Sequence[str]) -> bool:
    """Make the file hold the ring (mode 0600); whether that changed it.

    :raises OpsError: ``FILE_NOT_WRITTEN``.
    """
    data = dump(ring)
    try:
        if path.read_bytes() == data:
            return False
    except OSError:
        pass
    files.write_atomic(path, data, 0o600)
    return True
