# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose key opened the set of a drill: the host's own, or another one that was given, such as the escrow key."""

from __future__ import annotations

import contextlib
from typing import Any

from ..errors import OpsError
from ..sealing import keys
from ..sealing.recipients import load_recipients
from .context import Drill


def facts(drill: Drill, fingerprint: str) -> dict[str, Any]:
    """Whose key opened the set, for the evidence.

    ``keyRole`` is what the recipients file of this host says; where there is none or it does not say,
    a key that is not in the identity file of this host is taken for an escrow key (``keyRoleBasis``).
    """
    backup = drill.config.backup
    if backup is not None:
        with contextlib.suppress(OpsError):
            for recipient in load_recipients(backup.recipients_file):
                if recipient.fingerprint == fingerprint and recipient.role != "unknown":
                    return {"keyRole": recipient.role, "keyRoleBasis": "recipients file"}
    own: set[str] = set()
    with contextlib.suppress(OpsError):
        own = {item.fingerprint for item in keys.read_identities(drill.settings.identity_file)}
    role = "in use" if drill.identity is None or fingerprint in own else "escrow"
    return {"keyRole": role, "keyRoleBasis": "identity file of this host"}
