# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on the hosts after site.yml, backup.yml and drill.yml, asked of the hosts themselves."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema
import pytest
from kept_alive import Endpoint
from testinfra.host import Host  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STAGES = [
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
    "app_start",
    "journey",
    "teardown",
    "evidence",
]
BUCKET = "pharma-backups"


@pytest.fixture(scope="module")
def evidence(root: Path) -> Path:
    """The evidence of the last drill, as the playbook brought it to the controller."""
    return Path(os.environ.get("LAB_EVIDENCE_DIR") or root / "evidence") / "latest"


@pytest.fixture(scope="module")
def statement(evidence: Path) -> dict[str, Any]:
    """The in-toto statement of the last drill."""
    loaded: dict[str, Any] = json.loads((evidence / "evidence.json").read_text())
    return loaded


def test_every_stage_passed(statement: dict[str, Any], root: Path) -> None:
    """The drill of the whole chain is a full proof, in the shape that the schema promises."""
    predicate = statement["predicate"]
    assert predicate["verdict"] == "passed", predicate["cause"]
    assert [stage["name"] for stage in predicate["stages"]] == STAGES
    assert {stage["verdict"] for stage in predicate["stages"]} == {"passed"}
    schema = json.loads((root / "docs/schemas/evidence.schema.json").read_text())
    jsonschema.validate(statement, schema)


def test_the_evidence_is_about_the_stored_manifest_and_the_installed_release(
    statement: dict[str, Any], s3_as: Callable[..., S3Client], lab_host: Callable[[str], Host]
) -> None:
    """The subjects are the digest of the manifest in the store, and of the release on the production host."""
    import hashlib

    subjects = {item["name"]: item["digest"]["sha256"] for item in statement["subject"]}
    manifests = {name: digest for name, digest in subjects.items() if name.endswith("/manifest.json")}
    ((key, digest),) = manifests.items()
    stored = s3_as("reader").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    assert hashlib.sha256(stored).hexdigest() == digest
    release = json.loads(lab_host("app1").file("/opt/pharma/current/release.json").content_string)
    assert release["digest"] in subjects.values()


def test_the_service_runs_in_one_colour_behind_its_socket(
    lab_host: Callable[[str], Host], endpoint: Endpoint
) -> None:
    """The colour in service is enabled and the other one is not; both sockets wait; users come by TLS."""
    app = lab_host("app1")
    colour = app.check_output("basename $(readlink /opt/pharma/slots/active.sock) .sock")
    other = {"blue": "green", "green": "blue"}[colour]
    assert app.service(f"pharma-backend@{colour}.service").is_running
    assert app.service(f"pharma-backend@{colour}.service").is_enabled
    assert not app.service(f"pharma-backend@{other}.service").is_enabled
    for each in (colour, other):
        assert app.service(f"pharma-backend@{each}.socket").is_running
        assert app.service(f"pharma-backend@{each}.socket").is_enabled
        socket = app.file(f"/run/pharma-backend/{each}.sock")
        assert (socket.user, socket.group, socket.mode) == ("root", "www-data", 0o660)
    release = json.loads(app.file("/opt/pharma/current/release.json").content_string)
    assert app.file("/opt/pharma/current").linked_to == f"/opt/pharma/releases/{release['version']}"
    ready = httpx.get(
        f"https://{endpoint.host}/health/ready", verify=ssl.create_default_context(cafile=str(endpoint.ca))
    )
    assert ready.status_code == 200
    assert ready.json()["release"] == f"{release['version']}+{release['digest'][:12]}"


def test_the_unit_of_the_service_is_hardened(lab_host: Callable[[str], Host]) -> None:
    """Exposure as systemd itself counts it, at most 2.0 of 10."""
    verdict = lab_host("app1").check_output("systemd-analyze security pharma-backend@blue.service | tail -1")
    assert float(verdict.split()[-3]) <= 2.0


def test_a_staging_host_has_the_release_and_no_service(lab_host: Callable[[str], Host]) -> None:
    staging = lab_host("staging1")
    assert staging.check_output("ls /opt/pharma") == "releases"
    assert staging.run("ls /etc/systemd/system/pharma-backend*").rc != 0
    assert not staging.file("/etc/pharma/credentials").exists
    assert not staging.package("nginx").is_installed or not staging.service("nginx").is_enabled


def test_evidence_verifies_offline_with_the_public_key(
    evidence: Path, lab_secrets: dict[str, str], tmp_path: Path, engine_path: Path
) -> None:
    """The controller, which has no key but the public one, finds the evidence genuine; altered, it does not."""
    key = tmp_path / "evidence.pub"
    key.write_text(lab_secrets["evidence_signing_public_key"])

    def verify(directory: Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "pharma_ops.cli", "evidence", "verify", str(directory)]
        return subprocess.run(
            [*words, "--public-key", str(key)],
            env={"PYTHONPATH": str(engine_path), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    genuine = verify(evidence)
    assert genuine.returncode == 0, genuine.stdout + genuine.stderr

    copy = tmp_path / "copy" / evidence.resolve().name
    copy.mkdir(parents=True)
    for path in [*evidence.iterdir(), evidence.resolve().parent / "ledger.jsonl"]:
        target = copy.parent / path.name if path.name == "ledger.jsonl" else copy / path.name
        target.write_bytes(path.read_bytes())
    altered = (copy / "evidence.json").read_text().replace('"database": "pharma"', '"database": "pharmb"')
    (copy / "evidence.json").write_text(altered)
    assert verify(copy).returncode == 1


def test_the_store_holds_nothing_readable(
    s3_as: Callable[..., S3Client], lab_secrets: dict[str, str]
) -> None:
    """Every object but the manifest and its signature begins as age writes it."""
    client = s3_as("reader")
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET, Prefix="pharma/")["Contents"]]
    sealed = [key for key in keys if not key.endswith(("manifest.json", "manifest.json.sig"))]
    assert sealed
    for key in sealed:
        head = client.get_object(Bucket=BUCKET, Key=key, Range="bytes=0-20")["Body"].read()
        assert head.startswith(b"age-encryption.org/v1"), key


