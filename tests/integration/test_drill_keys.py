# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills with another key than the host's: what the evidence says of it, what the metric, and what is refused."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from material import MakeConfig

from pharma_ops import config
from pharma_ops.backup.create import create_backup
from pharma_ops.cli.main import main
from pharma_ops.drill.run import DrillOutcome, run_drill
from pharma_ops.errors import OpsError
from pharma_ops.evidence import escrow
from pharma_ops.evidence import verify as evidence_verify
from pharma_ops.log import Log
from pharma_ops.progress import Silent
from pharma_ops.sealing import keys, signing
from pharma_ops.sealing.keys import Identity

OWN, ESCROW, STRANGER = (keys.generate(name) for name in ("own", "escrow", "stranger"))
SQL = "CREATE TABLE t AS SELECT g AS id, 'x' || g AS name FROM generate_series(1, 100) g"


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that the account of the server may enter, with a short path."""
    directory = Path(tempfile.mkdtemp(prefix="drill-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def source(cluster: Cluster) -> Cluster:
    cluster.create("keyed", SQL)
    return cluster


@pytest.fixture
def host(source: Cluster, make_config: MakeConfig, base: Path) -> config.Config:
    """A host that makes backups for two recipients and has the key of one."""
    identity = base / "identity.txt"
    identity.write_text(OWN.text)
    identity.chmod(0o600)
    (base / "recipients.txt").write_text(f"{OWN.recipient.text}\n{ESCROW.recipient.text}\n")
    private, public = signing.generate()
    (base / "signing.pem").write_bytes(private)
    (base / "signers.pem").write_bytes(public)
    made = make_config(
        source,
        "keyed",
        backup={
            "recipients_file": str(base / "recipients.txt"),
            "signing_key_file": str(base / "signing.pem"),
        },
    )
    drill = config.Drill(
        database="keyed",
        work_dir=base / "work",
        identity_file=identity,
        trusted_signers_file=base / "signers.pem",
    )
    return dataclasses.replace(
        made,
        drill=drill,
        evidence=config.Evidence(dir=base / "evidence", signing_key_file=base / "signing.pem"),
        metrics_dir=base / "metrics",
    )


def backup(host: config.Config) -> str:
    return create_backup(host, Log("lab", "test-run-0001", []), Silent()).backup_id


def drill(host: config.Config, identity: Identity | None = None, **more: object) -> DrillOutcome:
    secret = identity.secret if identity else None
    log = Log("lab", "test-run-0001", [])
    return run_drill(host, identity=secret, log=log, progress=Silent(), **more)  # type: ignore[arg-type]


def stage(outcome: DrillOutcome, name: str) -> dict[str, object]:
    found = next(item for item in outcome.record.stages if item.name == name)
    return found.facts | {"verdict": found.verdict.value, "summary": found.summary, "error": found.error}


def metric(host: config.Config) -> str:
    path = host.metrics_dir / "pharma_escrow.prom"
    return path.read_text() if path.exists() else ""


def test_the_escrow_key_opens_the_set_and_the_evidence_says_so(host: config.Config, base: Path) -> None:
    backup(host)
    # The host's own key is gone: nothing but the given one can have opened it.
    (base / "identity.txt").unlink()
    outcome = drill(host, ESCROW)
    found = stage(outcome, "decrypt")
    assert found["verdict"] == "passed", outcome.record.cause
    assert (found["keyFingerprint"], found["keyRole"]) == (ESCROW.fingerprint, "escrow")
    assert stage(outcome, "compare")["verdict"] == "passed"
    for name in ("report.html", "report.md", "evidence.json", "drill.log"):
        text = (outcome.directory / name).read_text()
        assert ESCROW.fingerprint in text
        assert "AGE-SECRET-KEY" not in text
    report = (outcome.directory / "report.html").read_text()
    assert f"chave: {ESCROW.fingerprint} · papel da chave: custódia" in report
    assert f"the key {ESCROW.fingerprint} (escrow) opened them" in report
    checks = evidence_verify.verify_directory(outcome.directory, (base / "signers.pem").read_bytes())
    assert evidence_verify.overall(checks).value == "passed", checks
    value = outcome.record.finished_at.timestamp()
    (line,) = [line for line in metric(host).splitlines() if not line.startswith("#")]
    name, shown = line.split()
    assert name == 'pharma_escrow_last_proven_timestamp_seconds{database="keyed"}'
    assert float(shown) == pytest.approx(value, abs=0.01)


def test_a_drill_with_the_hosts_key_leaves_the_metric_as_it_is(host: config.Config) -> None:
    backup(host)
    own = stage(drill(host), "decrypt")
    assert (own["keyFingerprint"], own["keyRole"]) == (OWN.fingerprint, "in use")
    assert metric(host) == ""
    proven = drill(host, ESCROW)
    before = metric(host)
    # The host's own key, given by hand, is still the host's own.
    assert stage(drill(host, OWN), "decrypt")["keyRole"] == "in use"
    assert metric(host) == before != ""
    (moment,) = escrow.last_proven(host.evidence.dir).values()
    assert abs((moment - proven.record.finished_at).total_seconds()) < 0.01
    statement = proven.directory / "evidence.json"
    statement.write_text(statement.read_text().replace("keyed", "other"))
    assert escrow.last_proven(host.evidence.dir) == {}


def test_the_recipients_file_has_the_last_word_on_the_role(host: config.Config, base: Path) -> None:
    (base / "recipients.txt").write_text(
        f"# [in use]\n{OWN.recipient.text}\n{ESCROW.recipient.text}\n# [escrow]\n{STRANGER.recipient.text}\n"
    )
    backup(host)
    found = stage(drill(host, ESCROW), "decrypt")
    assert (found["keyRole"], found["keyRoleBasis"]) == ("in use", "recipients file")
    found = stage(drill(host, STRANGER), "decrypt")
    assert (found["keyRole"], found["keyRoleBasis"]) == ("escrow", "recipients file")


def test_an_escrow_key_does_not_open_a_set_that_was_made_before_it_was_added(
    host: config.Config, base: Path
) -> None:
    (base / "recipients.txt").write_text(f"{OWN.recipient.text}\n")
    earlier = backup(host)
    (base / "recipients.txt").write_text(f"{OWN.recipient.text}\n{ESCROW.recipient.text}\n")
    later = backup(host)
    refused = drill(host, ESCROW, backup_id=earlier)
    found = stage(refused, "preflight")
    assert found["verdict"] == "failed"
    assert found["error"]["code"] == "IDENTITY_WRONG"  # type: ignore[index]
    assert OWN.fingerprint in str(found["error"])
    assert stage(refused, "fetch")["verdict"] == "not_run"
    assert metric(host) == ""
    assert stage(drill(host, ESCROW, backup_id=later), "decrypt")["verdict"] == "passed"


def test_after_a_rotation_old_and_new_sets_are_proven_each_by_its_own_key(
    host: config.Config, base: Path
) -> None:
    old = backup(host)
    new = keys.generate("rotated")
    keys.add(base / "identity.txt", new)
    (base / "recipients.txt").write_text(f"{new.recipient.text}\n{ESCROW.recipient.text}\n")
    recent = backup(host)
    for backup_id, fingerprint in ((old, OWN.fingerprint), (recent, new.fingerprint)):
        found = stage(drill(host, backup_id=backup_id), "decrypt")
        assert (found["verdict"], found["keyFingerprint"], found["keyRole"]) == (
            "passed",
            fingerprint,
            "in use",
        )


@pytest.mark.parametrize(
    ("content", "mode", "code"),
    [(OWN.text, 0o644, "IDENTITY_EXPOSED"), ("garbage\n", 0o600, "IDENTITY_INVALID")],
)
def test_a_bad_identity_file_is_told_before_anything_is_fetched(
    host: config.Config, base: Path, content: str, mode: int, code: str
) -> None:
    backup(host)
    (base / "identity.txt").write_text(content)
    (base / "identity.txt").chmod(mode)
    outcome = drill(host)
    assert stage(outcome, "preflight")["error"]["code"] == code  # type: ignore[index]
    assert outcome.record.verdict.value == "unknown"
    assert stage(outcome, "fetch")["verdict"] == "not_run"


def test_no_backup_is_made_without_escrow(host: config.Config, base: Path) -> None:
    (base / "recipients.txt").write_text(f"# [in use]\n{OWN.recipient.text}\n# [escrow]\n")
    with pytest.raises(OpsError) as caught:
        backup(host)
    assert caught.value.code == "ESCROW_MISSING"
    assert list(Path(str(host.stores["offsite"].path)).iterdir()) == []


def write_config(host: config.Config, base: Path) -> Path:
    assert host.drill is not None
    path = base / "config.toml"
    path.write_text(
        f'environment = "lab"\nlock_dir = "{base}/lock"\nmetrics_dir = "{base}/metrics"\n'
        f'[drill]\ndatabase = "keyed"\nwork_dir = "{base}/work"\nidentity_file = "{base}/none.txt"\n'
        f'trusted_signers_file = "{base}/signers.pem"\n'
        f'[evidence]\ndir = "{base}/evidence"\nsigning_key_file = "{base}/signing.pem"\n'
        f'[stores.offsite]\ntype = "local"\npath = "{host.stores["offsite"].path}"\n'
    )
    return path


def test_the_command_takes_the_key_from_standard_input_and_leaves_it_nowhere(
    host: config.Config, base: Path, engine_path: Path
) -> None:
    backup(host)
    watcher = (
        "import subprocess, sys\n"
        "from pharma_ops import process\n"
        "real = subprocess.Popen.__init__\n"
        "def seen(self, args, *rest, **more):\n"
        "    with open(sys.argv[1], 'a') as out:\n"
        "        out.write(repr((list(map(str, args)), more.get('env'))) + chr(10))\n"
        "    real(self, args, *rest, **more)\n"
        "subprocess.Popen.__init__ = seen\n"
        "from pharma_ops.cli.main import main\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    words = ["drill", "run", "--identity", "-", "--json", "--config", str(write_config(host, base))]
    run = subprocess.run(
        [sys.executable, "-c", watcher, str(base / "children"), *words],
        input=ESCROW.text,
        env=os.environ | {"PYTHONPATH": str(engine_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    result = json.loads(run.stdout)
    verdicts = {item["name"]: item["verdict"] for item in result["stages"]}
    assert (verdicts["decrypt"], verdicts["compare"]) == ("passed", "passed"), run.stderr
    children = (base / "children").read_text()
    assert "'age', '--decrypt'" in children
    secret = ESCROW.text.splitlines()[-1]
    assert secret not in children
    assert secret not in run.stdout + run.stderr
    holding = [path for path in base.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert holding == []


def test_the_command_refuses_a_bad_key_before_the_drill_begins(
    host: config.Config, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_config(host, base))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no key\n")))
    assert main(["drill", "run", "--identity", "-", "--config", path]) == 2
    assert "IDENTITY_INVALID" in capsys.readouterr().err
    exposed = base / "escrow.txt"
    exposed.write_text(ESCROW.text)
    exposed.chmod(0o644)
    assert main(["drill", "run", "--identity", str(exposed), "--config", path]) == 2
    assert "IDENTITY_EXPOSED" in capsys.readouterr().err
    assert main(["drill", "run", "--identity", "-", "--dump", "x", "--config", path]) == 2
    assert "ARGUMENT_INVALID" in capsys.readouterr().err
    assert not (base / "evidence").exists()
