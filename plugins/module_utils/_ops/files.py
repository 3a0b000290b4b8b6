# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are whole or not there: written beside, synced, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import OpsError

CHUNK_BYTES = 1 << 20


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the whole new one.

    :raises OpsError: ``FILE_NOT_WRITTEN``; the file under ``path`` is as it was.
    """
    with _refused(f"{path} could not be written", "nothing was overwritten"):
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with placed(Path(name), path), os.fdopen(fd, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())


def link_atomic(path: Path, target: Path) -> None:
    """Make ``path`` a link to ``target`` so that whoever follows it meets the old target or the new one.

    :raises OpsError: ``FILE_NOT_WRITTEN``; the link is as it was.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with _refused(f"The link {path} could not be set to {target}", "the link is as it was"):
        beside.unlink(missing_ok=True)
        with placed(beside, path):
            beside.symlink_to(target)


@contextlib.contextmanager
def placed(beside: Path, path: Path) -> Iterator[None]:
    """Give what the block makes of ``beside`` the name ``path``, durably; remove it when the block fails.

    :raises OSError: it cannot be renamed.
    """
    try:
        yield
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


@contextlib.contextmanager
def _refused(what: str, kept: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OpsError(
            "FILE_NOT_WRITTEN",
            f"{what}: {error.strerror or error}.",
            f"Check the free space and the permissions of its directory; {kept}.",
        ) from error


def sync_directory(path: Path) -> None:
    """Make renames and unlinks in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sha256_of(path: Path) -> str:
    """The hex sha256 of a file's content, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
