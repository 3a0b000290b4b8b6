# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster as Debian manages it: found by pg_lsclusters, started and stopped by pg_ctlcluster."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from .. import process
from ..errors import OpsError
from ..postgres.cluster import Locale

ACCOUNT = "postgres"
CONFIGURATION = Path("/etc/postgresql")
DATA = Path("/var/lib/postgresql")
SOCKETS = "/var/run/postgresql"
_START_SECONDS = 300
_STOP_SECONDS = 600
_LEAVING_SECONDS = 2.0
# Not those that every cluster has.
_DATABASES = "SELECT datname FROM pg_catalog.pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
_SESSIONS = """
    SELECT DISTINCT pg_catalog.format('%s at %s (%s)', usename, COALESCE(client_addr::text, 'this host'),
        application_name) AS who
    FROM pg_catalog.pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()
"""
# Object ids of databases that are not initdb's begin here (FirstNormalObjectId).
_FIRST_DATABASE_OID = 16384


@dataclass(frozen=True, kw_only=True)
class DebianCluster:
    """One cluster.

    :ivar data: the data directory, links resolved; it need not be there.
    :ivar configured: ``/etc/postgresql/<major>/<name>`` is there.
    :ivar bin_dir: the server's programs.
    """

    major: int
    name: str
    port: int
    data: Path
    configured: bool
    bin_dir: Path

    @property
    def title(self) -> str:
        """As Debian's commands name it."""
        return f"{self.major}/{self.name}"

    @property
    def running(self) -> bool:
        """Whether a server runs on the data directory (its process is there, whatever it answers)."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            # A number alone may be another process by now; a server works in its data directory.
            return Path(f"/proc/{pid}/cwd").readlink() == self.data
        except (OSError, ValueError):
            return False

    @property
    def starts_at_boot(self) -> bool:
        """Whether Debian's start.conf says ``auto``."""
        try:
            text = (CONFIGURATION / str(self.major) / self.name / "start.conf").read_text()
        except OSError:
            return False
        words = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        return words == ["auto"]

    def sql(self, statement: str, dbname: str = "postgres") -> list[str]:
        """The first column of what a statement returns, asked as the administrator over the socket.

        :raises OpsError: ``CLUSTER_UNREACHABLE``.
        """
        words = ["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", f"--dbname={dbname}"]
        words += [f"--host={SOCKETS}", f"--port={self.port}", "--set=ON_ERROR_STOP=1", "--file=-"]
        done = process.run(
            [self.bin_dir / "psql", *words],
            input=f"SELECT pg_catalog.to_json(q.*) FROM ({statement}) q;\n".encode(),  # noqa: S608 - our own statements
            user=ACCOUNT,
            env={"PGCONNECT_TIMEOUT": "10", "PGAPPNAME": "pharma-ops"},
            timeout=60,
            code="CLUSTER_UNREACHABLE",
            action=(
                f"If it must go in any case, stop it first: pg_ctlcluster {self.major} {self.name} stop "
                "-m immediate. A recovery then need not ask it."
            ),
        )
        rows = (json.loads(line) for line in done.stdout.decode().splitlines() if line)
        return [str(next(iter(row.values()))) for row in rows]

    def sessions(self) -> list[str]:
        """Who is connected besides us; nobody when it does not run.

        A session that has just been left, our own of a question before among them, is there for a moment
        still: who is there after that moment is meant.

        :raises OpsError: ``CLUSTER_UNREACHABLE``.
        """
        deadline = time.monotonic() + _LEAVING_SECONDS
        while self.running and (found := self.sql(_SESSIONS)):
            if time.monotonic() > deadline:
                return found
            time.sleep(0.1)
        return []

    def databases(self) -> list[str] | int:
        """The names of the databases, or their number when the server does not run."""
        if self.running:
            return self.sql(_DATABASES)
        try:
            names = [path.name for path in (self.data / "base").iterdir()]
        except OSError:
            return 0
        return sum(1 for name in names if name.isdigit() and int(name) >= _FIRST_DATABASE_OID)

    def start(self) -> None:
        """Start the server and wait until it accepts connections.

        :raises OpsError: ``CLUSTER_NOT_STARTED``.
        """
        self._control("start", (), _START_SECONDS, "CLUSTER_NOT_STARTED")

    def stop(self) -> None:
        """Stop the server; sessions are ended. Nothing happens when it does not run.

        :raises OpsError: ``CLUSTER_NOT_STOPPED``.
        """
        if not self.running:
            return
        self._control("stop", ("--mode", "fast"), _STOP_SECONDS, "CLUSTER_NOT_STOPPED")
        if self.running:
            raise OpsError(
                "CLUSTER_NOT_STOPPED",
                f"The cluster {self.title} still runs on {self.data} after it was stopped.",
                f"Stop it by hand: pg_ctlcluster {self.major} {self.name} stop -m immediate.",
            )

    def create(self, locale: Locale) -> None:
        """Let Debian make the configuration and an empty data directory; nothing is started.

        :raises OpsError: ``CLUSTER_NOT_CREATED``.
        """
        words = [
            f"--encoding={locale.encoding}",
            f"--lc-collate={locale.collate}",
            f"--lc-ctype={locale.ctype}",
        ]
        process.run(
            ["pg_createcluster", *words, str(self.major), self.name, "--", "--data-checksums"],
            timeout=120,
            code="CLUSTER_NOT_CREATED",
            action="Install postgresql-common, or free disk space.",
        )

    def _control(self, verb: str, options: tuple[str, ...], seconds: float, code: str) -> None:
        process.run(
            ["pg_ctlcluster", *options, str(self.major), self.name, verb],
            timeout=seconds,
            code=code,
            action=f"Read the server's log: journalctl -u postgresql@{self.major}-{self.name}, /var/log/postgresql.",
        )


def find(major: int, name: str, bin_dir: Path) -> DebianCluster:
    """The cluster of that version and name, whether it is there or not.

    :raises OpsError: ``PROGRAM_MISSING`` (postgresql-common), ``COMMAND_FAILED``.
    """
    taken: set[int] = set()
    for line in process.run(["pg_lsclusters", "--no-header"], timeout=30).stdout.decode().splitlines():
        version, cluster, port = line.split()[:3]
        taken.add(int(port))
        if (version, cluster) == (str(major), name):
            shown = process.run(["pg_conftool", "-s", version, name, "show", "data_directory"], timeout=30)
            return DebianCluster(
                major=major,
                name=name,
                port=int(port),
                data=Path(os.path.realpath(shown.stdout.decode().strip())),
                configured=True,
                bin_dir=bin_dir,
            )
    free = next(port for port in range(5432, 5532) if port not in taken)
    return DebianCluster(
        major=major,
        name=name,
        port=free,
        data=Path(os.path.realpath(DATA / str(major) / name)),
        configured=False,
        bin_dir=bin_dir,
    )


def system_identifier(bin_dir: Path, data: Path) -> str:
    """The number that initdb gave to a data directory, read from its control file.

    :raises OpsError: ``COMMAND_FAILED``.
    """
    shown = process.run([bin_dir / "pg_controldata", "-D", data], timeout=30).stdout.decode()
    for line in shown.splitlines():
        key, _colon, value = line.partition(":")
        if key == "Database system identifier":
            return value.strip()
    raise OpsError(
        "COMMAND_FAILED", f"pg_controldata tells no identifier of {data}.", "Look at that directory."
    )
