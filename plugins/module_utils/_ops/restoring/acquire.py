# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the store to a plain dump: the set is chosen, fetched, verified and decrypted."""

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
from ..progress import Progress
from ..sealing import age, keys, signing
from ..store.base import ObjectStore
from .context import Backup
from .runner import Report

CLOCK_TOLERANCE_SECONDS = 5.0


def select(
    store: ObjectStore,
    database: str,
    backup_id: str | None,
    signers: bytes,
    report: Report,
    *,
    rpo_objective_seconds: float,
) -> Backup:
    """Choose the backup and look at its age; an old one is chosen all the same, and said to be old.

    :param backup_id: the set; None: the newest complete one.
    :param signers: public keys (PEM) whose manifests are believed.
    :raises OpsError: ``NO_BACKUP``, and what :func:`..backup.verify.read_manifest` raises.
    """
    sets = catalogue.list_sets(store, database)
    unfinished = [item.id for item in sets if item.state != "complete"]
    report.facts["store"] = store.description
    report.facts["unfinishedSets"] = unfinished
    wanted = backup_id
    if wanted is None:
        newest = catalogue.newest_complete(sets)
        if newest is None:
            raise OpsError(
                "NO_BACKUP",
                f"{store.description} has no complete backup of {database} ({len(unfinished)} unfinished).",
                "Look at the backup job on the database host: pharma-ops backup create.",
            )
        wanted = newest.id
    manifest, data, signer = verify.read_manifest(store, database, wanted, signers)
    digest = hashlib.sha256(data).hexdigest()
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
    late = age_seconds > rpo_objective_seconds
    report.summary = (
        f"Backup {manifest.id} of {database} from {store.description}, {age_seconds:.0f} s behind"
        f"{', later than the objective' if late else ''}; {len(unfinished)} unfinished set(s) passed over."
    )
    return Backup(store, manifest, data, digest, signer)


def fetch(backup: Backup, directory: Path, progress: Progress, report: Report) -> None:
    """Bring every object of the set into a directory."""
    total = sum(entry.bytes for entry in backup.manifest.objects)
    before = 0
    for entry in backup.manifest.objects:

        def advance(done: int, _total: int | None, offset: int = before) -> None:
            progress.advanced("fetch", offset + done, total, "bytes")

        backup.store.get_file(f"{backup.prefix}/{entry.name}", directory / entry.name, advance)
        before += entry.bytes
    report.facts |= {"bytes": total, "objects": len(backup.manifest.objects)}
    report.summary = (
        f"{total} bytes in {len(backup.manifest.objects)} objects from {backup.store.description}."
    )


def verify_artefacts(backup: Backup, directory: Path, signers: bytes, report: Report) -> None:
    """Check the digests of what was fetched, and the manifest's signature once more, from the store."""
    for entry in backup.manifest.objects:
        path = directory / entry.name
        size, digest = path.stat().st_size, sha256_of(path)
        report.check(
            f"{entry.name} as in the manifest",
            (size, digest) == (entry.bytes, entry.sha256),
            f"{entry.bytes} bytes, sha256 {entry.sha256}",
            f"{size} bytes, sha256 {digest}",
        )
    signature = backup.store.get_bytes(f"{backup.prefix}/{SIGNATURE_NAME}", limit=4096)
    signer = signing.verify(signers, backup.manifest_bytes, signature)
    report.check("manifest signed by a trusted key", True, "one of the trusted signers", f"key {signer}")
    report.facts["signer"] = signer
    if report.verdict == "passed":
        report.summary = f"All objects are as the manifest says; it was signed by {signer}."


def decrypt(
    backup: Backup,
    directory: Path,
    identity: Path | bytes,
    user: str | None,
    progress: Progress,
    report: Report,
) -> tuple[Path, Path]:
    """Decrypt dump and globals; the plaintext must be what was encrypted on the source.

    One key alone is used, so that ``keyFingerprint`` of the facts is the one that opened the set.

    :param identity: an identity file, or its content.
    :param user: account that gets the files; None: the present one.
    :returns: the files of the dump and of the globals.
    """

    name = "that was given" if isinstance(identity, bytes) else str(identity)
    opener = keys.opener(
        keys.read_identities(identity), backup.manifest.recipients, f"The backup {backup.manifest.id}", name
    )
    report.facts["keyFingerprint"] = opener.fingerprint

    def one(entry: ObjectEntry) -> Path:
        source, target = directory / entry.name, directory / entry.name.removesuffix(".age")

        def advance(done: int) -> None:
            progress.advanced("decrypt", done, entry.plaintext_bytes, "bytes")

        plain = age.decrypt_file(opener.secret, source, target, progress=advance)
        if user is not None and os.geteuid() == 0:
            shutil.chown(target, user)
        report.check(
            f"{target.name} as it was before encryption",
            (plain.bytes, plain.sha256) == (entry.plaintext_bytes, entry.plaintext_sha256),
            f"{entry.plaintext_bytes} bytes, sha256 {entry.plaintext_sha256}",
            f"{plain.bytes} bytes, sha256 {plain.sha256}",
        )
        # The ciphertext is not needed any more, and the disk may be.
        source.unlink()
        return target

    files = one(backup.manifest.object(DUMP_NAME)), one(backup.manifest.object(GLOBALS_NAME))
    if report.verdict == "passed":
        report.summary = (
            "Dump and globals are what was encrypted on the source; "
            f"the key {opener.fingerprint} opened them."
        )
    return files


def trusted_signers(path: Path) -> bytes:
    """The public keys whose manifests are believed.

    :raises OpsError: ``TRUSTED_KEYS_MISSING``.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise OpsError(
            "TRUSTED_KEYS_MISSING",
            f"The trusted signers {path} cannot be read: {error.strerror}.",
            "Copy the public key of the backup host there (the role pharma.hardening.staging does).",
        ) from error
