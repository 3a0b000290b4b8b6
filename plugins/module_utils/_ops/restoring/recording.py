# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be so that the record of a drill or a recovery, the last stage included, can be written and signed."""

from __future__ import annotations

import os

from .. import config
from ..sealing import signing
from .runner import Report


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
