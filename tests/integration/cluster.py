# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PostgreSQL cluster for tests: its own directory, a socket, and loopback with passwords."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psycopg

HBA = """\
local all all trust
host all all 127.0.0.1/32 scram-sha-256
"""

SETTINGS = """\
fsync = off
listen_addresses = '127.0.0.1'
max_connections = 40
shared_buffers = 64MB
timezone = 'America/Sao_Paulo'
track_commit_timestamp = on
wal_level = logical
"""


def bin_dir() -> Path:
    """The programs of the newest PostgreSQL server on this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not found:
        raise RuntimeError("no PostgreSQL server is installed on this machine")
    return found[-1].parent


def _as_postgres(command: Sequence[str | Path]) -> None:
    """Servers refuse to run as root; on a developer's machine the tests may run as an ordinary user."""
    words = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*words, *map(str, command)], check=True, capture_output=True, timeout=120)


class Cluster:
    """A running cluster; superuser ``postgres``, trusted on the socket."""

    def __init__(self) -> None:
        self.bin = bin_dir()
        self.directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        if os.geteuid() == 0:
            shutil.chown(self.directory, "postgres", "postgres")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        data = self.directory / "data"
        _as_postgres(
            [
                self.bin / "initdb",
                "-D",
                data,
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "-A",
                "trust",
                "-N",
            ]
        )
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(f"{SETTINGS}unix_socket_directories = '{self.directory}'\nport = {self.port}\n")
        (data / "pg_hba.conf").write_text(HBA)
        self.start()

    @property
    def host(self) -> str:
        """The directory of the unix socket."""
        return str(self.directory)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        log = self.directory / "log"
        _as_postgres([self.bin / "pg_ctl", "-D", self.directory / "data", "-l", log, "-w", "start"])

    def stop(self) -> None:
        """Stop the server at once."""
        _as_postgres([self.bin / "pg_ctl", "-D", self.directory / "data", "-m", "immediate", "-w", "stop"])

    def remove(self) -> None:
        """Stop the server and remove everything of it."""
        self.stop()
        shutil.rmtree(self.directory)

    def connect(
        self, dbname: str = "postgres", **arguments: object
    ) -> psycopg.Connection[tuple[object, ...]]:
        """A connection as the superuser, in autocommit."""
        return psycopg.connect(
            host=self.host, port=self.port, dbname=dbname, user="postgres", autocommit=True, **arguments
        )

    def execute(self, text: str, dbname: str = "postgres") -> None:
        """Run one or more statements as the superuser."""
        with self.connect(dbname) as connection:
            connection.execute(text)

    def create(self, dbname: str, text: str = "") -> None:
        """Make a database, replacing one of that name, and run statements in it."""
        self.execute(f'DROP DATABASE IF EXISTS "{dbname}" WITH (FORCE)')
        self.execute(f'CREATE DATABASE "{dbname}"')
        if text:
            self.execute(text, dbname)