def test_a_drill_leaves_nothing_on_the_staging_host(lab_host: Callable[[str], Host]) -> None:
    """No restored data, no server, no unit; the record of the teardown is not taken at its word."""
    staging = lab_host("staging1")
    assert staging.check_output("find /var/lib/pharma-ops/drill -mindepth 1 -not -name '*.lock' | head") == ""
    assert staging.run("pgrep -u postgres").rc == 1
    assert "pharma-drill-" not in staging.check_output(
        "systemctl list-units --all --plain --no-legend 'pharma-drill-*'"
    )


def test_production_keeps_no_copy(lab_host: Callable[[str], Host]) -> None:
    """A backup leaves neither plain text nor a temporary file on the database host."""
    database = lab_host("db1")
    found = database.check_output(
        "find / -xdev -newer /etc/pharma-ops/recipients.txt -type f -size +64k"
        " -not -path '/var/lib/postgresql/*' -not -path '/var/log/*' -not -path '/proc/*' -not -path '/sys/*'"
        " -not -path '/root/.ansible/*' -not -name '*.pyc' -not -path '/var/cache/*' -not -path '/var/lib/apt/*'"
    )
    assert found == ""


@pytest.mark.parametrize(("host", "unit"), [("db1", "pharma-backup@pharma"), ("staging1", "pharma-drill")])
def test_the_timer_is_armed_and_its_unit_does_the_work(
    lab_host: Callable[[str], Host], host: str, unit: str
) -> None:
    """The hardened unit that the timer starts ends well: the schedule does what the playbook does."""
    machine = lab_host(host)
    assert machine.service(f"{unit}.timer").is_enabled
    assert machine.service(f"{unit}.timer").is_running
    started = machine.run(f"systemctl start {unit}.service")
    assert started.rc == 0, machine.check_output(f"journalctl -u {unit}.service -n 30 --no-pager")


def test_a_second_backup_is_refused_and_names_the_holder(lab_host: Callable[[str], Host]) -> None:
    """While the lock is held, nothing is touched and the message says by whom."""
    database = lab_host("db1")
    lock = "/run/lock/pharma-ops/backup-pharma.lock"
    result = database.run(
        f'flock {lock} sh -c \'echo "{{\\"runId\\": \\"held-by-a-test\\", \\"pid\\": $$, \\"since\\": \\"now\\"}}"'
        f" > {lock}; pharma-ops backup create'"
    )
    assert result.rc == 2, result.stdout + result.stderr
    assert "held-by-a-test" in result.stderr


def test_a_wrong_store_secret_is_named_and_nothing_is_made(
    lab_host: Callable[[str], Host], s3_as: Callable[..., S3Client]
) -> None:
    """A backup with a wrong secret ends with 2, names the store and says what to do."""
    database = lab_host("db1")
    before = s3_as("reader").list_objects_v2(Bucket=BUCKET, Prefix="pharma/")["KeyCount"]
    database.check_output("cp -a /etc/pharma-ops /run/wrong-secret")
    try:
        database.check_output(
            "sed -i 's#/etc/pharma-ops/#/run/wrong-secret/#' /run/wrong-secret/*.toml /run/wrong-secret/*/*.toml"
        )
        database.check_output(
            "find /run/wrong-secret -name '*.toml' -exec sed -i 's/^secret_key.*/secret_key = \"wrong\"/' {} +"
        )
        result = database.run("pharma-ops backup create --config /run/wrong-secret/config.toml")
    finally:
        database.check_output("rm -rf /run/wrong-secret")
    assert result.rc == 2, result.stdout
    assert "pharma-backups" in result.stderr
    assert s3_as("reader").list_objects_v2(Bucket=BUCKET, Prefix="pharma/")["KeyCount"] == before


@pytest.mark.parametrize(
    ("playbook", "limit"), [("backup", "app1"), ("drill", "db1"), ("rollback", "db1"), ("site", "s3")]
)
def test_a_pattern_that_matches_nothing_is_an_error(root: Path, playbook: str, limit: str) -> None:
    """A limit that leaves no host to work on fails and names the group, where Ansible alone ends with 0."""
    result = subprocess.run(
        [
            "ansible-playbook",
            "-i",
            "inventories/lab/hosts.yml",
            f"playbooks/{playbook}.yml",
            "--limit",
            limit,
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "(--limit)" in result.stdout + result.stderr


def test_the_installed_tarball_does_the_same_from_elsewhere(
    root: Path, installed: Path, tmp_path: Path, run_ansible: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Without the checkout's configuration, from another directory, by FQCN: a playbook of the collection works."""
    lab = {name: value for name, value in os.environ.items() if name.startswith("LAB_")}
    done = run_ansible(
        "ansible-playbook",
        *("--inventory", str(root / "inventories/lab/hosts.yml"), "pharma.hardening.backup"),
        cwd=tmp_path,
        ANSIBLE_COLLECTIONS_PATH=str(installed),
        **lab,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=1" in done.stdout
