# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host knows of the estate, read from the files that the jobs leave."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from evidence_samples import failed, passed
from jsonschema import Draft202012Validator

from pharma_ops import clock, config
from pharma_ops.cli.main import main
from pharma_ops.estate import gather
from pharma_ops.estate.judge import Item, judge
from pharma_ops.evidence import ledger

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


def text(moment: datetime) -> str:
    return clock.to_text(moment)


def backup_record(**change: Any) -> dict[str, Any]:
    """As backup/state.py writes it."""
    error = {"code": "STORE_FULL", "message": "second is full.", "action": "Free it."}
    return {
        "schemaVersion": 1,
        "database": "pharma",
        "lastRun": {
            "backupId": "20261125T050000Z-aaaaaa", "startedAt": text(NOW - 3 * HOUR),
            "finishedAt": text(NOW - 2 * HOUR),
            "verdict": "partial", "bytes": 2048, "rows": 7, "seconds": 3.5, "error": None,
        },
        "stores": {
            "offsite": {
                "description": "s3://b",
                "lastSuccess": {
                    "backupId": "20261125T050000Z-aaaaaa", "at": text(NOW - 2 * HOUR), "bytes": 2048,
                    "manifestSha256": "a" * 64,
                },
                "lastFailure": {"backupId": "x", "at": text(NOW - 50 * HOUR), "error": error},
            },
            "second": {
                "description": "s3://c",
                "lastSuccess": None,
                "lastFailure": {"backupId": "x", "at": text(NOW - 2 * HOUR), "error": error},
            },
        },
    } | change  # fmt: skip


def seen_record(verdict: str = "whole") -> dict[str, Any]:
    error = (
        None if verdict == "whole" else {"code": "STORE_UNREACHABLE", "message": "It is away.", "action": "a"}
    )
    return {
        "schemaVersion": 1,
        "database": "pharma",
        "store": "offsite",
        "description": "s3://b",
        "lastSeen": {
            "backupId": "20261125T050000Z-aaaaaa", "at": text(NOW - HOUR), "newestChangeAt": text(NOW - 3 * HOUR),
            "bytes": 2048, "manifestSha256": "a" * 64, "signer": "b" * 16,
        },
        "lastRun": {"at": text(NOW - HOUR), "verdict": verdict, "backupId": "20261125T050000Z-aaaaaa", "error": error},
    }  # fmt: skip


RETENTION = {
    "schemaVersion": 1, "database": "pharma", "store": "offsite", "description": "s3://b",
    "lastRun": {"at": text(NOW - HOUR), "verdict": "done", "kept": 41, "removed": 2, "uploadsAborted": 0,
                "bytesFreed": 9, "error": None},
    "lastActed": None, "newestProven": None,
}  # fmt: skip


