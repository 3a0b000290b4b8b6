# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole backup set in Azurite: made from a real database by the writer, verified and drilled by the reader."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from server import Azurite

sys.path.append(str(Path(__file__).parent.parent / "integration"))

from cluster import Cluster

from pharma_ops import clock, config
from pharma_ops.backup import prune
from pharma_ops.backup.create import create_backup
from pharma_ops.backup.retention import Policy
from pharma_ops.drill.run import run_drill
from pharma_ops.log import Log
from pharma_ops.progress import Silent
from pharma_ops.sealing import signing
from pharma_ops.store.azure import AzureStore

ROWS = 5000
TABLES = """
CREATE TABLE medicine (id int PRIMARY KEY, name text NOT NULL, price numeric(10, 2));
INSERT INTO medicine SELECT n, 'medicine ' || n || repeat(md5(n::text), 20), n / 7.0 FROM generate_series(1, 5000) n;
CREATE SEQUENCE sale_number START 100;
SELECT nextval('sale_number');
"""


@pytest.fixture(scope="module")
def source() -> Iterator[Cluster]:
    cluster = Cluster()
    cluster.create("shop", TABLES)
    yield cluster
    cluster.remove()


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that the account of the server may enter, with a short path."""
    directory = Path(tempfile.mkdtemp(prefix="azure-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def host(source: Cluster, base: Path) -> config.Config:
    """A host with keys of its own, whose stores are still to be given."""
    identity = base / "identity.txt"
    subprocess.run(["age-keygen", "-o", identity], check=True, capture_output=True)
    shown = subprocess.run(["age-keygen", "-y", identity], check=True, capture_output=True, text=True)
    (base / "recipients.txt").write_text(shown.stdout)
    private, public = signing.generate()
    (base / "signing.pem").write_bytes(private)
    (base / "signers.pem").write_bytes(public)
    return config.Config(
        environment="lab",
        state_dir=base / "state",
        lock_dir=base / "lock",
        metrics_dir=base / "metrics",
        databases={"shop": config.Database(host=source.host, port=source.port, user="postgres")},
        backup=config.Backup(recipients_file=base / "recipients.txt", signing_key_file=base / "signing.pem"),
        drill=config.Drill(
            database="shop",
            work_dir=base / "work",
            identity_file=identity,
            trusted_signers_file=base / "signers.pem",
            rpo_objective_seconds=1_000_000,
        ),
        evidence=config.Evidence(dir=base / "evidence", signing_key_file=base / "signing.pem"),
    )


@pytest.fixture
def section_of(
    azurite: Azurite, container: str, permissions: dict[str, str], base: Path
) -> Callable[..., Any]:
    def section(identity: str) -> config.Store:
        path = base / f"{identity}.toml"
        path.write_text(f'sas_token = "{azurite.sas(container, permissions[identity])}"\n')
        return config.Store(
            type="azure",
            endpoint=azurite.endpoint,
            bucket=container,
            prefix="site",
            ca_file=azurite.ca_file,
            credentials_file=path,
        )

    return section


def test_a_set_is_made_by_the_writer_and_drilled_by_the_reader(
    host: config.Config, section_of: Callable[..., Any]
) -> None:
    log = Log("lab", "test-run-0001", [])
    writer = dataclasses.replace(host, stores={"offsite": section_of("writer")})
    assert create_backup(writer, log, Silent()).verdict == "complete"

    reader = dataclasses.replace(host, stores={"offsite": section_of("reader")})
    keys = [info.key for info in AzureStore(section_of("reader")).list()]
    assert [key.rpartition("/")[2] for key in keys] == [
        "dump.age",
        "globals.sql.age",
        "manifest.json",
        "manifest.json.sig",
    ]
    outcome = run_drill(reader, log=log, progress=Silent())
    failed = [
        (stage.name, check.name, check.observed)
        for stage in outcome.record.stages
        for check in stage.checks
        if check.verdict.value == "failed"
    ]
    assert failed == []
    stages = {stage.name: stage.verdict.value for stage in outcome.record.stages}
    for name in ("fetch", "verify_artefacts", "decrypt", "restore", "compare", "integrity"):
        assert stages[name] == "passed", stages


def test_an_altered_set_does_not_pass(
    host: config.Config, section_of: Callable[..., Any], open_as: Any
) -> None:
    """The check that cannot fail would be none: one byte of the dump is changed in the store."""
    log = Log("lab", "test-run-0001", [])
    create_backup(dataclasses.replace(host, stores={"offsite": section_of("writer")}), log, Silent())
    owner = open_as("owner")
    key = next(info.key for info in owner.list() if info.key.endswith("dump.age"))
    data = bytearray(owner.get_bytes(key))
    data[len(data) // 2] ^= 1
    owner.delete(key)
    owner.put_bytes(key, bytes(data))
    reader = dataclasses.replace(host, stores={"offsite": section_of("reader")})
    outcome = run_drill(reader, log=log, progress=Silent())
    stages = {stage.name: stage.verdict.value for stage in outcome.record.stages}
    assert "failed" in (stages["fetch"], stages["verify_artefacts"]), stages
    assert stages["restore"] == "not_run"


def test_the_pruner_removes_what_the_policy_lets_go(
    section_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve daily sets, of which five are kept, with a token that can only list and delete."""
    writer = AzureStore(section_of("writer"))
    now = clock.now()
    ids = [f"{now - timedelta(days=11 - number):%Y%m%dT%H%M%SZ}-abcdef" for number in range(12)]
    for backup_id in ids:
        for name in ("globals.sql.age", "dump.age", "manifest.json.sig", "manifest.json"):
            writer.put_bytes(f"shop/{backup_id}/{name}", b"x" * 10)
    pruner = AzureStore(section_of("pruner"))
    policy = Policy.of(config.Retention(daily=5, weekly=0, monthly=0, yearly=0, grace_hours=1))
    later = now + timedelta(hours=2)
    monkeypatch.setattr(clock, "now", lambda: later)
    found = prune.survey(pruner, "shop", policy, prune.Before(), later)
    outcome = prune.prune(pruner, found, Log("lab", "test-run-0001", []))
    assert (outcome.verdict, list(outcome.removed)) == ("done", ids[:7])
    left = {info.key.split("/")[1] for info in AzureStore(section_of("reader")).list("shop/")}
    assert sorted(left) == ids[7:]
