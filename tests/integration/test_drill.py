# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills of real backups in throw-away clusters: what passes, what fails and how, what is left."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from cluster import Cluster
from material import Keys, MakeConfig

from pharma_ops import config, locks
from pharma_ops.backup.create import create_backup
from pharma_ops.drill import isolation, proving, restoring, workspace
from pharma_ops.drill.context import Drill
from pharma_ops.drill.run import DrillOutcome, run_drill
from pharma_ops.errors import ExitCode, OpsError
from pharma_ops.evidence import verify as evidence_verify
from pharma_ops.evidence.record import Verdict
from pharma_ops.log import Log
from pharma_ops.progress import Silent
from pharma_ops.restoring.runner import Report

REALITY = Path(__file__).with_name("reality.sql").read_text(encoding="utf-8")
BEFORE_APP = (
    "select",
    "preflight",
    "fetch",
    "verify_artefacts",
    "decrypt",
    "provision",
    "restore",
    "compare",
    "integrity",
    "negative_control",
)


@pytest.fixture(scope="module")
def source(cluster: Cluster) -> Cluster:
    cluster.create("reality", REALITY)
    cluster.execute("ALTER ROLE pharma_backup SET lo_compat_privileges = on")
    return cluster


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that the account of the server may enter, with a short path."""
    directory = Path(tempfile.mkdtemp(prefix="drill-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def settings(source: Cluster, make_config: MakeConfig, keys: Keys, base: Path) -> config.Config:
    """A host that can make a backup of ``reality`` and drill it."""
    drill = config.Drill(
        database="reality",
        work_dir=base / "work",
        identity_file=keys.identity,
        trusted_signers_file=keys.signers,
        rpo_objective_seconds=1_000_000,
    )
    evidence = config.Evidence(dir=base / "evidence", signing_key_file=keys.signing_key)
    return dataclasses.replace(make_config(source, "reality"), drill=drill, evidence=evidence)


@pytest.fixture
def backed_up(settings: config.Config, log: Log) -> config.Config:
    """The same host, with a backup in its store."""
    create_backup(settings, log, Silent())
    return settings


def drill(settings: config.Config, **arguments: object) -> DrillOutcome:
    log = Log("lab", "test-run-0001", [])
    return run_drill(settings, log=log, progress=Silent(), **arguments)  # type: ignore[arg-type]


def verdicts(outcome: DrillOutcome) -> dict[str, str]:
    return {stage.name: stage.verdict.value for stage in outcome.record.stages}


def failed_checks(outcome: DrillOutcome) -> list[str]:
    return [
        check.name
        for stage in outcome.record.stages
        for check in stage.checks
        if check.verdict is Verdict.FAILED
    ]


def assert_nothing_left(settings: config.Config) -> None:
    assert settings.drill is not None
    assert list(settings.drill.work_dir.iterdir()) == []
    assert workspace.processes_of(settings.drill.work_dir) == {}


def dump_of(cluster: Cluster, dbname: str, path: Path, *words: str) -> Path:
    import subprocess

    command = [cluster.bin / "pg_dump", "-h", cluster.host, "-p", str(cluster.port), "-U", "postgres"]
    subprocess.run([*command, "-Fc", *words, "-f", path, dbname], check=True, timeout=60)
    return path


def test_the_data_of_a_backup_is_proven_and_the_missing_application_is_not(
    backed_up: config.Config, keys: Keys
) -> None:
    outcome = drill(backed_up)
    found = verdicts(outcome)
    assert {name: found[name] for name in BEFORE_APP} == dict.fromkeys(BEFORE_APP, "passed"), (
        outcome.record.cause
    )
    assert (found["app_start"], found["journey"]) == ("unknown", "not_run")
    assert (found["teardown"], found["evidence"]) == ("passed", "passed")
    assert outcome.record.verdict is Verdict.UNKNOWN
    assert outcome.exit_code is ExitCode.COULD_NOT_RUN
    assert outcome.record.rto.seconds is None
    assert outcome.record.rpo.seconds is not None
    checks = evidence_verify.verify_directory(outcome.directory, keys.signers.read_bytes())
    assert evidence_verify.overall(checks) is Verdict.PASSED, checks
    assert_nothing_left(backed_up)


def test_a_set_whose_name_is_not_the_databases_is_proven_too(settings: config.Config, log: Log) -> None:
    assert settings.drill is not None
    section = dataclasses.replace(settings.databases["reality"], dbname="reality")
    settings = dataclasses.replace(
        settings,
        databases={"pharmacy": section},
        drill=dataclasses.replace(settings.drill, database="pharmacy"),
    )
    create_backup(settings, log, Silent())
    outcome = drill(settings)
    found = verdicts(outcome)
    assert {name: found[name] for name in BEFORE_APP} == dict.fromkeys(BEFORE_APP, "passed"), (
        outcome.record.cause
    )


@pytest.mark.parametrize(
    ("change", "table"),
    [
        (
            "UPDATE shop.product SET name = name || ' ' WHERE id = (SELECT min(id) FROM shop.product)",
            "product",
        ),
        ("DELETE FROM shop.product WHERE id = (SELECT min(id) FROM shop.product)", "product"),
        ("INSERT INTO shop.extra DEFAULT VALUES", "extra"),
    ],
)
def test_one_row_that_differs_fails_the_drill_and_is_named(
    cluster: Cluster,
    settings: config.Config,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    make_config: MakeConfig,
    change: str,
    table: str,
) -> None:
    cluster.create(
        "shop",
        "CREATE SCHEMA shop; CREATE TABLE shop.product (id bigint PRIMARY KEY, name text NOT NULL);"
        "INSERT INTO shop.product SELECT g, 'p' || g FROM generate_series(1, 500) g;"
        "CREATE TABLE shop.extra (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT now())",
    )
    assert settings.drill is not None
    settings = dataclasses.replace(
        make_config(cluster, "shop"),
        drill=dataclasses.replace(settings.drill, database="shop"),
        evidence=settings.evidence,
    )
    create_backup(settings, log, Silent())
    compare = proving.compare_content

    def tampered(context: Drill, report: Report) -> None:
        assert context.cluster is not None
        target = context.cluster.target("shop")
        with psycopg.connect(host=target.host, dbname="shop", user="postgres") as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(change.encode())
        compare(context, report)

    monkeypatch.setattr(proving, "compare_content", tampered)
    outcome = drill(settings)
    assert outcome.record.verdict is Verdict.FAILED
    assert outcome.exit_code is ExitCode.FAILED
    assert f"table shop.{table}" in failed_checks(outcome)
    assert f"shop.{table}" in outcome.record.cause
    found = verdicts(outcome)
    assert (found["compare"], found["integrity"], found["teardown"]) == ("failed", "not_run", "passed")
    assert_nothing_left(settings)


def test_an_empty_store_has_nothing_to_prove(settings: config.Config) -> None:
    outcome = drill(settings)
    assert verdicts(outcome)["select"] == "failed"
    assert outcome.record.stages[0].error is not None
    assert outcome.record.stages[0].error["code"] == "NO_BACKUP"
    assert outcome.exit_code is ExitCode.FAILED


def test_an_unfinished_set_is_passed_over_and_told(backed_up: config.Config, store_dir: Path) -> None:
    unfinished = store_dir / "reality" / "29990101T000000Z-abcdef"
    unfinished.mkdir()
    (unfinished / "globals.sql.age").write_bytes(b"x")
    outcome = drill(backed_up)
    assert verdicts(outcome)["select"] == "passed"
    assert outcome.record.stages[0].facts["unfinishedSets"] == ["29990101T000000Z-abcdef"]


def test_a_store_that_is_not_there_leaves_the_question_open(
    backed_up: config.Config, store_dir: Path
) -> None:
    store_dir.rename(store_dir.with_name("elsewhere"))
    outcome = drill(backed_up)
    assert verdicts(outcome)["select"] == "unknown"
    assert outcome.exit_code is ExitCode.COULD_NOT_RUN


@pytest.mark.parametrize("part", ["dump.age", "globals.sql.age"])
def test_a_damaged_object_fails_at_its_digest(backed_up: config.Config, store_dir: Path, part: str) -> None:
    path = next(store_dir.glob(f"reality/*/{part}"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    outcome = drill(backed_up)
    assert verdicts(outcome)["verify_artefacts"] == "failed"
    assert failed_checks(outcome) == [f"{part} as in the manifest"]


def test_a_manifest_of_an_unknown_signer_is_not_believed(
    backed_up: config.Config, keys: Keys, tmp_path: Path
) -> None:
    from pharma_ops.sealing import signing

    other = tmp_path / "others.pem"
    other.write_bytes(signing.generate()[1])
    assert backed_up.drill is not None
    settings = dataclasses.replace(
        backed_up, drill=dataclasses.replace(backed_up.drill, trusted_signers_file=other)
    )
    outcome = drill(settings)
    assert verdicts(outcome)["select"] == "failed"
    assert "trusted keys" in outcome.record.cause


def test_a_wrong_identity_fails_before_anything_is_fetched(backed_up: config.Config, tmp_path: Path) -> None:
    import subprocess

    other = tmp_path / "other.txt"
    subprocess.run(["age-keygen", "-o", other], check=True, capture_output=True)
    assert backed_up.drill is not None
    settings = dataclasses.replace(backed_up, drill=dataclasses.replace(backed_up.drill, identity_file=other))
    outcome = drill(settings)
    found = verdicts(outcome)
    assert (found["preflight"], found["fetch"]) == ("failed", "not_run")
    assert "was encrypted for the recipients" in outcome.record.cause
    assert_nothing_left(settings)


def test_only_one_drill_at_a_time(backed_up: config.Config) -> None:
    with (
        locks.held(backed_up.lock_dir, "drill", "drill-other"),
        pytest.raises(OpsError, match="drill-other") as caught,
    ):
        drill(backed_up)
    assert caught.value.code == "LOCK_HELD"


def test_a_comparison_that_notices_nothing_fails_the_negative_control(
    backed_up: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "compare", lambda _expected, _observed: [])
    outcome = drill(backed_up)
    found = verdicts(outcome)
    assert (found["compare"], found["negative_control"]) == ("passed", "failed")


def test_a_corrupt_index_fails_integrity(backed_up: config.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    integrity = proving.integrity

    def corrupted(context: Drill, report: Report) -> None:
        assert context.cluster is not None
        target = context.cluster.target("reality")
        with psycopg.connect(
            host=target.host, dbname="reality", user="postgres", autocommit=True
        ) as connection:
            connection.execute("CREATE TABLE public.t AS SELECT g AS id FROM generate_series(1, 10) g")
            connection.execute("CREATE INDEX t_id ON public.t (id)")
            connection.execute(
                "UPDATE pg_index SET indisready = false WHERE indexrelid = 'public.t_id'::regclass"
            )
            connection.execute("INSERT INTO public.t VALUES (11)")
            connection.execute(
                "UPDATE pg_index SET indisready = true WHERE indexrelid = 'public.t_id'::regclass"
            )
        integrity(context, report)

    monkeypatch.setattr(proving, "integrity", corrupted)
    outcome = drill(backed_up)
    assert failed_checks(outcome) == ["amcheck of heap and indexes"]


def test_a_restore_that_cannot_succeed_names_its_cause(
    backed_up: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayable = restoring.replayable
    monkeypatch.setattr(
        restoring, "replayable", lambda sql: replayable(sql) + "\nSELECT no_such_function();\n"
    )
    outcome = drill(backed_up)
    assert verdicts(outcome)["restore"] == "failed"
    assert "no_such_function" in outcome.record.cause


def test_a_bare_dump_is_proven_as_far_as_it_can_be(
    source: Cluster, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dump_of(source, "reality", base / "reality.dump")
    settings = config.Config(
        environment="lab",
        lock_dir=base,
        drill=config.Drill(work_dir=base / "work"),
        evidence=config.Evidence(dir=base / "evidence", signing_key_file=base / "none.pem"),
    )
    monkeypatch.chdir(base)
    outcome = drill(settings, dump_file=Path("reality.dump"))
    assert outcome.record.verdict is Verdict.LIMITED, outcome.record.cause
    assert outcome.exit_code is ExitCode.PROVEN
    found = verdicts(outcome)
    assert {found[name] for name in ("select", "fetch", "compare", "app_start", "journey")} == {"not_run"}
    assert outcome.record.subjects[0].name == "reality.dump"
    statement = json.loads((outcome.directory / "evidence.json").read_text())
    assert statement["predicate"]["verdict"] == "limited"
    assert not (outcome.directory / "evidence.dsse.json").exists()
    assert_nothing_left(settings)
    cut = base / "cut.dump"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert drill(settings, dump_file=cut).record.verdict is Verdict.FAILED


@pytest.mark.parametrize(
    "content", [b"", b"garbage" * 100, b"--\n-- PostgreSQL database dump\n--\n", b"PGDMP\x01"]
)
def test_what_is_no_dump_is_refused_before_anything_is_made(base: Path, content: bytes) -> None:
    path = base / "no.dump"
    path.write_bytes(content)
    settings = config.Config(environment="lab", lock_dir=base, drill=config.Drill(work_dir=base / "work"))
    with pytest.raises(OpsError) as caught:
        drill(settings, dump_file=path)
    assert (caught.value.code, caught.value.exit_code) == ("DUMP_INVALID", ExitCode.COULD_NOT_RUN)
    assert not (base / "work").exists()


def test_isolation_is_never_skipped(backed_up: config.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "unavailable", lambda: "systemd does not run on this machine")
    with pytest.raises(OpsError) as caught:
        isolation.start(None, "app", ["true"])  # type: ignore[arg-type]
    assert caught.value.code == "ISOLATION_UNAVAILABLE"
