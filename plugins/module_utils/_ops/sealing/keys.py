# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secret halves: age identities made, read, added to an identity file and removed from it.

An identity file holds one ``AGE-SECRET-KEY-1…`` a line. The comment lines above one belong to it;
``# created: <RFC 3339>`` is what age-keygen writes there. No message and no ``repr`` holds a secret.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from .. import _deps, clock, process
from ..errors import OpsError
from ..files import sync_directory, write_atomic
from .recipients import Recipient, parse_recipient

_SECRET = re.compile(r"AGE-SECRET-KEY-1[A-Z0-9]+")
_CREATED = re.compile(r"^#\s*created:\s*(\S+)\s*$", re.MULTILINE)
_SSH_START = "-----BEGIN OPENSSH PRIVATE KEY-----"
_SEALED_STARTS = ("age-encryption.org/v1", "-----BEGIN AGE ENCRYPTED FILE-----")
_LIMIT_BYTES = 1 << 20
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One key of an identity file.

    :ivar recipient: its public half.
    :ivar text: its lines in the file, comments and secret, with a line feed at the end.
    :ivar created_at: what its comment says.
    """

    recipient: Recipient
    text: str = field(repr=False)
    created_at: datetime | None = None

    @property
    def fingerprint(self) -> str:
        """The fingerprint of its recipient, as manifests name it."""
        return self.recipient.fingerprint

    @property
    def secret(self) -> bytes:
        """The content of an identity file with this key alone."""
        return self.text.encode()


def generate(comment: str = "") -> Identity:
    """A new key pair, made by ``age-keygen``; nothing of it is on a disk.

    :param comment: one line that goes above the key.
    :raises OpsError: ``ARGUMENT_INVALID`` for a comment of several lines; ``PROGRAM_MISSING``.
    """
    if not comment.isprintable():
        raise OpsError(
            "ARGUMENT_INVALID", "The comment of a key is more than one line of text.", "Shorten it."
        )
    made = process.run(
        ["age-keygen"], timeout=_TIMEOUT_SECONDS, code="KEY_NOT_MADE", action="Check age-keygen."
    )
    text = (f"# {comment}\n" if comment else "") + made.stdout.decode()
    (identity,) = parse_identities(text, "that age-keygen made")
    return identity


def read_identities(source: Path | bytes) -> tuple[Identity, ...]:
    """The keys of an identity file, or of its content.

    :raises OpsError: ``IDENTITY_MISSING``, ``IDENTITY_EXPOSED`` when others than its owner may read the file,
        ``IDENTITY_INVALID`` with the number of the line, ``PROGRAM_MISSING``.
    """
    if isinstance(source, bytes):
        return parse_identities(_text(source, "that was given"), "that was given")
    try:
        with source.open("rb") as stream:
            status = os.fstat(stream.fileno())
            data = stream.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise OpsError(
            "IDENTITY_MISSING",
            f"The decryption key {source} cannot be read: {error.strerror}.",
            "Put the age identity of this host there, readable by the account that runs this.",
        ) from error
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
        raise OpsError(
            "IDENTITY_EXPOSED",
            f"The decryption key {source} may be read by others than its owner "
            f"(mode {stat.S_IMODE(status.st_mode):04o}).",
            f"chmod 600 {source}; if somebody may have read it, rotate it (docs/keys.md).",
        )
    return parse_identities(_text(data, str(source)), str(source))


def parse_identities(text: str, name: str) -> tuple[Identity, ...]:
    """The keys of an identity file's content.

    :param name: what messages call it.
    :raises OpsError: ``IDENTITY_INVALID``; it never quotes a line.
    """
    if text.startswith(_SEALED_STARTS):
        raise _invalid(
            name, "is itself encrypted by a passphrase", "Open it on the way: age -d KEY.age | … --identity -"
        )
    if text.startswith(_SSH_START):
        return (Identity(recipient=_ssh_recipient(text, name), text=text),)
    blocks = _blocks(text, name)
    if not blocks:
        raise _invalid(name, "holds no age identity")
    publics = _publics([_SECRET.findall(block)[-1] for block in blocks], name)
    found: dict[str, Identity] = {}
    for block, public in zip(blocks, publics, strict=True):
        created = _CREATED.search(block)
        identity = Identity(
            recipient=parse_recipient(public), text=block, created_at=_moment(created[1]) if created else None
        )
        found.setdefault(identity.fingerprint, identity)
    return tuple(found.values())


def opener(
    identities: Iterable[Identity], fingerprints: Collection[str], what: str, name: str = "given"
) -> Identity:
    """The key that opens what was encrypted for some recipients: of several the last in the file.

    Decrypting with this one alone shows that it is the one that opens.

    :param fingerprints: of the recipients.
    :param what: what was encrypted, for the message.
    :raises OpsError: ``IDENTITY_WRONG``.
    """
    known = tuple(identities)
    fitting = [identity for identity in known if identity.fingerprint in fingerprints]
    if not fitting:
        ours = ", ".join(identity.fingerprint for identity in known)
        raise OpsError(
            "IDENTITY_WRONG",
            f"{what} was encrypted for the recipients {', '.join(fingerprints)}; the key {name} has {ours}.",
            "Use a key whose recipient the manifest names (pharma-ops keys list). A key opens only sets made "
            "after its recipient was added.",
        )
    return fitting[-1]


def write_new(path: Path, identity: Identity) -> None:
    """Write a key into a file of its own, mode 0600, whole or not at all; an existing file is left alone.

    :raises OpsError: ``KEY_FILE_EXISTS``, ``FILE_NOT_WRITTEN``.
    """
    try:
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        beside = Path(name)
        try:
            with os.fdopen(fd, "wb") as stream:
                stream.write(identity.secret)
                stream.flush()
                os.fsync(stream.fileno())
            os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        sync_directory(path.parent)
    except FileExistsError as error:
        raise exists(path) from error
    except OSError as error:
        raise OpsError(
            "FILE_NOT_WRITTEN",
            f"{path} could not be written: {error.strerror or error}.",
            "Name a file in an existing directory with free space; no key was made.",
        ) from error


def exists(path: Path) -> OpsError:
    """The refusal to overwrite a key."""
    return OpsError(
        "KEY_FILE_EXISTS",
        f"{path} exists already; a key is never overwritten.",
        "Name another file, or move the old one away when nothing needs it any more.",
    )


def add(path: Path, identity: Identity) -> tuple[Identity, ...]:
    """Append a key to an identity file, which is replaced as a whole; returns all keys that are in it then.

    :raises OpsError: see :func:`read_identities`; ``FILE_NOT_WRITTEN``.
    """
    return _rewrite(path, [*read_identities(path), identity])


def remove(path: Path, fingerprint: str) -> tuple[Identity, ...]:
    """Take a key out of an identity file, which is replaced as a whole; returns the keys that are left.

    Whether anything still needs it is the caller's to know.

    :raises OpsError: see :func:`read_identities`; ``KEY_UNKNOWN``, ``KEY_LAST``.
    """
    known = read_identities(path)
    left = [identity for identity in known if identity.fingerprint != fingerprint]
    if len(left) == len(known):
        raise OpsError(
            "KEY_UNKNOWN",
            f"{path} has no key {fingerprint} (it has {', '.join(item.fingerprint for item in known)}).",
            "pharma-ops keys list shows the keys of this host.",
        )
    if not left:
        raise OpsError(
            "KEY_LAST",
            f"{fingerprint} is the only key in {path}.",
            "Rotate first: pharma-ops keys rotate.",
        )
    return _rewrite(path, left)


def _rewrite(path: Path, identities: Iterable[Identity]) -> tuple[Identity, ...]:
    text = "".join(identity.text for identity in identities)
    written = parse_identities(text, str(path))
    for leftover in path.parent.glob(f".{path.name}.*"):
        # What a killed run left beside it is a copy of the keys.
        leftover.unlink(missing_ok=True)
    write_atomic(path, text.encode(), mode=0o600)
    return written


def _blocks(text: str, name: str) -> list[str]:
    """The lines of each key, comments first."""
    blocks: list[str] = []
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.strip()
        if words and not words.startswith("#") and not _SECRET.fullmatch(words):
            raise _invalid(name, f"has a line that is no age identity: line {number}")
        if words:
            lines.append(words)
        if words and not words.startswith("#"):
            blocks.append("\n".join(lines) + "\n")
            lines = []
    return blocks


def _publics(secrets: list[str], name: str) -> list[str]:
    """The recipients of secret keys, in order."""
    data = "".join(f"{secret}\n" for secret in secrets).encode()
    ended = process.run(["age-keygen", "-y"], input=data, timeout=_TIMEOUT_SECONDS, check=False)
    publics = ended.stdout.decode().split()
    if ended.returncode != 0 or len(publics) != len(secrets):
        raise _invalid(name, "has an age identity whose letters were changed")
    return publics


def _ssh_recipient(text: str, name: str) -> Recipient:
    serialization = _deps.load("cryptography.hazmat.primitives.serialization")
    unsupported = _deps.load("cryptography.exceptions").UnsupportedAlgorithm
    try:
        key = serialization.load_ssh_private_key(text.encode(), password=None)
        line: str = (
            key.public_key()
            .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
            .decode()
        )
        return parse_recipient(line)
    except (ValueError, TypeError, unsupported) as error:
        raise _invalid(name, "is an ssh key that is no ssh-ed25519 key without passphrase") from error


def _text(data: bytes, name: str) -> str:
    try:
        if len(data) <= _LIMIT_BYTES:
            return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    raise _invalid(name, "is no text file of a sensible size")


def _moment(text: str) -> datetime | None:
    try:
        return clock.from_text(text)
    except ValueError:
        return None


def _invalid(name: str, what: str, action: str = "") -> OpsError:
    return OpsError(
        "IDENTITY_INVALID",
        f"The decryption key {name} {what}.",
        action or "It must hold a line that begins with AGE-SECRET-KEY-1.",
    )
