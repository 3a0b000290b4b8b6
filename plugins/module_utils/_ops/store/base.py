# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every store of backup sets can do."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ..errors import OpsError
from ..files import placed

DEFAULT_LIMIT_BYTES = 64 << 20
# What an upload may hold in memory; whoever uploads to several stores at once shares it out.
UPLOAD_BUDGET_BYTES = 96 << 20
NO_END = datetime.max.replace(tzinfo=UTC)


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


@dataclass(frozen=True, kw_only=True)
class UploadInfo:
    """An upload that was begun and neither completed nor aborted: one under way, or what a killed one left.

    :ivar key: the object that it would have become, without the store's own prefix.
    :ivar id: what the store calls the upload.
    :ivar started: aware, in UTC; in a directory the moment of the last write.
    """

    key: str
    id: str
    started: datetime


@dataclass(frozen=True, kw_only=True)
class Protection:
    """What keeps a store's objects from being removed or replaced; None where this identity may not ask.

    :ivar versioning: whether a delete or an overwrite leaves the version before it.
    :ivar locking: whether the store can lock an object (S3: Object Lock of the bucket).
    :ivar lock_mode: the mode that an upload which asks for none gets: ``GOVERNANCE``, ``COMPLIANCE`` or empty.
    :ivar lock_days: the days that go with it; 0 without such a default.
    """

    versioning: bool | None
    locking: bool | None
    lock_mode: str | None
    lock_days: int | None


UNPROTECTED = Protection(versioning=False, locking=False, lock_mode="", lock_days=0)


class ObjectStore(Protocol):
    """Keys are relative paths of plain words (letters, digits, ``.``, ``_``, ``-``, ``/``).

    Every method raises ``OpsError`` with a code that begins with ``STORE_``.
    """

    description: str
    """``s3://bucket/prefix at https://…`` or ``directory /path``, for messages."""

    discards_uploads: bool
    """Whether the store itself removes unfinished uploads in time, so that nobody else has to, or can."""

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

    def delete(self, key: str) -> None:
        """Remove every version of an object; one that is missing is no error.

        Needs the rights to list versions and to delete, and none to put. An interrupted removal leaves
        the newest version in its place or nothing, never an older one.

        :raises OpsError: ``STORE_OBJECT_LOCKED`` when the store keeps a version, before any is removed;
            ``STORE_ACCESS_DENIED`` when the identity may not.
        """

    def locked_until(self, key: str) -> datetime | None:
        """Until when the store itself refuses to delete some version of the object; None: it does not.

        Aware, in UTC, and in the future; ``NO_END`` for a legal hold.
        """

    def unfinished_uploads(self, prefix: str = "") -> Iterator[UploadInfo]:
        """The uploads that are neither completed nor aborted, of keys that begin with ``prefix``.

        Those that run at this moment are among them: ``started`` tells.
        """

    def abort_upload(self, upload: UploadInfo) -> None:
        """Remove what an unfinished upload has sent; one that is gone by now is no error."""

    def protection(self) -> Protection:
        """What keeps the objects from being removed."""


def checked_key(key: str) -> str:
    """Return ``key`` when it is safe as a path and as an object name.

    :raises ValueError: it is not, which is a defect of the caller.
    """
    if not _KEY.fullmatch(key) or ".." in key.split("/"):
        raise ValueError(f"{key!r} is not a key of an object store")
    return key


class Counted:
    """Passes chunks on and knows their number of bytes and their digest afterwards."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._digest = hashlib.sha256()
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._digest.update(chunk)
            self.bytes += len(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        """Hex digest of what has passed."""
        return self._digest.hexdigest()


@contextlib.contextmanager
def arriving(path: Path) -> Iterator[int]:
    """A descriptor to write a file by that gets the name ``path`` when the block ends well.

    :raises OpsError: ``DISK_FULL`` or ``FILE_NOT_WRITABLE``; names ``path``.
    """
    try:
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with placed(Path(name), path), os.fdopen(fd, "wb", buffering=0):
            yield fd
            os.fsync(fd)
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
