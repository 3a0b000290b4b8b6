# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps made by others with a real pg_dump, in a directory that others write: drilled, and refused."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cluster import Cluster

from pharma_ops import config
from pharma_ops.cli.main import main
from pharma_ops.drill import workspace
from pharma_ops.drill.run import DrillOutcome, run_drill
from pharma_ops.evidence import verify as evidence_verify
from pharma_ops.log import Log
from pharma_ops.progress import Silent
from pharma_ops.sealing import age, keys, signing

OWN = keys.generate("own")
SQL = (
    "CREATE SCHEMA erp; CREATE TABLE erp.item (id bigint PRIMARY KEY, name text NOT NULL);"
    "INSERT INTO erp.item SELECT g, md5(g::text) FROM generate_series(1, 20000) g;"
    "CREATE ROLE erp_owner; ALTER TABLE erp.item OWNER TO erp_owner"
)


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that the account of the server may enter, with a short path."""
    directory = Path(tempfile.mkdtemp(prefix="drill-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def dump(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What somebody's job makes of the database ``erp``: pg_dump -Fc, in UTC."""
    cluster.create("erp", SQL)
    return _pg_dump(cluster, tmp_path_factory.mktemp("dump") / "erp.dump", "-Fc")


def _pg_dump(cluster: Cluster, path: Path, *words: str) -> bytes:
    command = [cluster.bin / "pg_dump", "-h", cluster.host, "-p", str(cluster.port), "-U", "postgres"]
    subprocess.run(
        [*command, *words, "-f", path, "erp"], check=True, timeout=60, env=os.environ | {"TZ": "UTC"}
    )
    return path.read_bytes()


@pytest.fixture
def host(base: Path) -> config.Config:
    """A staging host whose store has a directory of others' dumps, still empty."""
    (base / "identity.txt").write_text(OWN.text)
    (base / "identity.txt").chmod(0o600)
    private, public = signing.generate()
    (base / "signing.pem").write_bytes(private)
    (base / "signers.pem").write_bytes(public)
    (base / "store" / "erp").mkdir(parents=True)
    (base / "config.toml").write_text(
        f'environment = "lab"\nlock_dir = "{base}/lock"\nmetrics_dir = "{base}/metrics"\n'
        f'[drill]\ndatabase = "pharma"\nwork_dir = "{base}/work"\nidentity_file = "{base}/identity.txt"\n'
        f'trusted_signers_file = "{base}/signers.pem"\n'
        f'[evidence]\ndir = "{base}/evidence"\nsigning_key_file = "{base}/signing.pem"\n'
        f'[stores.others]\ntype = "local"\npath = "{base}/store"\n'
        '[foreign.erp]\nstore = "others"\nprefix = "erp/"\npattern = "*.dump*"\ndatabase = "erp"\n'
    )
    return config.load(base / "config.toml")


def put(base: Path, name: str, data: bytes) -> str:
    (base / "store" / "erp" / name).write_bytes(data)
    return f"erp/{name}"


def drill(host: config.Config, wanted: str | None = None) -> DrillOutcome:
    log = Log("lab", "test-run-0001", [])
    outcome = run_drill(host, foreign_dump=("erp", wanted), log=log, progress=Silent())
    assert host.drill is not None
    assert list(host.drill.work_dir.iterdir()) == []
    assert workspace.processes_of(host.drill.work_dir) == {}
    return outcome


def verdicts(outcome: DrillOutcome) -> dict[str, str]:
    return {stage.name: stage.verdict.value for stage in outcome.record.stages}


def error(outcome: DrillOutcome) -> tuple[str, str]:
    stage = next(stage for stage in outcome.record.stages if stage.error)
    assert stage.error is not None
    return stage.name, stage.error["code"]


def test_a_dump_of_others_is_proven_as_far_as_it_can_be(host: config.Config, base: Path, dump: bytes) -> None:
    put(base, "erp-20200101T000000Z.dump", b"an old one")
    key = put(base, "erp.dump", dump)
    outcome = drill(host)
    record = outcome.record
    assert record.verdict.value == "limited", record.cause
    assert outcome.exit_code == 0
    found = verdicts(outcome)
    assert {found[name] for name in ("select", "fetch", "inspect", "preflight", "restore", "integrity")} == {
        "passed"
    }
    assert {found[name] for name in ("verify_artefacts", "compare", "app_start")} == {"not_run"}
    assert [(one.name, one.sha256) for one in record.subjects] == [(key, hashlib.sha256(dump).hexdigest())]
    assert record.backup["kind"] == "foreign"
    assert record.backup["database"] == "erp"
    assert len(record.backup["missingProofs"]) == 4
    # The recovery point is when pg_dump was begun, to the second.
    assert record.rpo_basis == "dump_header"
    assert record.newest_change_at is not None
    assert abs((datetime.now(UTC) - record.newest_change_at).total_seconds()) < 600
    assert record.rpo.seconds == pytest.approx(
        (record.started_at - record.newest_change_at).total_seconds(), abs=0.01
    )
    report = (outcome.directory / "report.html").read_text()
    assert "that it equals its source: without a manifest" in report
    assert "sem assinatura, pode ter sido" in report
    assert "NOT encrypted" in report
    checks = evidence_verify.verify_directory(outcome.directory, (base / "signers.pem").read_bytes())
    assert evidence_verify.overall(checks).value == "passed", checks
    assert not (base / "metrics").exists()


