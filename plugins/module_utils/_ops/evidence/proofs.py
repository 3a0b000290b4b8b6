# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup sets are proven: what of the ledger counts."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import OpsError
from . import ledger
from .record import Verdict

SCOPE_FULL = "full"


def proven(lines: Iterable[ledger.Line], public_keys_pem: bytes) -> dict[str, ledger.Entry]:
    """The newest drill that proved each set, by the set's id.

    A line counts when a trusted key signed it, when the drill passed, and when it was a drill of a whole
    backup set (not of a bare dump).

    :raises OpsError: ``TRUSTED_KEYS_INVALID``.
    """
    found: dict[str, ledger.Entry] = {}
    for line in lines:
        entry = line.entry
        if entry.backup_id is None or entry.verdict is not Verdict.PASSED or entry.scope != SCOPE_FULL:
            continue
        if _is_genuine(entry, public_keys_pem):
            found[entry.backup_id] = entry
    return found


def _is_genuine(entry: ledger.Entry, public_keys_pem: bytes) -> bool:
    try:
        ledger.check_signature(entry, public_keys_pem)
    except OpsError as error:
        if error.code != "SIGNATURE_INVALID":
            raise
        return False
    return True
