# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role `backup` refuses, and that the engine understands what it writes."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pharma_ops import config

RunAnsible = Callable[..., subprocess.CompletedProcess[str]]

GIVEN: dict[str, Any] = {
    "backup_databases": [
        {"name": "pharma", "password": "pass-word-1", "release_sql": "select 1", "schedule": "*-*-* 03:00:00"},
        {"name": "crm.v2", "dbname": "crm", "host": "db9", "port": 5433, "sslmode": "verify-full", "ca": "PEM\n"},
        {"name": "managed", "url": "postgresql://u:planted-7@db.example/app"},
    ],
    "backup_stores": [
        {
            "name": "offsite", "type": "s3", "bucket": "b", "access_key": "AK", "secret_key": "SK-9",
            "storage_class": "STANDARD_IA", "sse": "customer", "sse_customer_key": "K" * 44, "lock_mode": "COMPLIANCE",
            "lock_days": 30, "bandwidth_limit": 1000000,
        },
        {"name": "blob", "type": "azure", "bucket": "c", "endpoint": "https://a.example", "sas_token": "sv=1"},
        {"name": "disk", "type": "local", "path": "/mnt/backups"},
    ],
    "backup_signing_key": "PEM",
    "backup_recipients": ["age1staging"],
    "backup_escrow_recipients": ["age1escrow"],
}  # fmt: skip

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"
  vars_files: [given.yml, "{role}/vars/main.yml"]
  tasks:
    - ansible.builtin.include_role:
        name: pharma.hardening.backup
        tasks_from: preflight
    - ansible.builtin.template:
        src: "{{{{ '{out}/../' if item == 'decided.json.j2' else '{role}/templates/' }}}}{{{{ item }}}}"
        dest: "{out}/{{{{ item }}}}"
      check_mode: false
      loop: [decided.json.j2, backup.toml.j2, pharma-backup@.service.j2, pharma-backup.cron.j2, recipients.txt.j2]
"""


DECIDED = (
    "{{ {'files': __backup_files, 'metrics': __backup_metrics, 'records': __backup_records} | to_json }}"
)


@pytest.fixture
def play(
    root: Path, tmp_path: Path, run_ansible: RunAnsible
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the role's preflight as a dry run on this machine, then writes its templates into ``tmp_path/out``."""

    def run(**changes: Any) -> subprocess.CompletedProcess[str]:
        role = root / "roles/backup"
        (tmp_path / "out").mkdir(exist_ok=True)
        defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
        (tmp_path / "given.yml").write_text(yaml.safe_dump(defaults | copy.deepcopy(GIVEN) | changes))
        (tmp_path / "decided.json.j2").write_text(DECIDED)
        (tmp_path / "play.yml").write_text(PLAY.format(role=role, out=tmp_path / "out"))
        return run_ansible(
            *("ansible-playbook", "--check", "-i", "localhost,", str(tmp_path / "play.yml")),
            cwd=tmp_path,
            ANSIBLE_COLLECTIONS_PATH=str(root / "collections"),
        )

    return run


def test_the_engine_reads_what_the_role_writes(play: Any, tmp_path: Path) -> None:
    done = play()
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.toml").write_text('environment = "lab"\n')
    (tmp_path / "config.d/backup.toml").write_text((out / "backup.toml.j2").read_text())
    read = config.load(tmp_path / "config.toml")
    assert set(read.databases) == {"pharma", "crm.v2", "managed"}
    keys = Path("/etc/pharma-ops/keys")
    assert read.database("pharma")[1].password_file == keys / "database-pharma-password"
    assert read.database("crm.v2")[1] == config.Database(
        dbname="crm",
        host="db9",
        port=5433,
        sslmode="verify-full",
        sslrootcert=keys / "database-crm.v2-ca.crt",
    )
    assert read.database("managed")[1] == config.Database(url_file=keys / "database-managed.url")
    assert read.backup is not None
    assert read.backup.stores == ("offsite", "blob", "disk")
    offsite = read.store("offsite")
    assert (offsite.storage_class, offsite.sse, offsite.lock_mode, offsite.lock_days) == (
        "STANDARD_IA", "customer", "COMPLIANCE", 30,
    )  # fmt: skip
    assert offsite.bandwidth_limit == 1000000
    assert offsite.sse_customer_key_file == keys / "backup-store-offsite-sse.key"
    assert read.store("blob").credentials_file == keys / "backup-store-blob.toml"
    assert read.store("disk").credentials_file is None
    assert {
        "backup_database_managed",
        "backup_database_pharma",
        "backup_store_offsite",
        "backup_store_blob",
    } <= set(read.secrets)
    written = "".join(path.read_text() for path in out.iterdir())
    assert [word for word in ("pass-word-1", "planted-7", "SK-9", "sv=1", "K" * 44) if word in written] == []
    assert "ReadWritePaths=" in written
    assert " -/mnt/backups\n" in written


