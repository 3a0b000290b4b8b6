# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption and decryption as children of ``age``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import OpsError
from ..files import CHUNK_BYTES, placed
from ..process import Child, secret_file
from .recipients import Recipient, load_recipients

__all__ = [
    "Decrypted",
    "Recipient",
    "decrypt_file",
    "decrypt_stream",
    "encrypt",
    "encrypt_stream",
    "encryptor",
    "load_recipients",
]

_JOIN_SECONDS = 5.0


@dataclass(frozen=True)
class Decrypted:
    """The plaintext of a file: its size and its hex sha256."""

    bytes: int
    sha256: str


def encryptor(recipients: Sequence[Recipient], stdin: int | IO[bytes] = subprocess.PIPE) -> Child:
    """A running ``age`` that encrypts its standard input for all recipients to its standard output.

    End of input is what tells age that the plaintext is complete, so whoever feeds it must end the
    child, not close the pipe, when the producer fails.
    """
    if not recipients:
        raise ValueError("nobody to encrypt for")
    words = [word for recipient in recipients for word in ("-r", recipient.text)]
    return Child(["age", "--encrypt", *words], stdin=stdin, stdout=subprocess.PIPE)


def encrypt_stream(recipients: Sequence[Recipient], chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The ciphertext of what ``chunks`` yields; ``chunks`` is read in a thread of its own.

    The stream ends normally only when ``chunks`` ended normally and age ended with 0. An exception
    of ``chunks`` is raised here as it is, and age is ended before it could complete its output.

    :raises OpsError: ``ENCRYPTION_FAILED``, ``PROGRAM_MISSING``.
    """
    with encryptor(recipients) as child:
        feeder = _Feeder(child, chunks)
        try:
            while chunk := child.stdout.read(CHUNK_BYTES):
                yield chunk
        except BaseException:
            # The consumer leaves early; the feeder must not wait for a pipe that nobody reads.
            child.kill()
            feeder.thread.join(_JOIN_SECONDS)
            raise
        feeder.thread.join()
        if feeder.error is not None:
            child.end()
            raise feeder.error
        child.check("ENCRYPTION_FAILED", "Check the recipients and the memory of this host.")


def encrypt(recipients: Sequence[Recipient], data: bytes) -> bytes:
    """The ciphertext of something small."""
    return b"".join(encrypt_stream(recipients, iter((data,))))


class _Feeder:
    """Writes chunks into a child's standard input in a thread and keeps the producer's exception."""

    def __init__(self, child: Child, chunks: Iterator[bytes]) -> None:
        self._child = child
        self._chunks = chunks
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="encrypt-feeder", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for chunk in self._chunks:
                self._child.stdin.write(chunk)
            self._child.stdin.close()
        except BrokenPipeError:
            # age has ended; its exit status tells why
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer
            self.error = error
            self._child.kill()


def decrypt_stream(identity: Path | bytes, source: Path) -> Iterator[bytes]:
    """The plaintext of a file. What was yielded is only whole when the iterator ends normally.

    :param identity: the file of an age identity, or its content.
    :raises OpsError: ``IDENTITY_MISSING``, ``IDENTITY_INVALID``, ``IDENTITY_WRONG``,
        ``CIPHERTEXT_DAMAGED``, ``DECRYPTION_FAILED``, ``PROGRAM_MISSING``.
    """
    with (
        _identity_file(identity) as (path, fds),
        source.open("rb") as ciphertext,
        Child(
            ["age", "--decrypt", "-i", path], stdin=ciphertext, stdout=subprocess.PIPE, pass_fds=fds
        ) as child,
    ):
        try:
            while chunk := child.stdout.read(CHUNK_BYTES):
                yield chunk
        except GeneratorExit:
            child.end()
            raise
        if child.wait() != 0:
            raise _decryption_error(child, source, identity)


def decrypt_file(
    identity: Path | bytes,
    source: Path,
    target: Path,
    *,
    mode: int = 0o600,
    progress: Callable[[int], None] | None = None,
) -> Decrypted:
    """Decrypt ``source`` into ``target``, which appears only when all of it is authentic and written.

    :param progress: called with the bytes of plaintext so far.
    :raises OpsError: see :func:`decrypt_stream`; ``DISK_FULL``.
    """
    digest = hashlib.sha256()
    total = 0
    fd, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    with placed(Path(name), target), os.fdopen(fd, "wb") as stream:
        for chunk in decrypt_stream(identity, source):
            _write(stream, chunk, target)
            digest.update(chunk)
            total += len(chunk)
            if progress:
                progress(total)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
    return Decrypted(total, digest.hexdigest())


def _write(stream: IO[bytes], chunk: bytes, target: Path) -> None:
    try:
        stream.write(chunk)
    except OSError as error:
        raise OpsError(
            "DISK_FULL",
            f"The plaintext {target} cannot be written: {error.strerror}.",
            "Give the directory more space, then run again.",
        ) from error


@contextlib.contextmanager
def _identity_file(identity: Path | bytes) -> Iterator[tuple[Path, tuple[int, ...]]]:
    fds: tuple[int, ...] = ()
    with contextlib.ExitStack() as stack:
        if isinstance(identity, bytes):
            path, fd = stack.enter_context(secret_file(identity))
            fds = (fd,)
        else:
            path = _readable(identity)
        yield path, fds


def _readable(identity: Path) -> Path:
    try:
        identity.open("rb").close()
    except OSError as error:
        raise OpsError(
            "IDENTITY_MISSING",
            f"The decryption key {identity} cannot be read: {error.strerror}.",
            "Put the age identity of this host there, readable by the account that runs this.",
        ) from error
    return identity


def _decryption_error(child: Child, source: Path, identity: Path | bytes) -> OpsError:
    """What age's last words mean (its messages are stable since 1.0)."""
    words = child.stderr_tail
    name = str(identity) if isinstance(identity, Path) else "that was given"
    if "no identity matched" in words:
        return OpsError(
            "IDENTITY_WRONG",
            f"{source} was not encrypted for the key {name}.",
            "Use a key whose recipient the manifest names, the offline escrow key if need be.",
        )
    if 'reading "' in words or "identit" in words:
        return OpsError(
            "IDENTITY_INVALID",
            f"The decryption key {name} is not an age identity.",
            "It must hold a line that begins with AGE-SECRET-KEY-1.",
        )
    damaged = ("failed to decrypt and authenticate", "unexpected EOF", "parsing age header", "bad header MAC")
    if any(sign in words for sign in damaged) or "failed to read header" in words:
        return OpsError(
            "CIPHERTEXT_DAMAGED",
            f"{source} is damaged or cut: age refuses it.",
            "Fetch it again; if its digest differs from the manifest's, take an earlier backup.",
        )
    return OpsError(
        "DECRYPTION_FAILED",
        f"{source} cannot be decrypted: {words.strip() or 'age printed no reason'}",
        "Try it by hand with: age -d -i IDENTITY FILE.",
    )
