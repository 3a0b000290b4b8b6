# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every store of backup sets can do."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from ..errors import OpsError
from ..files import sync_directory

DEFAULT_LIMIT_BYTES = 64 << 20


class Advance(Protocol):
    """Called with the bytes done so far and the bytes in all (None: unknown)."""

    def __call__(self, done: int, total: int | None, /) -> None:
        """Take note."""


_KEY = re.compile(r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An object that was stored whole.

    :ivar key: as the caller gave it, without the store's own prefix.
    :ivar bytes: its size.
    :ivar sha256: hex digest of the bytes as they were read from the caller.
    :ivar etag: what the store calls this content; empty for a directory.
    """

    key: str
    bytes: int
    sha256: str
    etag: str = ""


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """One line of a listing; ``modified`` is aware, in UTC."""

    key: str
    bytes: int
    modified: datetime


class ObjectStore(Protocol):
    """Keys are relative paths of plain words (letters, digits, ``.``, ``_``, ``-``, ``/``).

    Every method raises ``OpsError`` with a code that begins with ``STORE_``.
    """

    description: str
    """``s3://bucket/prefix at https://…`` or ``directory /path``, for messages."""

    def put_stream(self, key: str, chunks: Iterator[bytes]) -> Stored:
        """Store what the iterator yields; needs the right to put and nothing else.

        Nothing stands under ``key`` unless the iterator ended without an exception and everything it
        yielded has arrived. An exception of the iterator is passed on as it is.

        :raises OpsError: ``STORE_OBJECT_EXISTS`` when the store can tell that the key is taken.
        """

    def put_bytes(self, key: str, data: bytes) -> Stored:
        """Store a small object; the same promises as :meth:`put_stream`."""

    def get_bytes(self, key: str, limit: int = DEFAULT_LIMIT_BYTES) -> bytes:
        """The content of a small object.

        :raises OpsError: ``STORE_OBJECT_MISSING``; ``STORE_OBJECT_TOO_LARGE`` above ``limit`` bytes.
        """

    def get_file(self, key: str, path: Path, progress: Advance | None = None) -> None:
        """Bring an object into a file; ``path`` appears only when it is whole and synced.

        :raises OpsError: ``STORE_OBJECT_MISSING``.
        """

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The objects whose key begins with ``prefix``, in the order of their keys."""

    def check(self) -> None:
        """Whether the store answers, knows the credentials and has the bucket or directory.

        It says nothing of what the identity may do there: a writer may not even list.
        """


def checked_key(key: str) -> str:
    """Return ``key`` when it is safe as a path and as an object name.

    :raises ValueError: it is not, which is a defect of the caller.
    """
    if not _KEY.fullmatch(key) or ".." in key.split("/"):
        raise ValueError(f"{key!r} is not a key of an object store")
    return key


@contextlib.contextmanager
def arriving(path: Path) -> Iterator[int]:
    """A descriptor to write a file by that gets the name ``path`` when the block ends well.

    :raises OpsError: ``DISK_FULL`` or ``FILE_NOT_WRITABLE``; names ``path``.
    """
    temporary: Path | None = None
    try:
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(fd, "wb", buffering=0):
            yield fd
            os.fsync(fd)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OpsError(
                "DISK_FULL",
                f"No space is left on this host for {path}.",
                "Free space or name another directory, then run again.",
            ) from error
        raise OpsError(
            "FILE_NOT_WRITABLE",
            f"{path} cannot be written: {error.strerror or error}.",
            "Check its directory.",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
