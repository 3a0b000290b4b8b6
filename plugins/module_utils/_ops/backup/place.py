# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a host finds backup sets: which store, and of which database."""

from __future__ import annotations

from .. import config
from ..errors import OpsError
from ..store.base import ObjectStore
from ..store.open import open_store


def place(
    settings: config.Config, store: str | None = None, database: str | None = None
) -> tuple[ObjectStore, str]:
    """The store and the database's name: as given, else the drill's, else the backup's.

    :raises OpsError: ``CONFIG_INVALID``; codes that begin with ``STORE_``.
    """
    section = settings.drill or settings.backup
    name = store or (section.store if section else "offsite")
    database = database or (settings.drill.database if settings.drill else "")
    if not database and settings.database:
        database = settings.database.name
    if not database:
        raise OpsError(
            "CONFIG_INVALID", "No database is configured on this host.", "Name one with --database."
        )
    return open_store(settings.store(name)), database
