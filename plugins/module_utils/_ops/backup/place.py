# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a host finds backup sets: which store, and of which database."""

from __future__ import annotations

from .. import config
from ..store.base import ObjectStore
from ..store.open import open_store


def place(
    settings: config.Config, store: str | None = None, database: str | None = None
) -> tuple[ObjectStore, str]:
    """The store and the database's name: as given, else the drill's, else the backup's first store.

    :raises OpsError: ``CONFIG_INVALID``; codes that begin with ``STORE_``.
    """
    database = database or (settings.drill.database if settings.drill else "")
    if not database:
        database, _section = settings.database(None)
    return open_store(settings.store(store or _default_store(settings))), database


def _default_store(settings: config.Config) -> str:
    if settings.drill:
        return settings.drill.store
    return settings.backup.stores[0] if settings.backup and settings.backup.stores else "offsite"
