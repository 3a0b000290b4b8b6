# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The structure of a database as a flat inventory: the name of each object and what defines it.

Names are quoted as SQL needs them. Texts that may hold code or data (function bodies, queries of
views, comments, settings) stand as digests, because the manifest of a backup is not encrypted.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from .expression import stable
from .structure_sql import DIGESTED, PLAIN, ROLES

if TYPE_CHECKING:
    from .connection import Connection


def read(connection: Connection) -> dict[str, str]:
    """Every object's definition, owner, privileges and comment; members of extensions are left out."""
    found: dict[str, str] = {}
    for query in PLAIN:
        for name, definition in connection.execute(query):
            found[name] = stable(definition)
    for query in DIGESTED:
        for name, facts, text in connection.execute(query):
            digest = hashlib.sha256(stable(text).encode()).hexdigest()[:32]
            found[name] = f"{facts}; sha256 {digest}".removeprefix("; ")
    return dict(sorted(found.items()))


def read_roles(connection: Connection) -> dict[str, str]:
    """Attributes and memberships of every role of the cluster but the built-in ones."""
    return dict(connection.execute(ROLES).fetchall())
