# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages ``provision`` and ``restore``: a throw-away cluster, and the dump in it as in production."""

from __future__ import annotations

from ..postgres.cluster import Cluster, Locale
from ..postgres.connection import connect
from ..restoring.context import needed
from ..restoring.loading import MAINTENANCE, Loader, replayable, source_locale, source_settings
from ..restoring.runner import Report
from .context import Drill


def provision(drill: Drill, report: Report) -> None:
    """Make and start a cluster with the source's encoding and locale."""
    cluster = Cluster(bin_dir=needed(drill.bin_dir), directory=drill.place("pg"), user=drill.user)
    drill.cluster = cluster
    content = drill.backup.manifest.content if drill.backup else None
    # A bare dump creates its database with its own locale, whatever the cluster's is.
    locale = source_locale(content) if content else Locale()
    cluster.create(locale, source_settings(content) if content else {})
    cluster.start()
    report.facts |= {"encoding": locale.encoding, "provider": locale.provider, "collate": locale.collate}
    report.summary = f"A cluster in {cluster.directory}, reached by a socket that only {drill.user} may use."


def restore(drill: Drill, report: Report) -> None:
    """Load roles and settings, then the dump with owners and privileges, by parallel jobs.

    :raises OpsError: ``RESTORE_FAILED`` with the program's last words, ``DISK_FULL``.
    """
    workspace = drill.workspace
    loader = Loader(
        cluster=needed(drill.cluster),
        directory=workspace.directory,
        base=workspace.base,
        base_option="drill.work_dir",
    )
    if drill.globals_sql is not None:
        loader.globals(drill.globals_sql, replayable(drill.globals_sql.read_text(encoding="utf-8")))
    if drill.archive is not None:
        report.facts["rolesCreated"] = _create_roles(drill, drill.archive.roles)
    loader.dump(needed(drill.dump), drill.dbname, drill.settings.jobs, report)


def _create_roles(drill: Drill, roles: tuple[str, ...]) -> list[str]:
    cluster = needed(drill.cluster)
    with connect(cluster.target(MAINTENANCE), autocommit=True) as connection:
        known = {row[0] for row in connection.execute("SELECT rolname FROM pg_catalog.pg_roles")}
        missing = [role for role in roles if role not in known]
        for role in missing:
            quoted = role.replace('"', '""')
            connection.execute(f'CREATE ROLE "{quoted}"'.encode())
    return missing
