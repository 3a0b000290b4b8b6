# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PostgreSQL and the real service, as processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
PASSWORD = "correct horse battery"
FAST = {"PHARMA_READINESS_INTERVAL": "0.2", "PHARMA_DRAIN_SECONDS": "0.3"}
ROLES = """
create role pharma_owner nologin;
create role pharma_runtime nologin;
create role pharma_app login in role pharma_runtime;
create role pharma_migrator login in role pharma_owner;
alter role pharma_migrator set role = 'pharma_owner';
create role pharma_backup login bypassrls in role pg_read_all_data;
"""


def programs() -> Path:
    """The directory with initdb of the newest PostgreSQL on this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        pytest.fail("no PostgreSQL on this machine: apt-get install postgresql", pytrace=False)
    return Path(on_path).resolve().parent


@dataclass
class Cluster:
    """A throw-away PostgreSQL that listens on a unix socket only."""

    home: Path
    bin: Path = field(default_factory=programs)
    port: int = 5499

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL as the cluster's user."""
        command = [str(self.bin / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
        assert done.returncode == 0, f"{program}: {done.stderr}{done.stdout}"

    def create(self) -> None:
        self.home.chmod(0o755)
        data = self.home / "pg"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(data, "postgres", "postgres")
        self.run("initdb", "-D", str(data), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync")
        (data / "postgresql.auto.conf").write_text(
            f"port = {self.port}\nlisten_addresses = ''\nunix_socket_directories = '{data}'\n"
            "fsync = off\nlog_line_prefix = '%a|'\nlog_statement = 'all'\nmax_connections = 120\n"
        )
        self.start()
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(ROLES)

    def start(self) -> None:
        data = self.home / "pg"
        self.run("pg_ctl", "-D", str(data), "-l", str(data / "log"), "-w", "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self.home / "pg"), "-m", "immediate", "-w", "stop")

    def url(self, user: str, database: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.home / 'pg'}&port={self.port}"

    def new_database(self, name: str) -> str:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'create database "{name}" owner pharma_owner')
        return name

    def log(self) -> str:
        return (self.home / "pg" / "log").read_text(errors="replace")


@dataclass
class Cli:
    """Runs ``pharma-backend`` with its secrets as files, as systemd gives them."""

    credentials: Path
    environment: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pharma_backend", *arguments]

    def env(self, **extra: str) -> dict[str, str]:
        base = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "LC_ALL": "C.UTF-8"}
        return base | {"CREDENTIALS_DIRECTORY": str(self.credentials)} | self.environment | extra

    def run(
        self, *arguments: str, stdin: str = "", check: int = 0, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            env=self.env(**extra),
            check=False,
        )
        assert done.returncode == check, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def json(self, *arguments: str, stdin: str = "") -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.run(*arguments, stdin=stdin).stdout)
        return result


def make_cli(cluster: Cluster, database: str, home: Path) -> Cli:
    """A command line whose credentials reach that database."""
    credentials = home / "credentials"
    credentials.mkdir()
    for name, value in {
        "DATABASE_URL": cluster.url("pharma_app", database),
        "MIGRATION_DATABASE_URL": cluster.url("pharma_migrator", database),
        "JWT_SECRET": "j" * 48,
        "REFRESH_SECRET": "r" * 48,
    }.items():
        (credentials / name).write_text(value + "\n")
    return Cli(credentials, {"PHARMA_ENV": "lab"})


@dataclass
class Service:
    """The running service and what it wrote."""

    process: subprocess.Popen[bytes]
    socket: Path
    output: Path
    cli: Cli
    client: httpx.Client

    def lines(self) -> list[dict[str, Any]]:
        """Every line so far; each must be one JSON object."""
        return [json.loads(line) for line in self.output.read_bytes().splitlines()]

    def line(self, request_id: str, event: str = "request_completed") -> dict[str, Any]:
        def find() -> list[dict[str, Any]]:
            return [line for line in self.lines() if line["requestId"] == request_id and line["msg"] == event]

        # The line is written when the request is complete, a moment after the client has its answer.
        found = eventually(find, 3)
        assert len(found) == 1, f"{len(found)} lines {event} for {request_id}"
        line: dict[str, Any] = found[0]
        return line

    def login(self, username: str) -> dict[str, str]:
        reply = self.client.post("/auth/login", json={"username": username, "password": PASSWORD})
        assert reply.status_code == 200, reply.text
        tokens: dict[str, str] = reply.json()
        return tokens

    def headers(self, username: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.login(username)['access_token']}"}

    def stop(self, timeout: float = 15) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


def eventually(check: Callable[[], Any], seconds: float = 10) -> Any:
    """Wait until the check is true; its value."""
    limit = time.monotonic() + seconds
    while True:
        try:
            if value := check():
                return value
        except httpx.TransportError:
            pass
        assert time.monotonic() < limit, "did not happen in time"
        time.sleep(0.02)


def start_service(
    cli: Cli, home: Path, arguments: Sequence[str] = (), *, production_times: bool = False, **extra: str
) -> Service:
    """Start ``serve`` on a unix socket and wait until it answers; checks and drains are fast unless told."""
    socket, output = home / "api.sock", home / "out.log"
    with output.open("ab") as stream:
        process = subprocess.Popen(
            cli.command("serve", "--uds", str(socket), *arguments),
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=cli.env(**({} if production_times else FAST), **extra),
        )
    client = httpx.Client(
        transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://pharma", timeout=15
    )
    service = Service(process, socket, output, cli, client)
    eventually(lambda: process.poll() is not None or client.get("/health/live").status_code == 200)
    assert process.poll() is None, output.read_text()
    return service
