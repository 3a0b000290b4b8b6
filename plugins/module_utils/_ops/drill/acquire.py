# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages ``select``, ``fetch``, ``verify_artefacts`` and ``decrypt``: from the store to a plain dump."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from .. import clock
from ..backup import catalogue, verify
from ..backup.manifest import DUMP_NAME, GLOBALS_NAME, SIGNATURE_NAME, ObjectEntry
from ..errors import OpsError
from ..files import sha256_of
from ..sealing import age, signing
from ..store.open import open_store
from .context import Backup, Drill, needed
from .runner import Report

CLOCK_TOLERANCE_SECONDS = 5.0


def select(drill: Drill, report: Report) -> None:
    """Choose the backup and look at its age.

    :raises OpsError: ``NO_BACKUP``, and what :func:`..backup.verify.read_manifest` raises.
    """
    settings = drill.settings
    store = open_store(drill.config.store(settings.store))
    database = settings.database
    sets = catalogue.list_sets(store, database)
    unfinished = [item.id for item in sets if item.state != "complete"]
    report.facts["store"] = store.description
    report.facts["unfinishedSets"] = unfinished
    wanted = drill.backup_id
    if wanted is None:
        newest = catalogue.newest_complete(sets)
        if newest is None:
            raise OpsError(
                "NO_BACKUP",
                f"{store.description} has no complete backup of {database} ({len(unfinished)} unfinished).",
                "Look at the backup job on the database host: pharma-ops backup create.",
            )
        wanted = newest.id
    manifest, data, signer = verify.read_manifest(store, database, wanted, trusted_signers(drill))
    digest = hashlib.sha256(data).hexdigest()
    drill.backup = Backup(store, manifest, data, digest, signer)
    age_seconds = (clock.now() - manifest.newest_change_at).total_seconds()
    report.facts |= {
        "backupId": manifest.id,
        "manifestSha256": digest,
        "newestChangeAt": clock.to_text(manifest.newest_change_at),
        "newestChangeBasis": manifest.newest_change_basis,
        "ageSeconds": round(age_seconds),
    }
    report.check(
        "newest change is not in the future",
        True if age_seconds > -CLOCK_TOLERANCE_SECONDS else None,
        f"before {clock.to_text(clock.now())} by this host's clock",
        clock.to_text(manifest.newest_change_at),
    )
    # An old backup is still worth proving; the missed objective fails the drill as a whole.
    late = age_seconds > settings.rpo_objective_seconds
    if late:
        drill.log.warn("rpo_objective_missed", ageSeconds=round(age_seconds))
    report.summary = (
        f"Backup {manifest.id} of {database} from {store.description}, {age_seconds:.0f} s behind"
        f"{', later than the objective' if late else ''}; {len(unfinished)} unfinished set(s) passed over."
    )


def fetch(drill: Drill, report: Report) -> None:
    """Bring every object of the set into the drill's directory."""
    backup = needed(drill.backup)
    total = sum(entry.bytes for entry in backup.manifest.objects)
    before = 0
    for entry in backup.manifest.objects:

        def advance(done: int, _total: int | None, offset: int = before) -> None:
            drill.progress.advanced("fetch", offset + done, total, "bytes")

        backup.store.get_file(f"{backup.prefix}/{entry.name}", drill.place(entry.name), advance)
        before += entry.bytes
    report.facts |= {"bytes": total, "objects": len(backup.manifest.objects)}
    report.summary = (
        f"{total} bytes in {len(backup.manifest.objects)} objects from {backup.store.description}."
    )


def verify_artefacts(drill: Drill, report: Report) -> None:
    """Check the digests of what was fetched, and the manifest's signature once more, from the store."""
    backup = needed(drill.backup)
    for entry in backup.manifest.objects:
        path = drill.place(entry.name)
        size, digest = path.stat().st_size, sha256_of(path)
        report.check(
            f"{entry.name} as in the manifest",
            (size, digest) == (entry.bytes, entry.sha256),
            f"{entry.bytes} bytes, sha256 {entry.sha256}",
            f"{size} bytes, sha256 {digest}",
        )
    signature = backup.store.get_bytes(f"{backup.prefix}/{SIGNATURE_NAME}", limit=4096)
    signer = signing.verify(trusted_signers(drill), backup.manifest_bytes, signature)
    report.check("manifest signed by a trusted key", True, "one of the trusted signers", f"key {signer}")
    report.facts["signer"] = signer
    if report.verdict == "passed":
        report.summary = f"All objects are as the manifest says; it was signed by {signer}."


def decrypt(drill: Drill, report: Report) -> None:
    """Decrypt dump and globals; the plaintext must be what was encrypted on the source."""
    backup = needed(drill.backup)
    drill.dump = _decrypt(drill, report, backup.manifest.object(DUMP_NAME))
    drill.globals_sql = _decrypt(drill, report, backup.manifest.object(GLOBALS_NAME))
    if report.verdict == "passed":
        report.summary = "Dump and globals are what was encrypted on the source."


def _decrypt(drill: Drill, report: Report, entry: ObjectEntry) -> Path:
    source, target = drill.place(entry.name), drill.place(entry.name.removesuffix(".age"))

    def advance(done: int) -> None:
        drill.progress.advanced("decrypt", done, entry.plaintext_bytes, "bytes")

    plain = age.decrypt_file(drill.settings.identity_file, source, target, progress=advance)
    if drill.user is not None and os.geteuid() == 0:
        shutil.chown(target, drill.user)
    report.check(
        f"{target.name} as it was before encryption",
        (plain.bytes, plain.sha256) == (entry.plaintext_bytes, entry.plaintext_sha256),
        f"{entry.plaintext_bytes} bytes, sha256 {entry.plaintext_sha256}",
        f"{plain.bytes} bytes, sha256 {plain.sha256}",
    )
    # The ciphertext is not needed any more, and the disk may be.
    source.unlink()
    return target


def trusted_signers(drill: Drill) -> bytes:
    """The public keys whose manifests are believed.

    :raises OpsError: ``TRUSTED_KEYS_MISSING``.
    """
    path = drill.settings.trusted_signers_file
    try:
        return path.read_bytes()
    except OSError as error:
        raise OpsError(
            "TRUSTED_KEYS_MISSING",
            f"The trusted signers {path} cannot be read: {error.strerror}.",
            "Copy the public key of the backup host there (the role pharma.hardening.staging does).",
        ) from error
