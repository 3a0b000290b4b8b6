# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the container one host that is source and staging at once: server, keys, configuration, data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

DATABASE = "pharma"
STORE = Path("/var/lib/pharma-store")
SETTINGS = Path("/etc/pharma-ops")
EVIDENCE = Path("/var/lib/pharma-ops/evidence")
RELEASES = Path("/opt/pharma/releases")
SERVER_VERSION = "17"
# Bytes that one sale of the demo data takes with everything that belongs to it, indexes included.
BYTES_PER_SALE = 820
AS_OF = "2026-01-31"

CONFIG = """
environment = "lab"

[databases.{database}]
host = "/var/run/postgresql"
user = "postgres"
release_sql = "select name, version, digest from pharmacy.deployments order by id desc limit 1"
migration_head_sql = "select max(version) from pharmacy.schema_migrations"

[backup]
stores = ["disk"]
recipients_file = "{settings}/recipients.txt"
signing_key_file = "{settings}/keys/backup-signing.pem"

[stores.disk]
type = "local"
path = "{store}"

[drill]
store = "disk"
database = "{database}"
identity_file = "{settings}/keys/age-identity.txt"
trusted_signers_file = "{settings}/keys/backup-signers.pem"
journey_file = "{settings}/journey.yaml"

[drill.application]
releases_dir = "{releases}"
start = ["{{release}}/bin/pharma-backend", "serve", "--uds", "{{socket}}"]
create_user = [
  "{{release}}/bin/pharma-backend", "create-user", "--username", "{{username}}", "--role", "manager",
  "--password-stdin",
]
environment = {{ PHARMA_ENV = "staging" }}

[evidence]
dir = "{evidence}"
signing_key_file = "{settings}/keys/evidence-signing.pem"
"""

# The same host with the lab's object store in place of its disk.
OBJECT_STORE_SETTINGS = SETTINGS / "object-store.toml"
OBJECT_STORE = """
[stores.disk]
type = "s3"
endpoint = "https://s3:7443"
bucket = "pharma-backups"
addressing_style = "path"
ca_file = "/lab/ca.crt"
credentials_file = "{settings}/keys/store.toml"
"""

# Two stores at once, each with parts of its own in memory.
TWO_STORES_SETTINGS = SETTINGS / "two-stores.toml"


def prepare(release: Path, sales: int, seed: int) -> None:
    """Everything that a round needs; called once, in a fresh container."""
    start_server()
    make_keys()
    backend = install_release(release)
    load_data(backend, sales, seed)


def start_server() -> None:
    """A cluster with Debian's own settings, but for commit times, which the recovery point needs."""
    cluster = (
        "pg_createcluster",
        "-o",
        "track_commit_timestamp=on",
        "--locale",
        "C.UTF-8",
        SERVER_VERSION,
        "main",
    )
    _run(*cluster, "--", "--data-checksums", "--auth-local=trust")
    _run("systemctl", "start", f"postgresql@{SERVER_VERSION}-main")
    for role in ("pharma_owner", "pharma_runtime", "pharma_app login in role pharma_runtime"):
        psql("postgres", f"create role {role}")
    psql("postgres", f"create database {DATABASE} owner pharma_owner")


def make_keys() -> None:
    """Recipients, identities and signing keys, as the roles would deploy them."""
    keys = SETTINGS / "keys"
    for directory in (keys, STORE, Path("/var/lib/pharma-ops"), Path("/var/lib/pharma-ops/drill"), EVIDENCE):
        directory.mkdir(parents=True, exist_ok=True)
    identity = keys / "age-identity.txt"
    recipients = []
    for path in (identity, Path("/root/escrow.txt")):
        _run("age-keygen", "-o", str(path))
        recipients.append(_run("age-keygen", "-y", str(path)).strip())
    (SETTINGS / "recipients.txt").write_text("\n".join(recipients) + "\n")
    for name in ("backup", "evidence"):
        _run("openssl", "genpkey", "-algorithm", "ed25519", "-out", str(keys / f"{name}-signing.pem"))
    _run(
        *("openssl", "pkey", "-in", str(keys / "backup-signing.pem"), "-pubout"),
        *("-out", str(keys / "backup-signers.pem")),
    )
    secrets = json.loads(Path("/lab/secrets.json").read_text())
    (keys / "store.toml").write_text(
        f'access_key = "{secrets["s3_writer_access_key"]}"\nsecret_key = "{secrets["s3_writer_secret_key"]}"\n'
    )
    for path in keys.iterdir():
        path.chmod(0o600)
    shutil.copy("/journey.yaml", SETTINGS / "journey.yaml")
    text = CONFIG.format(
        database=DATABASE, settings=SETTINGS, store=STORE, releases=RELEASES, evidence=EVIDENCE
    )
    (SETTINGS / "config.toml").write_text(text)
    disk = f'[stores.disk]\ntype = "local"\npath = "{STORE}"\n'
    first = OBJECT_STORE.format(settings=SETTINGS)
    OBJECT_STORE_SETTINGS.write_text(text.replace(disk, first))
    second = first.replace("[stores.disk]", "[stores.second]") + 'prefix = "second"\n'
    text = text.replace(disk, first + second).replace('stores = ["disk"]', 'stores = ["disk", "second"]')
    TWO_STORES_SETTINGS.write_text(text)


def install_release(release: Path) -> Path:
    """Install a built release from its own files alone; returns its command."""
    version = json.loads((release / "release.json").read_text())["version"]
    target = RELEASES / version
    _run("python3", "-m", "venv", str(target))
    _run(
        *(str(target / "bin/pip"), "install", "--quiet", "--no-index", "--no-deps", "--require-hashes"),
        *("--find-links", str(release / "wheels"), "--requirement", str(release / "requirements.txt")),
    )
    shutil.copy(release / "release.json", target / "release.json")
    return target / "bin/pharma-backend"


def load_data(backend: Path, sales: int, seed: int) -> None:
    """The demo pharmacy; the same sales and seed give the same rows."""
    url = f"postgresql://postgres@/{DATABASE}?host=/var/run/postgresql"
    env = os.environ | {"PHARMA_ENV": "lab", "DATABASE_URL": url, "MIGRATION_DATABASE_URL": url}
    _run(str(backend), "migrate", env=env)
    _run(str(backend), "demo-data", "--sales", str(sales), "--seed", str(seed), "--as-of", AS_OF, env=env)
    psql(DATABASE, "vacuum analyze")
    settle()


def settle() -> None:
    """Let what was written reach the disk, so that no measurement pays for the one before."""
    psql("postgres", "checkpoint")
    os.sync()


def psql(database: str, statement: str) -> str:
    """Run one statement; returns its rows as unaligned text."""
    return _run(
        "psql",
        "-X",
        "-A",
        "-t",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-U",
        "postgres",
        "-d",
        database,
        "-c",
        statement,
    )


def _run(*argv: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout
