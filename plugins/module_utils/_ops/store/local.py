# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory as a store: an own disk, a mounted share, a test."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from ..errors import OpsError
from ..files import CHUNK_BYTES, sync_directory
from . import refusals
from .base import (
    DEFAULT_LIMIT_BYTES,
    UNPROTECTED,
    Advance,
    Counted,
    ObjectInfo,
    Protection,
    Stored,
    UploadInfo,
    arriving,
    checked_key,
)
from .throttle import Throttle

TEMPORARY_PREFIX = ".incoming."


class LocalStore:
    """See :class:`.base.ObjectStore`."""

    discards_uploads = False

    def __init__(self, root: Path, bandwidth_limit: int = 0) -> None:
        self.root = root
        self._throttle = Throttle(bandwidth_limit)
        self.description = f"directory {root}"

    def put_stream(self, key: str, chunks: Iterator[bytes]) -> Stored:
        """See :meth:`.base.ObjectStore.put_stream`."""
        target = self.root / checked_key(key)
        with self._translated(key):
            self._require_root()
            target.parent.mkdir(parents=True, exist_ok=True)
            fd, name = tempfile.mkstemp(dir=target.parent, prefix=f"{TEMPORARY_PREFIX}{target.name}.")
        temporary = Path(name)
        counted = Counted(chunks)
        try:
            # Without a buffer: on a full disk, closing it would fail once more and hide the first error.
            with os.fdopen(fd, "wb", buffering=0):
                for chunk in counted:
                    with self._translated(key):
                        self._write(fd, chunk)
                with self._translated(key):
                    os.fchmod(fd, 0o640)
                    os.fsync(fd)
            with self._translated(key):
                _place(temporary, target)
                self._sync_up(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return Stored(key=key, bytes=counted.bytes, sha256=counted.sha256)

    def put_bytes(self, key: str, data: bytes) -> Stored:
        """See :meth:`.base.ObjectStore.put_bytes`."""
        return self.put_stream(key, iter((data,)))

    def get_bytes(self, key: str, limit: int = DEFAULT_LIMIT_BYTES) -> bytes:
        """See :meth:`.base.ObjectStore.get_bytes`."""
        with self._translated(key), (self.root / checked_key(key)).open("rb") as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise refusals.too_large(f"{key} in {self.description}", limit)
        return data

    def get_file(self, key: str, path: Path, progress: Advance | None = None) -> None:
        """See :meth:`.base.ObjectStore.get_file`."""
        with self._translated(key):
            source = (self.root / checked_key(key)).open("rb")
        with source, arriving(path) as fd:
            total = os.fstat(source.fileno()).st_size
            done = 0
            while chunk := self._read(source, key):
                _write_all(fd, chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See :meth:`.base.ObjectStore.list`."""
        self._require_root()
        with self._translated(prefix.rpartition("/")[0]):
            found = sorted(self._walk(prefix), key=lambda info: info.key)
        yield from found

    def check(self) -> None:
        """See :meth:`.base.ObjectStore.check`."""
        self._require_root()
        with self._translated(""):
            os.scandir(self.root).close()

    def delete(self, key: str) -> None:
        """See :meth:`.base.ObjectStore.delete`."""
        self._remove(self.root / checked_key(key), key)

    def locked_until(self, key: str) -> datetime | None:
        """See :meth:`.base.ObjectStore.locked_until`: a directory locks nothing."""
        checked_key(key)
        return None

    def unfinished_uploads(self, prefix: str = "") -> Iterator[UploadInfo]:
        """See :meth:`.base.ObjectStore.unfinished_uploads`: what :meth:`put_stream` writes to."""
        self._require_root()
        with self._translated(prefix):
            found = sorted(self._uploads(prefix), key=lambda upload: (upload.key, upload.id))
        yield from found

    def abort_upload(self, upload: UploadInfo) -> None:
        """See :meth:`.base.ObjectStore.abort_upload`."""
        checked_key(upload.id)
        if not upload.id.startswith(TEMPORARY_PREFIX) or "/" in upload.id:
            raise ValueError(f"{upload.id!r} is not an upload of a directory")
        self._remove((self.root / checked_key(upload.key)).with_name(upload.id), upload.key)

    def protection(self) -> Protection:
        """See :meth:`.base.ObjectStore.protection`."""
        return UNPROTECTED

    def _remove(self, path: Path, key: str) -> None:
        """Remove a file and the directories that are empty then."""
        self._require_root()
        with self._translated(key):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            directory = path.parent
            while directory != self.root:
                try:
                    directory.rmdir()
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    break
                directory = directory.parent
            sync_directory(directory)

    def _uploads(self, prefix: str) -> Iterator[UploadInfo]:
        for place, entry in self._files(prefix):
            if entry.name.startswith(TEMPORARY_PREFIX):
                key = place + (entry.name.removeprefix(TEMPORARY_PREFIX).rpartition(".")[0] or "unknown")
                status = _status(entry)
                if key.startswith(prefix) and status:
                    started = datetime.fromtimestamp(status.st_mtime, tz=UTC)
                    yield UploadInfo(key=key, id=entry.name, started=started)

    def _write(self, fd: int, chunk: bytes) -> None:
        view = memoryview(chunk)
        step = self._throttle.chunk_bytes if self._throttle.rate else len(chunk)
        while view:
            self._throttle.wait(len(view[:step]))
            _write_all(fd, view[:step])
            view = view[step:]

    def _read(self, source: BinaryIO, key: str) -> bytes:
        with self._translated(key):
            return source.read(CHUNK_BYTES)

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        for place, entry in self._files(prefix):
            key = place + entry.name
            if entry.name.startswith(TEMPORARY_PREFIX) or not key.startswith(prefix):
                continue
            status = _status(entry)
            if status:
                modified = datetime.fromtimestamp(status.st_mtime, tz=UTC)
                yield ObjectInfo(key=key, bytes=status.st_size, modified=modified)

    def _files(self, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Every file below the directory of ``prefix``, and the directory as keys begin with it."""
        beginning, slash, _rest = prefix.rpartition("/")
        waiting = [beginning + slash]
        while waiting:
            place = waiting.pop()
            with contextlib.suppress(FileNotFoundError), os.scandir(self.root / place) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{place}{entry.name}/")
                    else:
                        yield place, entry

    def _require_root(self) -> None:
        if not self.root.is_dir():
            raise OpsError(
                "STORE_UNREACHABLE",
                f"The store's {self.description} does not exist.",
                "Mount or create it; it is not created here, so that an unmounted disk is noticed.",
            )

    def _sync_up(self, directory: Path) -> None:
        while True:
            sync_directory(directory)
            if directory == self.root:
                return
            directory = directory.parent

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(error, key) from error

    def _error(self, error: OSError, key: str) -> OpsError:
        what = f"{key} in {self.description}" if key else self.description
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return OpsError(
                "STORE_FULL",
                f"No space is left for {what}.",
                "Free space or enlarge the disk, then run again.",
            )
        if error.errno == errno.EEXIST:
            return refusals.exists(what)
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return refusals.missing(what)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return OpsError(
                "STORE_ACCESS_DENIED",
                f"{what} refuses this account: {error.strerror}.",
                "Compare the directory's owner and mode with the account that runs this job.",
            )
        return OpsError(
            "STORE_UNREACHABLE", f"{what} fails: {error.strerror or error}.", "Check the disk or mount."
        )


def _place(temporary: Path, target: Path) -> None:
    """Give a complete file its final name, which must be free.

    A hard link fails when the name is taken, where a rename would silently replace. Shares that know
    no hard links (CIFS) get a rename after a look.
    """
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, "File exists", str(target)) from error
        temporary.replace(target)


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """What is known of a file, None when it is gone since it was listed."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return None
