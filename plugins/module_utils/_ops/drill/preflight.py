# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage ``preflight``: what would otherwise fail half-way is looked at before anything is fetched."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from .. import process
from ..backup.manifest import Release as ManifestRelease
from ..errors import OpsError
from ..journey import spec
from ..postgres import programs
from .context import Drill, Release, needed
from .runner import Report

SERVER_PROGRAMS = ("initdb", "pg_ctl", "postgres", "pg_restore", "psql", "pg_amcheck")
# A database with its indexes is rarely more than five or six times its compressed dump.
RESTORED_PER_DUMP_BYTE = 8
SPARE_BYTES = 512 << 20


def preflight(drill: Drill, report: Report) -> None:
    """Check versions, extensions, locale, disk, keys, the release and the journey."""
    drill.bin_dir = _programs(drill, report)
    _extensions(drill, report, drill.bin_dir)
    _locale(drill, report)
    _disk(drill, report)
    if not drill.limited:
        _key(report, "decryption key", drill.settings.identity_file)
        _key(report, "signing key of the evidence", drill.config.evidence.signing_key_file)
    if not drill.limited or drill.release_version:
        _release(drill, report)
    if drill.settings.journey_file is not None:
        journey = spec.load(drill.settings.journey_file)
        report.check(
            "journey can be read",
            True,
            "no unknown key, no undefined variable",
            f"{len(journey.steps)} steps",
        )
    if report.verdict == "passed":
        report.summary = f"{len(report.checks)} preconditions are met; PostgreSQL from {drill.bin_dir}."


def _programs(drill: Drill, report: Report) -> Path:
    wanted = programs.major_of(drill.server_version)
    found = {name: programs.find(name, drill.server_version) for name in SERVER_PROGRAMS}
    bin_dir = found["postgres"].parent
    major = programs.major_of_program(found["postgres"])
    # A bare dump says nothing of where it must run, so a newer server may do; a set names its own.
    fits: bool | None = major >= wanted if drill.limited else major == wanted
    report.check(
        "PostgreSQL of the source's version",
        True if fits else None,
        f"PostgreSQL {wanted}" + (" or newer" if drill.limited else ""),
        f"PostgreSQL {major} in {bin_dir}",
    )
    report.facts["serverMajor"] = major
    return bin_dir


def _extensions(drill: Drill, report: Report, bin_dir: Path) -> None:
    if drill.archive is not None:
        wanted = sorted(drill.archive.extensions)
    else:
        wanted = sorted(needed(drill.backup).manifest.content.extensions)
    shared = process.run([bin_dir / "pg_config", "--sharedir"], timeout=30).stdout.decode().strip()
    missing = [name for name in wanted if not (Path(shared) / "extension" / f"{name}.control").is_file()]
    report.check(
        "extensions can be installed",
        None if missing else True,
        ", ".join(wanted) or "none needed",
        f"missing: {', '.join(missing)}" if missing else "all there",
    )


def _locale(drill: Drill, report: Report) -> None:
    if drill.archive is not None:
        wanted = {drill.archive.collation} - {""}
    else:
        locale = needed(drill.backup).manifest.content.locale
        wanted = {locale.get("collate", ""), locale.get("ctype", "")} - {""}
    known = {_canonical(line) for line in process.run(["locale", "-a"], timeout=30).stdout.decode().split()}
    missing = sorted(name for name in wanted if _canonical(name) not in known)
    report.check(
        "locale of the source",
        None if missing else True,
        ", ".join(sorted(wanted)) or "any",
        f"not on this host: {', '.join(missing)} (install locales-all)" if missing else "there",
    )


def _canonical(locale: str) -> str:
    """``pt_BR.UTF-8`` and ``pt_BR.utf8`` are one locale."""
    name, _dot, codeset = locale.partition(".")
    return f"{name}.{codeset.lower().replace('-', '')}" if codeset else name


def _disk(drill: Drill, report: Report) -> None:
    if drill.dump_file is not None:
        dump_bytes, copies = drill.dump_file.stat().st_size, 0
    else:
        manifest = needed(drill.backup).manifest
        dump_bytes = sum(entry.plaintext_bytes for entry in manifest.objects)
        copies = dump_bytes + sum(entry.bytes for entry in manifest.objects)
    needed_bytes = copies + dump_bytes * RESTORED_PER_DUMP_BYTE + SPARE_BYTES
    free = shutil.disk_usage(drill.workspace.directory).free
    report.facts |= {"neededBytes": needed_bytes, "freeBytes": free}
    report.check(
        f"free disk for {drill.workspace.base}",
        True if free >= needed_bytes else None,
        f"at least {needed_bytes} bytes (estimated)",
        f"{free} bytes",
    )


def _key(report: Report, name: str, path: Path) -> None:
    readable = path.is_file() and os.access(path, os.R_OK)
    report.check(name, True if readable else None, f"{path} readable", "yes" if readable else "no")


def _release(drill: Drill, report: Report) -> None:
    application = drill.settings.application
    named = needed(drill.backup).manifest.release if drill.backup else None
    version = drill.release_version or (named.version if named else None)
    if application is None or version is None:
        # The data can be proven all the same; app_start says what is missing.
        return
    release = read_release(application.releases_dir / version)
    report.facts["release"] = {"name": release.name, "version": release.version, "sha256": release.sha256}
    if named is not None and drill.release_version is None:
        report.check(
            "release as the manifest names it",
            _identical(release, named),
            f"{named.name} {named.version}, sha256 {named.sha256}",
            f"{release.name} {release.version}, sha256 {release.sha256}",
        )
    drill.release = release


def _identical(release: Release, named: ManifestRelease) -> bool:
    return (release.name, release.version, release.sha256) == (named.name, named.version, named.sha256)


def read_release(directory: Path) -> Release:
    """The release that is installed in a directory.

    :raises OpsError: ``RELEASE_MISSING``.
    """
    path = directory / "release.json"
    try:
        data = json.loads(path.read_bytes())
        return Release(
            name=str(data["name"]),
            version=str(data["version"]),
            sha256=str(data["digest"]),
            directory=directory,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OpsError(
            "RELEASE_MISSING",
            f"The release that the backup belongs to is not at {directory}: {type(error).__name__}: {error}.",
            "Install that release on this host (the role pharma.hardening.backend with its version).",
        ) from error
