# SPDX-License-Identifier: GPL-3.0-or-later
"""Real clusters, keys made at run time, and configurations that fit them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cluster import Cluster
from material import BACKUP_PASSWORD, BACKUP_ROLE, Keys, MakeConfig

from pharma_ops import config
from pharma_ops.log import Log
from pharma_ops.sealing import signing


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """An age identity, a file with its recipient and an escrow one, and a pair of signing keys."""
    directory = tmp_path_factory.mktemp("keys")
    recipients = []
    for name in ("identity.txt", "escrow.txt"):
        path = directory / name
        subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True)
        shown = subprocess.run(["age-keygen", "-y", path], check=True, capture_output=True, text=True)
        recipients.append(shown.stdout.strip())
    (directory / "recipients.txt").write_text("\n".join(recipients) + "\n")
    private, public = signing.generate()
    (directory / "signing.pem").write_bytes(private)
    (directory / "signers.pem").write_bytes(public)
    return Keys(
        identity=directory / "identity.txt",
        recipients=directory / "recipients.txt",
        signing_key=directory / "signing.pem",
        signers=directory / "signers.pem",
    )


def _cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    cluster.execute(
        f"CREATE ROLE {BACKUP_ROLE} LOGIN BYPASSRLS; GRANT pg_read_all_data TO {BACKUP_ROLE};"
        "SET password_encryption = 'scram-sha-256'"
    )
    with cluster.connect() as connection:
        password = connection.pgconn.encrypt_password(
            BACKUP_PASSWORD.encode(), BACKUP_ROLE.encode(), b"scram-sha-256"
        )
        connection.execute(f"ALTER ROLE {BACKUP_ROLE} PASSWORD '{password.decode()}'")
    yield cluster
    cluster.remove()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The cluster that is backed up; it has the backup's role."""
    yield from _cluster()


@pytest.fixture(scope="module")
def other_cluster() -> Iterator[Cluster]:
    """Another, fresh cluster: nothing but initdb's roles and databases."""
    fresh = Cluster()
    yield fresh
    fresh.remove()


@pytest.fixture
def store_dir(tmp_path: Path) -> Path:
    """The directory of the store that :func:`make_config` names ``offsite``."""
    directory = tmp_path / "store"
    directory.mkdir()
    return directory


@pytest.fixture
def make_config(tmp_path: Path, store_dir: Path, keys: Keys) -> MakeConfig:
    """Makes a configuration: ``make_config(cluster, "shop", database={…}, backup={…}, store={…})``.

    ``stores={"second": {…}}`` adds stores; a backup goes to all of them. The database is reached over
    loopback as the backup's role, with its password in a file.
    """

    def make(cluster: Cluster, dbname: str, **sections: dict[str, Any]) -> config.Config:
        password_file = tmp_path / "password"
        password_file.write_text(BACKUP_PASSWORD + "\n")
        database = {
            "host": "127.0.0.1",
            "port": cluster.port,
            "user": BACKUP_ROLE,
            "password_file": str(password_file),
        }
        backup = {"recipients_file": str(keys.recipients), "signing_key_file": str(keys.signing_key)}
        store = {"type": "local", "path": str(store_dir)}
        stores = {"offsite": store | sections.get("store", {})} | sections.get("stores", {})
        return config.parse(
            {
                "environment": "lab",
                "state_dir": str(tmp_path / "state"),
                "lock_dir": str(tmp_path / "lock"),
                "databases": {dbname: database | sections.get("database", {})},
                "metrics_dir": str(tmp_path / "metrics"),
                "backup": {"stores": list(stores)} | backup | sections.get("backup", {}),
                "stores": stores,
            }
        )

    return make


@pytest.fixture
def log() -> Log:
    """A log that nobody reads."""
    return Log("lab", "test-run-0001", [])
