# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a backup set back and checks it against its manifest, without any decryption key."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import ExitCode, OpsError
from ..files import sha256_of
from ..progress import Progress
from ..sealing import signing
from ..store.base import ObjectStore
from .catalogue import list_sets, newest_complete, started_at
from .manifest import MANIFEST_NAME, SIGNATURE_NAME, Manifest, ObjectEntry

STEP = "verify"


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A set whose signature and digests were right when it was read back.

    :ivar signer: key id of the trusted key that signed the manifest.
    :ivar manifest_sha256: hex digest of the manifest's bytes.
    :ivar bytes: read back and digested.
    """

    manifest: Manifest
    manifest_sha256: str
    signer: str
    bytes: int

    def as_dict(self) -> dict[str, object]:
        """JSON values for the command and the modules."""
        return {
            "backup_id": self.manifest.id,
            "database": self.manifest.database,
            "manifest_sha256": self.manifest_sha256,
            "signer": self.signer,
            "bytes": self.bytes,
            "objects": [entry.name for entry in self.manifest.objects],
        }


def read_manifest(
    store: ObjectStore, database: str, backup_id: str, trusted_signers_pem: bytes
) -> tuple[Manifest, bytes, str]:
    """Fetch a manifest and check its signature before its content is believed.

    :returns: the manifest, its exact bytes, and the id of the key that signed it.
    :raises OpsError: ``BACKUP_UNFINISHED``, ``BACKUP_MISSING``, ``SIGNATURE_INVALID``,
        ``MANIFEST_INVALID``, ``MANIFEST_MISPLACED``.
    """
    started_at(backup_id)
    prefix = f"{database}/{backup_id}"
    try:
        data = store.get_bytes(f"{prefix}/{MANIFEST_NAME}")
    except OpsError as error:
        if error.code != "STORE_OBJECT_MISSING":
            raise
        raise _without_manifest(store, database, backup_id) from error
    signature = store.get_bytes(f"{prefix}/{SIGNATURE_NAME}", limit=4096)
    signer = signing.verify(trusted_signers_pem, data, signature)
    manifest = Manifest.from_json(data)
    if (manifest.database, manifest.id) != (database, backup_id):
        raise OpsError(
            "MANIFEST_MISPLACED",
            f"The manifest at {prefix} is the one of {manifest.database}/{manifest.id}.",
            "Somebody moved or copied objects in the store; take another backup.",
            ExitCode.FAILED,
        )
    return manifest, data, signer


def _without_manifest(store: ObjectStore, database: str, backup_id: str) -> OpsError:
    known = {item.id: item for item in list_sets(store, database)}
    if backup_id in known:
        return OpsError(
            "BACKUP_UNFINISHED",
            f"The backup {database}/{backup_id} has no manifest: it was never finished.",
            "Take another one; pharma-ops backup list shows which are complete.",
        )
    newest = newest_complete(known.values())
    hint = f"the newest is {newest.id}" if newest else "there is no complete one"
    return OpsError(
        "BACKUP_MISSING",
        f"There is no backup {backup_id} of {database} in {store.description}; {hint}.",
        "List them with pharma-ops backup list.",
    )


def verify_set(
    store: ObjectStore,
    database: str,
    backup_id: str,
    trusted_signers_pem: bytes,
    progress: Progress,
    work_dir: Path,
) -> Verified:
    """Check signature, sizes and digests by reading every object of a set back.

    Decryption is not part of it: a host without the key can run it.

    :param work_dir: existing directory with room for the biggest object, which passes through it.
    :raises OpsError: see :func:`read_manifest`; ``BACKUP_DAMAGED`` names the object.
    """
    manifest, data, signer = read_manifest(store, database, backup_id, trusted_signers_pem)
    total = sum(entry.bytes for entry in manifest.objects)
    done = 0
    for entry in manifest.objects:
        _check_object(store, f"{database}/{backup_id}", entry, work_dir)
        done += entry.bytes
        progress.advanced(STEP, done, total, "bytes")
    return Verified(
        manifest=manifest, manifest_sha256=hashlib.sha256(data).hexdigest(), signer=signer, bytes=done
    )


def _check_object(store: ObjectStore, prefix: str, entry: ObjectEntry, work_dir: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="verify-", dir=work_dir) as directory:
        path = Path(directory) / "object"
        store.get_file(f"{prefix}/{entry.name}", path, None)
        check_file(path, entry, f"{prefix}/{entry.name}")


def check_file(path: Path, entry: ObjectEntry, name: str) -> None:
    """Compare a fetched object's size and digest with the manifest's.

    :param name: the object's key, for the message.
    :raises OpsError: ``BACKUP_DAMAGED``.
    """
    size = path.stat().st_size
    digest = sha256_of(path)
    if (size, digest) != (entry.bytes, entry.sha256):
        raise OpsError(
            "BACKUP_DAMAGED",
            f"{name} is not what the manifest says: {size} bytes with sha256 {digest} "
            f"instead of {entry.bytes} bytes with sha256 {entry.sha256}.",
            "Take another backup for the restore, and find out what damaged this one.",
            ExitCode.FAILED,
        )
