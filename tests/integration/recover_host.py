# SPDX-License-Identifier: GPL-3.0-or-later
"""A database host as Debian makes one, with a backup of its database, that tests recover."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cluster import bin_dir
from material import BACKUP_PASSWORD, BACKUP_ROLE, Keys

from pharma_ops.recover import debian
from pharma_ops.recover.debian import DebianCluster

DATABASE = "shop"
MAJOR = int(bin_dir().parent.name)
CONTENT = """
CREATE ROLE shop_owner; CREATE ROLE shop_app LOGIN; GRANT CREATE ON DATABASE shop TO shop_owner;
CREATE SCHEMA shop AUTHORIZATION shop_owner;
CREATE TABLE shop.sale (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text NOT NULL, cents integer);
ALTER TABLE shop.sale OWNER TO shop_owner;
GRANT USAGE ON SCHEMA shop TO shop_app; GRANT SELECT, INSERT ON shop.sale TO shop_app;
INSERT INTO shop.sale (what, cents) SELECT 'sale ' || g, g FROM generate_series(1, 2000) g;
"""
# Kills the command with SIGKILL: after a stage ended, or when the record of a step was written.
KILLER = """
import os, signal, sys
from pharma_ops.recover import record
from pharma_ops.restoring import runner
kind, _, name = sys.argv.pop(1).partition(":")
def dies(function, matches):
    def wrapper(*arguments):
        result = function(*arguments)
        if matches(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapper
if kind == "stage":
    runner.Runner._add = dies(runner.Runner._add, lambda _self, result: result.name == name)
elif kind == "step":
    record.write = dies(record.write, lambda _dir, noted: noted.step == name)
from pharma_ops.cli.main import main
sys.exit(main())
"""


class RecoverHost:
    """A Debian cluster ``recover`` with the database ``shop``, a store, keys and a configuration."""

    name = "recover"
    port = 5599
    backup_id = ""

    def __init__(self, keys: Keys, data: Path | None = None) -> None:
        self.keys = keys
        self.base = Path(tempfile.mkdtemp(prefix="recover-", dir="/var/tmp"))
        self.base.chmod(0o755)
        self.store = self.base / "store"
        self.store.mkdir()
        (self.base / "password").write_text(BACKUP_PASSWORD + "\n")
        self.create(data)
        self.cluster.start()
        self.fill()
        self.write_config()

    @property
    def cluster(self) -> DebianCluster:
        return debian.find(MAJOR, self.name, bin_dir())

    @property
    def data(self) -> Path:
        return self.cluster.data

    def create(self, data: Path | None = None) -> None:
        where = [f"--datadir={data}"] if data else []
        words = [
            "pg_createcluster",
            f"--port={self.port}",
            *where,
            str(MAJOR),
            self.name,
            "--",
            "--data-checksums",
        ]
        subprocess.run(words, check=True, capture_output=True)
        conf = Path(f"/etc/postgresql/{MAJOR}/{self.name}")
        with (conf / "postgresql.conf").open("a") as stream:
            stream.write("track_commit_timestamp = on\nlisten_addresses = '127.0.0.1'\n")

    def psql(self, sql: str, dbname: str = "postgres") -> str:
        words = ["runuser", "-u", "postgres", "--", str(bin_dir() / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(
            [*words, "-p", str(self.port), "-h", "/var/run/postgresql", "-d", dbname],
            input=sql,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def fill(self) -> None:
        self.psql(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
        self.psql(CONTENT, DATABASE)
        self.psql(f"CREATE ROLE {BACKUP_ROLE} LOGIN BYPASSRLS; GRANT pg_read_all_data TO {BACKUP_ROLE}")
        self.let_back_up()

    def let_back_up(self) -> None:
        escaped = BACKUP_PASSWORD.replace("'", "''").replace("\\", "\\\\")
        self.psql(f"ALTER ROLE {BACKUP_ROLE} PASSWORD E'{escaped}'")

    def write_config(self, identity: Path | None = None) -> None:
        (self.base / "config.toml").write_text(
            f"""
environment = "lab"
state_dir = "{self.base}/state"
lock_dir = "{self.base}/lock"
metrics_dir = "{self.base}/metrics"
[databases.{DATABASE}]
host = "127.0.0.1"
port = {self.port}
user = "{BACKUP_ROLE}"
password_file = "{self.base}/password"
[backup]
recipients_file = "{self.keys.recipients}"
signing_key_file = "{self.keys.signing_key}"
[stores.offsite]
type = "local"
path = "{self.store}"
[drill]
database = "{DATABASE}"
identity_file = "{identity or self.keys.identity}"
trusted_signers_file = "{self.keys.signers}"
[evidence]
dir = "{self.base}/evidence"
signing_key_file = "{self.keys.signing_key}"
"""
        )

    def back_up(self) -> str:
        status, result, text = self.command("backup", "create")
        assert status == 0, text
        return str(result["backup_id"])

    def command(self, *words: str, die: str = "", typed: str = "") -> tuple[int, dict[str, Any], str]:
        """Run the command; its exit status, its JSON result and its standard error.

        :param die: ``stage:NAME`` or ``step:NAME``: killed by SIGKILL there.
        :param typed: its standard input, which is no terminal.
        """
        engine = ["-c", KILLER, die] if die else ["-m", "pharma_ops.cli"]
        done = subprocess.run(
            [sys.executable, *engine, *words, "--config", str(self.base / "config.toml"), "--json"],
            capture_output=True,
            text=True,
            input=typed,
            env=os.environ,
            check=False,
            timeout=300,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr

    def recover(self, *words: str, die: str = "", typed: str = "") -> tuple[int, dict[str, Any], str]:
        options = ("--cluster", self.name, "--jobs", "1", "--confirm", DATABASE)
        return self.command("recover", *options, *words, die=die, typed=typed)

    def undo(self, *words: str) -> tuple[int, dict[str, Any], str]:
        return self.command("recover", "undo", "--confirm", DATABASE, *words)

    def sales(self) -> int:
        return int(self.psql("SELECT count(*) FROM shop.sale", DATABASE))

    def beside(self, mark: str) -> list[Path]:
        """What lies beside the data directory under a name with a mark."""
        return sorted(self.data.parent.glob(f"{self.data.name}{mark}*"))

    def identity(self, data: Path) -> tuple[bytes, bytes]:
        """What tells a data directory from every other one, byte for byte."""
        return (data / "PG_VERSION").read_bytes(), (data / "global/pg_control").read_bytes()

    def remove(self) -> None:
        data = self.data
        if self.cluster.running:
            self.cluster.stop()
        for path in data.parent.glob(f"{data.name}*"):
            shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(Path(f"/etc/postgresql/{MAJOR}/{self.name}"), ignore_errors=True)
        shutil.rmtree(self.base)
