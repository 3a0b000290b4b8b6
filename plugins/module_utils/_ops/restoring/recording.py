# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the records of a drill and of a recovery have in common, and what must be so that they can be written."""

from __future__ import annotations

import os

from .. import clock, config
from ..sealing import signing
from .context import Backup
from .runner import Report


def facts_of(backup: Backup) -> dict[str, object]:
    """What a record says of the set that was restored."""
    manifest = backup.manifest
    return {
        "id": manifest.id,
        "database": manifest.database,
        "serverVersion": manifest.server_version_text,
        "startedAt": clock.to_text(manifest.started_at),
        "finishedAt": clock.to_text(manifest.finished_at),
        "sourceHost": manifest.source_host,
        "store": backup.store.description,
        "tables": len(manifest.content.tables),
        "rows": manifest.content.rows,
        "bytes": sum(entry.bytes for entry in manifest.objects),
    }


def prepared(evidence: config.Evidence, report: Report) -> bool:
    """Look at the directory of the evidence, which is made, and at the key; returns whether there is one.

    :raises OpsError: ``SIGNING_KEY_INVALID``.
    """
    evidence.dir.mkdir(parents=True, exist_ok=True)
    writable = os.access(evidence.dir, os.W_OK | os.X_OK)
    report.check("evidence directory", True if writable else None, f"{evidence.dir} writable", str(writable))
    signed = signing_key(evidence) is not None
    report.facts["signed"] = signed
    return signed


def signing_key(evidence: config.Evidence) -> bytes | None:
    """The key of the evidence; None when the host has none, and then nothing signs in its place.

    :raises OpsError: ``SIGNING_KEY_INVALID``.
    """
    try:
        key = evidence.signing_key_file.read_bytes()
    except OSError:
        return None
    signing.public_of(key)
    return key
