# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock per job that names its holder, released by the kernel when the holder dies."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import clock
from .errors import OpsError


@contextmanager
def held(lock_dir: Path, job: str, run_id: str) -> Iterator[None]:
    """Hold ``<lock_dir>/<job>.lock`` for the length of the block.

    :raises OpsError: ``LOCK_HELD``; the message names the holder's run, process and start.
        ``LOCK_UNAVAILABLE``: the lock file cannot be made.
    """
    path = lock_dir / f"{job}.lock"
    try:
        lock_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OpsError(
            "LOCK_UNAVAILABLE",
            f"The lock {path} cannot be opened: {error.strerror}.",
            "Run as the account that runs the timers (root), or correct lock_dir in the configuration.",
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OpsError(
                "LOCK_HELD",
                f"{job} is already running: {_holder(fd)} holds {path}.",
                "Wait until it ends, or stop that process if it hangs.",
            ) from None
        holder = {"runId": run_id, "pid": os.getpid(), "since": clock.to_text(clock.now())}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(fd)


def _holder(fd: int) -> str:
    try:
        holder = json.loads(os.pread(fd, 4096, 0))
        return f"run {holder['runId']} (process {holder['pid']}, since {holder['since']})"
    except (ValueError, KeyError, TypeError):
        return "another run"
