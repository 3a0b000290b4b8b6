# SPDX-License-Identifier: GPL-3.0-or-later
"""The units that look after the sets, on the hosts of the whole chain: read back, pruned, told of, shown."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from playbooks import Playbooks
from prometheus_client.parser import text_string_to_metric_families
from testinfra.host import Host  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

METRICS = "/var/lib/pharma-ops/metrics"


@pytest.fixture(scope="module")
def staging(lab_host: Callable[[str], Host]) -> Host:
    """The staging host after its jobs ran, each by its own unit."""
    host = lab_host("staging1")
    for job in ("pharma-seen", "pharma-prune"):
        done = host.run(f"systemctl start {job}.service")
        assert done.rc == 0, host.run(f"journalctl -u {job}.service -n 30 --no-pager").stdout
    return host


def values(host: Host, job: str) -> dict[str, float]:
    """What a job tells Prometheus, read by Prometheus's own parser; one sample for each name."""
    text = host.file(f"{METRICS}/pharma_{job}.prom").content_string
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_newest_set_is_read_back_from_the_object_store(staging: Host) -> None:
    now = float(staging.check_output("date +%s"))
    seen = values(staging, "seen")
    assert seen["pharma_backup_seen_success"] == 1
    assert 0 <= now - seen["pharma_backup_seen_whole_timestamp_seconds"] < 300


def test_pruning_keeps_what_there_is(staging: Host) -> None:
    assert values(staging, "prune")["pharma_retention_last_run_success"] == 1
    record = json.loads(staging.check_output("cat /var/lib/pharma-ops/retention/*.json"))
    assert (record["lastRun"]["verdict"], record["lastRun"]["removed"]) == ("done", 0)
    assert record["lastRun"]["kept"] >= 1


def test_the_backup_and_the_drill_are_measured(staging: Host, lab_host: Callable[[str], Host]) -> None:
    backup = values(lab_host("db1"), "backup_pharma")
    assert backup["pharma_backup_last_run_success"] == 1
    assert backup["pharma_backup_bytes"] > 1000
    assert values(staging, "drill")["pharma_drill_last_proven_timestamp_seconds"] > 0


def test_once_a_year_the_escrow_key_opens_the_newest_set(staging: Host, root: Path, state_dir: Path) -> None:
    """Out of the safe it is typed at the controller, not shown, and lies on no disk of the staging host."""
    identity = (state_dir / "escrow" / "identity.txt").read_text().split()[-1]
    drilled = (
        Playbooks(root)
        .answer(
            "AGE-SECRET-KEY-1 (it is not shown)",
            identity,
            "playbooks/drill.yml",
            "-e",
            "drill_ask_identity=true",
            "-e",
            f"pharma_evidence_dir={state_dir}/escrow-evidence",
        )
        .succeeded()
    )
    assert identity not in drilled.output
    assert "PASSED" in drilled.words
    assert values(staging, "escrow")["pharma_escrow_last_proven_timestamp_seconds"] > 0
    statement = json.loads((state_dir / "escrow-evidence" / "latest" / "evidence.json").read_text())
    decrypted = next(stage for stage in statement["predicate"]["stages"] if stage["name"] == "decrypt")
    assert decrypted["facts"]["keyRole"] == "escrow"
    found = staging.run(f"grep -rlF {identity} /etc /var/lib/pharma-ops /var/tmp /tmp /run /root /home")
    assert found.stdout == ""


def test_a_dump_that_others_left_is_drilled_from_the_controller(
    staging: Host, root: Path, state_dir: Path, on_host: Callable[..., str], s3_as: Callable[..., S3Client]
) -> None:
    """What can be proven of it is; the signed evidence names the rest, and it counts for no proof of a backup."""
    proven = values(staging, "drill")["pharma_drill_last_proven_timestamp_seconds"]
    dump = base64.b64decode(on_host("db1", "runuser -u postgres -- pg_dump -Fc pharma | base64"))
    s3_as("admin").put_object(Bucket="pharma-backups", Key="vendor/pharma.dump", Body=dump)
    where = ("-e", f"pharma_evidence_dir={state_dir}/vendor-evidence", "-e", "drill_foreign=vendor")
    looked = Playbooks(root).run("playbooks/drill.yml", "--check", *where).succeeded()
    assert "changed=1" in looked.output
    drilled = Playbooks(root).run("playbooks/drill.yml", *where).succeeded()
    assert "LIMITED" in drilled.words
    statement = json.loads((state_dir / "vendor-evidence" / "latest" / "evidence.json").read_text())
    found = {stage["name"]: stage["verdict"] for stage in statement["predicate"]["stages"]}
    assert found["restore"] == found["integrity"] == "passed"
    assert found["compare"] == "not_run"
    assert values(staging, "drill")["pharma_drill_last_proven_timestamp_seconds"] == proven


@pytest.mark.parametrize(
    ("name", "healthy", "open_points"),
    [
        ("staging1", {"seen", "proof", "escrow", "retention", "stores", "secrets", "schedule"}, {"telling"}),
        ("db1", {"backup", "stores", "secrets", "schedule"}, {"telling"}),
    ],
)
def test_one_screen_shows_all_of_it(
    name: str,
    healthy: set[str],
    open_points: set[str],
    staging: Host,
    lab_host: Callable[[str], Host],
    root: Path,
) -> None:
    """A lab tells nobody: that, and nothing else, is not healthy."""
    shown = lab_host(name).run("pharma-ops status --json")
    status: dict[str, Any] = json.loads(shown.stdout)
    jsonschema.validate(status, json.loads((root / "docs/schemas/status.schema.json").read_text()))
    states: dict[str, set[str]] = {}
    for item in status["items"]:
        states.setdefault(item["section"], set()).add(item["state"])
    assert {section for section, found in states.items() if found == {"healthy"}} == healthy, status
    assert {section for section, found in states.items() if found != {"healthy"}} == open_points, status
    assert shown.rc == 1
