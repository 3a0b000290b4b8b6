# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a backup is encrypted for: age recipients, checked before anything is encrypted.

An age X25519 recipient is Bech32 (BIP 173) with the prefix ``age`` over 32 bytes
(https://age-encryption.org/v1); an ssh-ed25519 public key is accepted as well.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import OpsError

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_SSH_TYPE = "ssh-ed25519"

Role = Literal["in use", "escrow", "unknown"]
SECTIONS: dict[str, Role] = {"# [in use]": "in use", "# [escrow]": "escrow"}
"""Comment lines that say of the recipients below them, up to the next such line, whose keys they are.

``age -R`` reads them as comments.
"""


@dataclass(frozen=True)
class Recipient:
    """A public key.

    :ivar text: as ``age -r`` takes it, without comment.
    :ivar fingerprint: the first 16 hex digits of the sha256 of ``text``.
    :ivar role: what the section of the recipients file says; ``unknown`` outside of sections.
    """

    text: str
    fingerprint: str
    role: Role = "unknown"


def parse_recipient(line: str) -> Recipient:
    """Check one recipient.

    :raises ValueError: says what is wrong with it.
    """
    words = line.split()
    text = " ".join(words[:2]) if words[0] == _SSH_TYPE else line.strip()
    if words[0] == _SSH_TYPE:
        _check_ssh(words)
    elif text.startswith("age1"):
        _check_age(text)
    elif text.upper().startswith("AGE-SECRET-KEY-"):
        raise ValueError("it is a secret key, which must never lie on this host: remove it")
    else:
        raise ValueError("it is neither an age1… recipient nor an ssh-ed25519 key")
    return Recipient(text, hashlib.sha256(text.encode()).hexdigest()[:16])


def load_recipients(path: Path) -> tuple[Recipient, ...]:
    """The recipients of a file: one a line, ``#`` begins a comment line (:data:`SECTIONS`).

    A recipient that stands in both sections is in use: a key in use is no escrow key.

    :raises OpsError: ``RECIPIENTS_MISSING`` when the file cannot be read or is empty,
        ``RECIPIENT_INVALID`` with file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise _missing(f"The recipients file {path} cannot be read: {reason}.") from error
    found: dict[str, Recipient] = {}
    role: Role = "unknown"
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            role = SECTIONS.get(line.strip(), role)
            continue
        try:
            recipient = parse_recipient(line)
        except ValueError as error:
            raise OpsError(
                "RECIPIENT_INVALID",
                f"{path}, line {number} is not a recipient: {error}.",
                "Copy the public key again (age-keygen -y IDENTITY prints it), then run again.",
            ) from error
        known = found.get(recipient.text)
        if known is None or known.role != "in use":
            found[recipient.text] = dataclasses.replace(recipient, role=role)
    if not found:
        raise _missing(f"The recipients file {path} names nobody.")
    return tuple(found.values())


def backup_recipients(path: Path) -> tuple[Recipient, ...]:
    """The recipients of a file that a backup may be encrypted for: at least one is an escrow key.

    A file without sections does not say which are, so it is taken as it is.

    :raises OpsError: see :func:`load_recipients`; ``ESCROW_MISSING``.
    """
    recipients = load_recipients(path)
    if lacks_escrow(recipients):
        raise OpsError(
            "ESCROW_MISSING",
            f"The recipients file {path} names no escrow recipient: who loses the staging host "
            "loses every backup.",
            "Make a pair on a machine apart (pharma-ops keys new), put the identity into the safe and its "
            "recipient into backup_escrow_recipients (docs/keys.md).",
        )
    return recipients


def lacks_escrow(recipients: Iterable[Recipient]) -> bool:
    """Whether roles are known and none of them is escrow."""
    roles = {recipient.role for recipient in recipients}
    return "escrow" not in roles and roles != {"unknown"}


def _missing(message: str) -> OpsError:
    return OpsError(
        "RECIPIENTS_MISSING", message, "Give it one age recipient a line; without one nothing is encrypted."
    )


def _check_ssh(words: list[str]) -> None:
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error):
        raise ValueError("its ssh-ed25519 key is not base64") from None
    # RFC 8709: string "ssh-ed25519", string key of 32 bytes, each with a length of 4 bytes
    name = _SSH_TYPE.encode()
    if blob[:-32] != len(name).to_bytes(4, "big") + name + (32).to_bytes(4, "big"):
        raise ValueError("its ssh-ed25519 key is cut or garbled")


def _check_age(text: str) -> None:
    prefix, _separator, data = text.rpartition("1")
    if prefix != "age":
        raise ValueError("only age1… (X25519) recipients are known here, not plugins'")
    try:
        values = [_ALPHABET.index(letter) for letter in data]
    except ValueError:
        raise ValueError("it has a letter that no age recipient has") from None
    # 32 bytes are 52 letters of 5 bits with 4 zero bits at the end, then 6 letters of checksum
    if len(values) != 58:
        raise ValueError(f"it has {len(text)} letters instead of 62")
    if _polymod(_expanded(prefix) + values) != 1:
        raise ValueError("its checksum is wrong, so a letter was changed")
    if values[51] & 0b1111:
        raise ValueError("it does not hold 32 bytes")


def _expanded(prefix: str) -> list[int]:
    return [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]


def _polymod(values: list[int]) -> int:
    # BIP 173, "Checksum"
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum
