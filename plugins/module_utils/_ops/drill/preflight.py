# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage ``preflight``: what would otherwise fail half-way is looked at before anything is fetched."""

from __future__ import annotations

import json
from pathlib import Path

from ..backup.manifest import Release as ManifestRelease
from ..errors import OpsError
from ..journey import spec
from ..restoring import host
from ..restoring.context import needed
from ..restoring.runner import Report
from .context import Drill, Release


def preflight(drill: Drill, report: Report) -> None:
    """Check versions, extensions, locale, disk, keys, the release and the journey."""
    drill.bin_dir = _programs(drill, report)
    _extensions(drill, report, drill.bin_dir)
    _locale(drill, report)
    _disk(drill, report)
    if not drill.limited:
        host.opening_key(drill.key, needed(drill.backup).manifest, report)
        host.key("signing key of the evidence", drill.config.evidence.signing_key_file, report)
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
    # A bare dump says nothing of where it must run, so a newer server may do; a set names its own.
    return host.server(drill.server_version, report, newer_will_do=drill.limited)


def _extensions(drill: Drill, report: Report, bin_dir: Path) -> None:
    if drill.archive is not None:
        host.extensions(drill.archive.extensions, bin_dir, report)
    else:
        host.extensions(needed(drill.backup).manifest.content.extensions, bin_dir, report)


def _locale(drill: Drill, report: Report) -> None:
    if drill.archive is not None:
        host.locale({drill.archive.collation}, report)
    else:
        locale = needed(drill.backup).manifest.content.locale
        host.locale({locale.get("collate", ""), locale.get("ctype", "")}, report)


def _disk(drill: Drill, report: Report) -> None:
    if drill.limited:
        dump_bytes, copies = needed(drill.dump).stat().st_size, 0
    else:
        manifest = needed(drill.backup).manifest
        dump_bytes = sum(entry.plaintext_bytes for entry in manifest.objects)
        copies = dump_bytes + sum(entry.bytes for entry in manifest.objects)
    host.disk(drill.workspace.directory, drill.workspace.base, copies, dump_bytes, report)


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
