# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads what was decrypted into a cluster: roles and settings, then the dump as in production."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..errors import OpsError
from ..postgres.cluster import SUPERUSER, Cluster, Locale
from ..postgres.connection import connect, libpq_environment
from ..postgres.content import Content
from ..process import Child
from .runner import Report

# pg_restore --create needs another database to create it from.
MAINTENANCE = "template1"
_BOOTSTRAP_ROLE = re.compile(rf'^CREATE ROLE "?{SUPERUSER}"?;$', re.MULTILINE)
_TABLESPACE = re.compile(
    r"^(?:(?:CREATE|ALTER|COMMENT ON) TABLESPACE|(?:GRANT|REVOKE) .* ON TABLESPACE) .*;$", re.MULTILINE
)


def replayable(sql: str) -> str:
    """What ``pg_dumpall --globals-only`` wrote, without what a new cluster cannot or need not do.

    The superuser that initdb makes exists already; tablespaces are places on the source's disks.
    """
    return _TABLESPACE.sub("", _BOOTSTRAP_ROLE.sub("", sql))


def source_locale(content: Content) -> Locale:
    """The locale of a cluster for a set."""
    return Locale(
        encoding=content.encoding,
        collate=content.locale["collate"],
        ctype=content.locale["ctype"],
        provider=content.locale["provider"],
        locale=content.locale["locale"] or None,
    )


def source_settings(content: Content) -> dict[str, str]:
    """Settings of the source on which restored content depends: REFRESH of a view may read the time zone."""
    zone = content.locale.get("timezone")
    return {"timezone": zone} if zone else {}


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Runs the client programs on files.

    :ivar directory: of the run; the files in it are read by the account of the server, files elsewhere
        by who named them.
    :ivar base: what the message of a full disk names.
    :ivar base_option: the setting that moves it.
    """

    cluster: Cluster
    directory: Path
    base: Path
    base_option: str

    def globals(self, path: Path, sql: str) -> None:
        """Run ``sql`` by way of ``path``; every statement must succeed.

        :raises OpsError: ``RESTORE_FAILED`` with the program's last words, ``DISK_FULL``.
        """
        path.write_text(sql, encoding="utf-8")
        words = ["psql", "--no-psqlrc", "--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1"]
        self._client([*words, "--file"], path, "loading roles and settings")

    def dump(self, path: Path, dbname: str, jobs: int, report: Report) -> None:
        """Restore a dump with owners and privileges, by parallel jobs.

        :raises OpsError: see :meth:`globals`.
        """
        if dbname == SUPERUSER:
            with connect(self.cluster.target(MAINTENANCE), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {SUPERUSER}".encode())
        words = ["pg_restore", "--create", f"--jobs={jobs}", "--exit-on-error", "--no-tablespaces"]
        self._client(words, path, f"pg_restore of {path.name}")
        report.facts["jobs"] = jobs
        report.check("pg_restore ended without an error", True, "exit status 0", "exit status 0")
        report.summary = f"The dump is restored with owners and privileges by {jobs} jobs."

    def _client(self, words: list[str], file: Path, what: str) -> None:
        """Run a client program on a file, connected to the cluster's maintenance database."""
        program, *options = words
        reader = self.cluster.user if file.is_relative_to(self.directory) else None
        with libpq_environment(self.cluster.target(MAINTENANCE)) as (env, fds):
            target = [f"--dbname={MAINTENANCE}"]
            with Child(
                [self.cluster.bin_dir / program, *target, *options, file],
                stdout=subprocess.DEVNULL,
                user=reader,
                env=env,
                cwd=self.directory if reader else None,
                pass_fds=fds,
            ) as child:
                if child.wait() != 0:
                    raise self._error(what, child.stderr_tail)

    def _error(self, what: str, words: str) -> OpsError:
        free = shutil.disk_usage(self.directory).free
        if "No space left on device" in words:
            return OpsError(
                "DISK_FULL",
                f"{what} found no space left below {self.base} ({free} bytes are free now).",
                f"Free space or move {self.base_option}, then run again.",
            )
        return OpsError(
            "RESTORE_FAILED",
            f"{what} failed: {words.strip() or 'it printed no reason'}",
            "Try the backup before it, and look at the log.",
        )
