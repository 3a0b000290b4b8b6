# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages ``provision`` and ``restore``: a throw-away cluster, and the dump in it as in production."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from ..errors import OpsError
from ..postgres.cluster import SUPERUSER, Cluster, Locale
from ..postgres.connection import connect, libpq_environment
from ..process import Child
from .context import Drill, needed
from .runner import Report

# pg_restore --create needs another database to create it from.
_MAINTENANCE = "template1"
_BOOTSTRAP_ROLE = re.compile(rf'^CREATE ROLE "?{SUPERUSER}"?;$', re.MULTILINE)
_TABLESPACE = re.compile(
    r"^(?:(?:CREATE|ALTER|COMMENT ON) TABLESPACE|(?:GRANT|REVOKE) .* ON TABLESPACE) .*;$", re.MULTILINE
)


def provision(drill: Drill, report: Report) -> None:
    """Make and start a cluster with the source's encoding and locale."""
    cluster = Cluster(bin_dir=needed(drill.bin_dir), directory=drill.place("pg"), user=drill.user)
    drill.cluster = cluster
    locale = source_locale(drill)
    cluster.create(locale, _source_settings(drill))
    cluster.start()
    report.facts |= {"encoding": locale.encoding, "provider": locale.provider, "collate": locale.collate}
    report.summary = f"A cluster in {cluster.directory}, reached by a socket that only {drill.user} may use."


def source_locale(drill: Drill) -> Locale:
    """The locale of the cluster. A bare dump creates its database with its own, whatever ours is."""
    if drill.backup is None:
        return Locale()
    content = drill.backup.manifest.content
    return Locale(
        encoding=content.encoding,
        collate=content.locale["collate"],
        ctype=content.locale["ctype"],
        provider=content.locale["provider"],
        locale=content.locale["locale"] or None,
    )


def _source_settings(drill: Drill) -> dict[str, str]:
    """Settings of the source on which restored content depends: REFRESH of a view may read the time zone."""
    zone = drill.backup.manifest.content.locale.get("timezone") if drill.backup else None
    return {"timezone": zone} if zone else {}


def restore(drill: Drill, report: Report) -> None:
    """Load roles and settings, then the dump with owners and privileges, by parallel jobs.

    :raises OpsError: ``RESTORE_FAILED`` with the program's last words, ``DISK_FULL``.
    """
    cluster = needed(drill.cluster)
    if drill.globals_sql is not None:
        _load_globals(drill, drill.globals_sql)
    if drill.archive is not None:
        report.facts["rolesCreated"] = _create_roles(drill, drill.archive.roles)
    if drill.dbname == SUPERUSER:
        with connect(cluster.target(_MAINTENANCE), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {SUPERUSER}".encode())
    dump = needed(drill.dump)
    jobs = drill.settings.jobs
    _client(
        drill,
        ["pg_restore", "--create", f"--jobs={jobs}", "--exit-on-error", "--no-tablespaces"],
        dump,
        f"pg_restore of {dump.name}",
    )
    report.facts["jobs"] = jobs
    report.check("pg_restore ended without an error", True, "exit status 0", "exit status 0")
    report.summary = f"The dump is restored with owners and privileges by {jobs} jobs."


def _load_globals(drill: Drill, path: Path) -> None:
    """Every statement must succeed."""
    text = replayable(path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")
    words = ["psql", "--no-psqlrc", "--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1"]
    _client(drill, [*words, "--file"], path, "loading roles and settings")


def replayable(sql: str) -> str:
    """What ``pg_dumpall --globals-only`` wrote, without what a throw-away cluster cannot or need not do.

    The superuser that initdb makes exists already; tablespaces are places on the source's disks.
    """
    return _TABLESPACE.sub("", _BOOTSTRAP_ROLE.sub("", sql))


def _create_roles(drill: Drill, roles: tuple[str, ...]) -> list[str]:
    cluster = needed(drill.cluster)
    with connect(cluster.target(_MAINTENANCE), autocommit=True) as connection:
        known = {row[0] for row in connection.execute("SELECT rolname FROM pg_catalog.pg_roles")}
        missing = [role for role in roles if role not in known]
        for role in missing:
            quoted = role.replace('"', '""')
            connection.execute(f'CREATE ROLE "{quoted}"'.encode())
    return missing


def _client(drill: Drill, words: list[str], file: Path, what: str) -> None:
    """Run a client program on a file, connected to the cluster's maintenance database."""
    cluster = needed(drill.cluster)
    program, *options = words
    reader = drill.user if _is_ours(drill, file) else None
    with libpq_environment(cluster.target(_MAINTENANCE)) as (env, fds):
        target = [f"--dbname={_MAINTENANCE}"]
        with Child(
            [cluster.bin_dir / program, *target, *options, file],
            stdout=subprocess.DEVNULL,
            user=reader,
            env=env,
            cwd=drill.workspace.directory if reader else None,
            pass_fds=fds,
        ) as child:
            if child.wait() != 0:
                raise _restore_error(drill, what, child.stderr_tail)


def _is_ours(drill: Drill, file: Path) -> bool:
    """Files in the drill's directory are read by its account; a dump elsewhere by who named it."""
    return file.is_relative_to(drill.workspace.directory)


def _restore_error(drill: Drill, what: str, words: str) -> OpsError:
    free = shutil.disk_usage(drill.workspace.directory).free
    if "No space left on device" in words:
        return OpsError(
            "DISK_FULL",
            f"{what} found no space left below {drill.workspace.base} ({free} bytes are free now).",
            "Free space or move drill.work_dir, then run the drill again.",
        )
    return OpsError(
        "RESTORE_FAILED",
        f"{what} failed: {words.strip() or 'it printed no reason'}",
        "Try the backup before it, and look at drill.log.",
    )