def test_an_encrypted_dump_is_opened_by_the_key_of_the_host(
    host: config.Config, base: Path, dump: bytes
) -> None:
    sealed = age.encrypt([OWN.recipient], dump)
    put(base, "erp.dump.age", sealed)
    outcome = drill(host)
    assert outcome.record.verdict.value == "limited", outcome.record.cause
    inspect = next(stage for stage in outcome.record.stages if stage.name == "inspect")
    assert inspect.facts["encrypted"] is True
    assert inspect.facts["keyFingerprint"] == OWN.fingerprint
    assert inspect.facts["plaintextSha256"] == hashlib.sha256(dump).hexdigest()
    assert outcome.record.subjects[0].sha256 == hashlib.sha256(sealed).hexdigest()


def test_what_is_no_dump_is_refused_by_name(
    host: config.Config, base: Path, cluster: Cluster, dump: bytes
) -> None:
    plain = _pg_dump(cluster, base / "plain.sql", "-Fp")
    stranger = age.encrypt([keys.generate().recipient], dump)
    cases: list[tuple[bytes, str, str]] = [
        (plain, "DUMP_INVALID", "plain SQL"),
        (gzip.compress(plain), "DUMP_INVALID", "gzip"),
        (os.urandom(2000), "DUMP_INVALID", "no pg_dump archive"),
        (b"", "DUMP_INVALID", "empty"),
        (dump[:300], "DUMP_INVALID", "pg_restore cannot read it"),
        (stranger, "IDENTITY_WRONG", "not encrypted for the key"),
        (age.encrypt([OWN.recipient], dump)[:-100], "CIPHERTEXT_DAMAGED", "damaged or cut"),
    ]
    for number, (data, code, words) in enumerate(cases):
        key = put(base, f"case{number}.dump", data)
        outcome = drill(host, key)
        assert error(outcome) == ("inspect", code), key
        assert words in outcome.record.cause
        assert outcome.record.verdict.value == "failed"
        assert verdicts(outcome)["restore"] == "not_run"
        if code == "DUMP_INVALID":
            assert key in outcome.record.cause


def test_a_truncated_dump_fails_at_restore(host: config.Config, base: Path, dump: bytes) -> None:
    put(base, "erp.dump", dump[: len(dump) * 2 // 3])
    outcome = drill(host)
    assert error(outcome) == ("restore", "RESTORE_FAILED")
    assert outcome.record.verdict.value == "failed"


def test_an_empty_prefix_and_a_wrong_name_have_nothing_to_prove(
    host: config.Config, base: Path, dump: bytes
) -> None:
    outcome = drill(host)
    assert error(outcome) == ("select", "NO_BACKUP")
    assert outcome.exit_code == 1
    put(base, "erp.dump", dump)
    assert error(drill(host, "erp/other.dump")) == ("select", "BACKUP_MISSING")


def test_a_dump_of_another_database_fails(host: config.Config, base: Path, dump: bytes) -> None:
    put(base, "erp.dump", dump)
    other = dataclasses.replace(
        host, foreign={"erp": dataclasses.replace(host.foreign["erp"], database="pharma")}
    )
    outcome = drill(other)
    assert verdicts(outcome)["inspect"] == "failed"
    assert "expected pharma, observed erp" in outcome.record.cause


def test_a_dump_that_seems_younger_than_its_object_has_no_recovery_point(
    host: config.Config, base: Path, dump: bytes
) -> None:
    put(base, "erp.dump", dump)
    # Eleven hours behind UTC: read there, the header's time lies in the future.
    zone = dataclasses.replace(host.foreign["erp"], timezone="Pacific/Pago_Pago")
    outcome = drill(dataclasses.replace(host, foreign={"erp": zone}))
    assert verdicts(outcome)["inspect"] == "unknown"
    assert (outcome.record.rpo.seconds, outcome.record.rpo_basis) == (None, None)
    assert outcome.exit_code == 2


def test_a_job_that_has_stopped_fails_the_drill(host: config.Config, base: Path, dump: bytes) -> None:
    put(base, "erp.dump", dump)
    assert host.drill is not None
    strict = dataclasses.replace(host, drill=dataclasses.replace(host.drill, rpo_objective_seconds=0))
    outcome = drill(strict)
    assert outcome.record.verdict.value == "failed"
    assert "RPO objective missed" in outcome.record.cause
    assert "The file restores, but it is" in (outcome.directory / "report.html").read_text()


def test_the_commands(
    host: config.Config, base: Path, dump: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(base / "config.toml")
    put(base, "erp-20200101T000000Z.dump", b"old")
    put(base, "erp.dump", dump)
    assert main(["backup", "list", "--foreign", "--config", path]) == 0
    text = capsys.readouterr().out
    assert "2 foreign dumps of erp" in text
    assert "20200101T000000Z-" in text
    assert main(["backup", "list", "--foreign", "erp", "--json", "--config", path]) == 0
    listed = json.loads(capsys.readouterr().out)["backups"]
    assert [item["key"] for item in listed] == ["erp/erp-20200101T000000Z.dump", "erp/erp.dump"]
    assert main(["drill", "run", "--foreign", "erp", "--json", "--config", path]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["verdict"], result["backup_id"]) == ("limited", listed[1]["backup_id"])
    assert result["evidence_dir"].startswith(f"{base}/evidence/")
    assert main(["drill", "run", "--foreign", "nobody", "--config", path]) == 2
    assert "there are: erp" in capsys.readouterr().err
    assert main(["drill", "run", "--object", "x", "--config", path]) == 2
    assert "--foreign" in capsys.readouterr().err