def test_only_the_files_of_what_is_given_may_stay(play: Any, tmp_path: Path) -> None:
    assert play().returncode == 0
    decided = json.loads((tmp_path / "out/decided.json.j2").read_text())
    keys = "/etc/pharma-ops/keys"
    assert sorted(decided["files"]) == [
        f"{keys}/backup-store-blob.toml",
        f"{keys}/backup-store-offsite-sse.key",
        f"{keys}/backup-store-offsite.toml",
        f"{keys}/database-crm.v2-ca.crt",
        f"{keys}/database-managed.url",
        f"{keys}/database-pharma-password",
    ]
    assert "/var/lib/prometheus/node-exporter/pharma_backup_crm.v2.prom" in decided["metrics"]
    assert len(decided["metrics"]) == 6
    assert decided["records"][0] == "/var/lib/pharma-ops/backups/pharma.json"


def test_the_file_of_cron_is_one_that_cron_reads(play: Any, tmp_path: Path) -> None:
    done = play(
        backup_scheduler="cron",
        backup_databases=[{"name": "pharma"}, {"name": "crm", "schedule": "*/5 1-3 * * mon"}],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (tmp_path / "out/pharma-backup.cron.j2").read_text().splitlines()
    assert lines[-1] != "", "the last line must end"
    jobs = [line for line in lines if " root " in line]
    assert [job.partition(" root ")[0] for job in jobs] == ["30 2 * * *", "*/5 1-3 * * mon"]
    assert all("%" not in job for job in jobs), "cron takes a % for a new line"
    assert all(
        re.search(r" timeout --kill-after=\S+ 6h .*pharma-ops backup create --database \w+ \|\| ", job)
        for job in jobs
    )
    assert any(line.startswith("PATH=/usr/local/sbin:/usr/local/bin:") for line in lines)
    assert "SHELL=/bin/sh" in lines


DATABASE = {"name": "pharma"}
DISK = {"name": "disk", "type": "local", "path": "/b"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"backup_escrow_recipients": []}, "losing the staging host would lose every backup"),
        ({"backup_escrow_recipients": ["age1staging"]}, "a key in use is not an escrow key"),
        ({"backup_recipients": ["AGE-SECRET-KEY-1"]}, "is a secret key"),
        ({"backup_databases": []}, "must be given"),
        ({"backup_stores": []}, "must be given"),
        ({"backup_databases": [DATABASE, DATABASE]}, "stands twice"),
        ({"backup_databases": [{"name": "a/b"}]}, "has other characters"),
        ({"backup_databases": [{"name": ".a"}]}, "has other characters"),
        ({"backup_databases": [{"name": "a", "url": "postgresql://h/d", "user": "u"}]}, "which the url says"),
        ({"backup_stores": [DISK, DISK]}, "a name of its own"),
        ({"backup_stores": [{"name": "o", "type": "s3", "bucket": "b"}]}, "lacks something"),
        ({"backup_stores": [{"name": "o", "type": "azure", "bucket": "b"}]}, "lacks something"),
        ({"backup_stores": [{"name": "o", "type": "local", "path": "b"}]}, "lacks something"),
        ({"backup_scheduler": "cron", "backup_cron_schedule": "daily at 3"}, "cron cannot read the schedule"),
        ({"backup_scheduler": "cron", "backup_databases": [{"name": "p", "schedule": "* * * * * *"}]}, "cron cannot"),
        ({"backup_max_duration": "6 hours"}, "must be given"),
    ],
)  # fmt: skip
def test_what_the_role_refuses_before_it_touches_anything(
    play: Any, changes: dict[str, Any], reason: str
) -> None:
    done = play(**changes)
    assert done.returncode != 0
    assert reason in done.stdout.replace("\\n", " "), done.stdout
