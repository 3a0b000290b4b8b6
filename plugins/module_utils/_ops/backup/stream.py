# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs whose output is backed up, and the way of that output into the store."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import OpsError
from ..files import CHUNK_BYTES
from ..postgres.connection import LOCK_TIMEOUT_SECONDS, Target, libpq_environment
from ..process import Child
from ..sealing.age import encrypt_stream
from ..sealing.recipients import Recipient
from .fanout import Fanout
from .manifest import ObjectEntry

_COMPRESSION = re.compile(r"none|(gzip|lz4|zstd)(:[0-9]+)?")
FIRST_MAJOR_WITH_ZSTD = 16


@dataclass
class Tally:
    """Size in bytes and digest of a plaintext while it passes."""

    size: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, chunk: bytes) -> None:
        """Count a chunk in."""
        self.size += len(chunk)
        self.digest.update(chunk)


def compression(wanted: str, dump_major: int) -> str:
    """The compression of a dump: what is configured, or for ``auto`` the fastest that there is.

    zstd:1 was measured faster and smaller than zstd:3 and gzip on such data; before version 16
    pg_dump knows gzip alone.

    :param wanted: ``auto``, ``none``, ``gzip:1``, ``zstd:3``, ``lz4``…
    :raises OpsError: ``CONFIG_INVALID``.
    """
    if wanted == "auto":
        return "zstd:1" if dump_major >= FIRST_MAJOR_WITH_ZSTD else "gzip:1"
    if not _COMPRESSION.fullmatch(wanted):
        raise OpsError(
            "CONFIG_INVALID",
            f"backup.compression {wanted!r} is unknown.",
            "Use auto, none, gzip:LEVEL, lz4:LEVEL or zstd:LEVEL.",
        )
    if dump_major < FIRST_MAJOR_WITH_ZSTD and wanted.startswith(("zstd", "lz4")):
        raise OpsError(
            "CONFIG_INVALID",
            f"backup.compression {wanted} needs pg_dump 16 or newer; this host has {dump_major}.",
            "Use auto or gzip:LEVEL.",
        )
    return wanted


def dump_command(program: Path, snapshot_id: str, method: str, dump_major: int) -> list[str | Path]:
    """``pg_dump`` in custom format to its standard output, in an exported snapshot."""
    if dump_major < FIRST_MAJOR_WITH_ZSTD:
        method = "0" if method == "none" else (method.partition(":")[2] or "6")
    return [
        program,
        "--format=custom",
        f"--compress={method}",
        f"--snapshot={snapshot_id}",
        f"--lock-wait-timeout={LOCK_TIMEOUT_SECONDS}s",
        "--no-password",
    ]


def globals_command(program: Path, target: Target) -> list[str | Path]:
    """``pg_dumpall`` for roles, memberships, settings and tablespaces, without any password.

    It connects to the backed-up database, the one that the role may surely connect to.
    """
    return [
        program,
        "--globals-only",
        "--no-role-passwords",
        "--no-password",
        f"--lock-wait-timeout={LOCK_TIMEOUT_SECONDS}s",
        f"--database={target.dbname}",
    ]


def output_of(
    command: Sequence[str | Path], target: Target, tally: Tally, advance: Callable[[int], None]
) -> Iterator[bytes]:
    """What a program prints, in chunks; ends normally only when the program ended with 0.

    :param advance: called with the bytes so far.
    :raises OpsError: ``DUMP_FAILED`` with the program's last words.
    """
    with (
        libpq_environment(target) as (env, fds),
        Child(command, stdout=subprocess.PIPE, env=env, pass_fds=fds) as child,
    ):
        try:
            while chunk := child.stdout.read(CHUNK_BYTES):
                tally.add(chunk)
                yield chunk
                advance(tally.size)
        except GeneratorExit:
            child.end()
            raise
        child.check(
            "DUMP_FAILED",
            "Read the server's log; no manifest was written, so this backup does not exist.",
            f"{child.name} of {target.description}",
        )


def put_sealed(
    fanout: Fanout,
    key: str,
    recipients: Sequence[Recipient],
    chunks: Iterator[bytes],
    tally: Tally,
) -> ObjectEntry:
    """Encrypt a stream once into all stores, without a copy on this host.

    Nothing stands under ``key`` when the stream or the encryption fails, nor in a store that fails.
    """
    stored = fanout.put_stream(key, encrypt_stream(recipients, chunks))
    return ObjectEntry(
        name=key.rpartition("/")[2],
        bytes=stored.bytes,
        sha256=stored.sha256,
        plaintext_bytes=tally.size,
        plaintext_sha256=tally.digest.hexdigest(),
    )