class Host:
    """A host that makes backups and drills, with the files that its jobs left."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.path = base / "config.toml"
        (base / "store").mkdir()
        self.path.write_text(
            f'environment = "staging"\nstate_dir = "{base}"\nmetrics_dir = "{base}/metrics"\n'
            f'[backup]\n[drill]\ndatabase = "pharma"\n[evidence]\ndir = "{base}/evidence"\n'
            f'[stores.offsite]\ntype = "local"\npath = "{base}/store"\n'
            f'[secrets.jwt]\nfile = "{base}/jwt"\nowner = "o"\nmax_age_days = 90\n'
            f'[retention]\nstores = ["offsite"]\ndatabases = ["pharma"]\n'
        )
        self.put("backups/pharma.json", backup_record())
        self.put("seen/pharma-offsite.json", seen_record())
        self.put("retention/pharma-offsite.json", RETENTION)
        secret = {
            "name": "jwt", "owner": "o", "file": "/x", "createdAt": text(NOW - 100 * HOUR), "maxAgeDays": 90,
            "fingerprint": "0" * 16,
        }  # fmt: skip
        self.put("secrets/inventory.json", {"secrets": [secret]})
        (base / "metrics").mkdir()
        (base / "metrics/pharma_escrow.prom").write_text(
            "# HELP x y\npharma_escrow_last_proven_timestamp_seconds"
            f'{{database="pharma"}} {(NOW - 9.1 * HOUR).timestamp():.9e}\n'
        )
        (base / "evidence").mkdir()
        self.ledger(passed(finished=NOW - 30 * HOUR))

    def put(self, name: str, data: Any) -> None:
        path = self.base / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(data))

    def ledger(self, *records: Any) -> None:
        path = self.base / "evidence/ledger.jsonl"
        path.unlink(missing_ok=True)
        for record in records:
            entry = ledger.entry_of(record, {})
            entry = ledger.dataclasses.replace(entry, prev=ledger.head(ledger.read(path)))
            ledger.append(path, entry)

    def items(self, *, offline: bool = True) -> dict[tuple[str, str], Item]:
        known = gather.gather(config.load(self.path), offline=offline, now=NOW)
        return {(item.section, item.name): item for item in judge(known).items}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_everything_is_found_where_the_jobs_leave_it(host: Host) -> None:
    items = host.items(offline=False)
    assert items[("backup", "pharma in offsite")].sentence == "backed up 2 h ago, 2.0 KiB"
    assert items[("backup", "pharma in second")].sentence == "no backup was ever made: second is full."
    assert (
        items[("seen", "pharma in offsite")].sentence == "seen whole 60 min ago, with changes up to 3 h ago"
    )
    assert items[("proof", "drill")].sentence.startswith("last proven 30 h ago: backup 2026")
    assert items[("escrow", "pharma")].sentence == "the escrow key opened a backup 9 h ago"
    assert items[("stores", "offsite")].sentence.startswith("answers: directory")
    assert items[("retention", "pharma in offsite")].sentence == "pruned 60 min ago: 41 kept, 2 removed"
    assert items[("secrets", "inventory")].sentence == "1 of 1 fresh"
    assert items[("telling", "failures")].state == "warning"


def test_stores_are_asked_only_when_wanted(host: Host) -> None:
    (host.base / "store").rmdir()
    assert ("stores", "offsite") not in host.items(offline=True)
    assert host.items(offline=False)[("stores", "offsite")].state == "critical"


def test_a_failed_drill_after_a_proof(host: Host) -> None:
    host.ledger(passed(finished=NOW - 30 * HOUR), failed(finished=NOW - HOUR))
    item = host.items()[("proof", "drill")]
    assert item.state == "critical"
    assert item.sentence == "the last drill failed 60 min ago; last proven 30 h ago"


def test_a_run_that_came_to_no_store_is_told(host: Host) -> None:
    error = {"code": "DATABASE_UNREACHABLE", "message": "db1 is away.", "action": "Look."}
    record = backup_record()
    record["lastRun"] |= {"verdict": "failed", "error": error}
    record["stores"].pop("second")
    host.put("backups/pharma.json", record)
    item = host.items()[("backup", "pharma in offsite")]
    assert item.state == "warning"
    assert item.sentence.endswith("the last run failed: db1 is away")


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("backups/pharma.json", "backup"),
        ("seen/pharma-offsite.json", "seen"),
        ("retention/pharma-offsite.json", "retention"),
        ("secrets/inventory.json", "secrets"),
        ("evidence/ledger.jsonl", "proof"),
    ],
)
@pytest.mark.parametrize("content", ["{", "[]", '{"schemaVersion": 1}'])
def test_a_damaged_file_is_told_and_hides_nothing_else(
    host: Host, name: str, section: str, content: str
) -> None:
    (host.base / name).write_text(content)
    items = host.items()
    assert any(key[0] == section and item.state == "unknown" for key, item in items.items())
    assert len({key[0] for key in items}) >= 7


def test_what_was_never_done_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        f'environment = "lab"\nstate_dir = "{tmp_path}"\nmetrics_dir = "{tmp_path}"\n'
        f'[drill]\ndatabase = "pharma"\n[evidence]\ndir = "{tmp_path}"\n[stores.offsite]\ntype = "local"\npath = "/x"\n'
        f'[retention]\nstores = ["offsite"]\n'
    )
    known = gather.gather(config.load(path), offline=True)
    sections = {item.section: item.state for item in judge(known).items}
    assert sections["seen"] == "unknown"
    assert sections["proof"] == "critical"
    assert sections["escrow"] == sections["retention"] == "warning"


def test_a_host_that_only_serves_is_not_asked_for_backups(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'environment = "lab"\nstate_dir = "{tmp_path}"\n')
    known = gather.gather(config.load(path), offline=True)
    assert (known.backups, known.seen, known.drills, known.escrow, known.expected_jobs) == (
        (),
        (),
        None,
        None,
        (),
    )


def test_the_command(host: Host, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", "--config", str(host.path)]) == 1
    shown = json.loads(capsys.readouterr().out)
    schema = json.loads((root / "docs/schemas/status.schema.json").read_text())
    Draft202012Validator(schema).validate(shown)
    assert shown["verdict"] == "critical"
    assert main(["status", "--offline", "--config", str(host.path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("CRITICAL")
    assert "✗ backup" in out
    assert main(["status", "--config", str(host.base / "no.toml")]) == 2
