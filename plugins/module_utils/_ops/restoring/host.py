# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host must have for a set to be restored on it: programs, extensions, locale, disk, keys."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from .. import process
from ..backup.manifest import Manifest
from ..postgres import programs
from ..sealing import keys
from .runner import Report

SERVER_PROGRAMS = ("initdb", "pg_ctl", "postgres", "pg_restore", "psql", "pg_amcheck")
# A database with its indexes is rarely more than five or six times its compressed dump.
RESTORED_PER_DUMP_BYTE = 8
SPARE_BYTES = 512 << 20


def server(server_version: int, report: Report, *, newer_will_do: bool = False) -> Path:
    """The directory of the server's programs in the version of the source.

    :param server_version: ``server_version_num`` of the source.
    :raises OpsError: ``PROGRAM_MISSING``, ``PROGRAM_TOO_OLD``.
    """
    wanted = programs.major_of(server_version)
    found = {name: programs.find(name, server_version) for name in SERVER_PROGRAMS}
    bin_dir = found["postgres"].parent
    major = programs.major_of_program(found["postgres"])
    fits = major >= wanted if newer_will_do else major == wanted
    report.check(
        "PostgreSQL of the source's version",
        True if fits else None,
        f"PostgreSQL {wanted}" + (" or newer" if newer_will_do else ""),
        f"PostgreSQL {major} in {bin_dir}",
    )
    report.facts["serverMajor"] = major
    return bin_dir


def extensions(wanted: Iterable[str], bin_dir: Path, report: Report) -> None:
    """Whether extensions can be installed."""
    wanted = sorted(wanted)
    shared = process.run([bin_dir / "pg_config", "--sharedir"], timeout=30).stdout.decode().strip()
    missing = [name for name in wanted if not (Path(shared) / "extension" / f"{name}.control").is_file()]
    report.check(
        "extensions can be installed",
        None if missing else True,
        ", ".join(wanted) or "none needed",
        f"missing: {', '.join(missing)}" if missing else "all there",
    )


def locale(names: Iterable[str], report: Report) -> None:
    """Whether the host knows locales; empty names are none."""
    wanted = set(names) - {""}
    known = {_canonical(line) for line in process.run(["locale", "-a"], timeout=30).stdout.decode().split()}
    missing = sorted(name for name in wanted if _canonical(name) not in known)
    report.check(
        "locale of the source",
        None if missing else True,
        ", ".join(sorted(wanted)) or "any",
        f"not on this host: {', '.join(missing)} (install locales-all)" if missing else "there",
    )


def _canonical(name: str) -> str:
    """``pt_BR.UTF-8`` and ``pt_BR.utf8`` are one locale."""
    name, _dot, codeset = name.partition(".")
    return f"{name}.{codeset.lower().replace('-', '')}" if codeset else name


def disk(place: Path, shown: Path, copies: int, dump_bytes: int, report: Report) -> None:
    """Whether the estimated need of a restore is free.

    :param place: where it happens; ``shown`` is how the check names it.
    :param copies: bytes of the files that lie beside the cluster.
    :param dump_bytes: size of the plain dump.
    """
    needed_bytes = copies + dump_bytes * RESTORED_PER_DUMP_BYTE + SPARE_BYTES
    free = shutil.disk_usage(place).free
    report.facts |= {"neededBytes": needed_bytes, "freeBytes": free}
    report.check(
        f"free disk for {shown}",
        True if free >= needed_bytes else None,
        f"at least {needed_bytes} bytes (estimated)",
        f"{free} bytes",
    )


def opening_key(identity: Path | bytes, manifest: Manifest, report: Report) -> None:
    """Look whether a key opens a set before the set is fetched.

    :param identity: an identity file, or its content.
    :raises OpsError: ``IDENTITY_WRONG``, ``IDENTITY_INVALID``, ``IDENTITY_EXPOSED``.
    """
    if isinstance(identity, Path):
        key("decryption key", identity, report)
        if report.checks[-1].verdict != "passed":
            return
    name = str(identity) if isinstance(identity, Path) else "that was given"
    opener = keys.opener(
        keys.read_identities(identity), manifest.recipients, f"The backup {manifest.id}", name
    )
    report.check(
        "a recipient of the backup has this key",
        True,
        f"one of {', '.join(manifest.recipients)}",
        opener.fingerprint,
    )


def key(name: str, path: Path, report: Report) -> None:
    """Whether the file of a key can be read."""
    readable = path.is_file() and os.access(path, os.R_OK)
    report.check(name, True if readable else None, f"{path} readable", "yes" if readable else "no")
