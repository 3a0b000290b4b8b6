# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role `backup` leaves on a host with two databases, and on a runner (scenario `backup`)."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from testinfra.host import Host  # type: ignore[import-untyped]

CRON = "/etc/cron.d/pharma-backup"
TIMERS = ("pharma-backup@pharma.timer", "pharma-backup@customers.timer")

# Those who are told are within reach, as they would be of a real host.
pytestmark = pytest.mark.usefixtures("desk")

LabHost = Callable[[str], Host]


@pytest.fixture
def converge(root: Path) -> Callable[..., int]:
    """Runs the scenario's playbook on the database's host with other variables; returns how much it changed."""

    def run(*words: str) -> int:
        done = subprocess.run(
            ["ansible-playbook", "-i", "inventories/lab/hosts.yml", "molecule/backup/converge.yml", *words],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return sum(map(int, re.findall(r"changed=(\d+)", done.stdout)))

    return run


def sets(host: Host, store: str, database: str) -> list[str]:
    """The complete sets in a store."""
    return host.check_output(
        f"ls -d /srv/backups/{store}/{database}/*/manifest.json 2>/dev/null || true"
    ).split()


def test_each_database_has_a_timer_and_its_unit_fills_both_stores(lab_host: LabHost) -> None:
    host = lab_host("db1")
    for timer in TIMERS:
        assert host.service(timer).is_enabled
        assert host.service(timer).is_running
    assert not host.file(CRON).exists
    for name in ("pharma", "customers"):
        host.check_output(f"systemctl start pharma-backup@{name}.service")
        assert len(sets(host, "first", name)) == len(sets(host, "second", name)) >= 1
        record = json.loads(host.check_output(f"cat /var/lib/pharma-ops/backups/{name}.json"))
        assert record["lastRun"]["verdict"] == "complete"
    manifest = json.loads(host.check_output(f"cat {sets(host, 'first', 'customers')[-1]}"))
    assert (manifest["database"], manifest["dbname"]) == ("customers", "crm")


def test_a_store_that_is_gone_fails_the_unit_and_the_other_has_the_set(lab_host: LabHost) -> None:
    host = lab_host("db1")
    before = len(sets(host, "first", "pharma"))
    host.check_output("mv /srv/backups/second /srv/backups/away")
    try:
        shown = host.run("pharma-ops backup create --database pharma --json")
        unit = host.run("systemctl start pharma-backup@pharma.service")
    finally:
        host.check_output("mv /srv/backups/away /srv/backups/second")
    assert (shown.rc, json.loads(shown.stdout)["verdict"]) == (1, "partial")
    assert unit.rc != 0
    assert len(sets(host, "first", "pharma")) == before + 2


def test_with_two_databases_one_must_be_named(lab_host: LabHost) -> None:
    shown = lab_host("db1").run("pharma-ops backup create")
    assert shown.rc == 2
    assert "--database (there are: customers, pharma)" in shown.stderr


def test_a_runner_backs_up_the_database_of_another_host_over_tls(lab_host: LabHost) -> None:
    runner = lab_host("app1")
    assert runner.check_output("pg_lsclusters -h | wc -l") == "0"
    shown = runner.run("systemctl start pharma-backup@remote.service")
    assert shown.rc == 0, runner.check_output("journalctl -u pharma-backup@remote -n 30 --no-pager")
    manifest = json.loads(runner.check_output(f"cat {sets(runner, 'first', 'remote')[-1]}"))
    assert (manifest["database"], manifest["dbname"], manifest["sourceHost"]) == ("remote", "pharma", "app1")
    url = runner.file("/etc/pharma-ops/keys/database-remote.url")
    assert (url.user, url.mode) == ("root", 0o600)
    role = lab_host("db1").check_output(
        "runuser -u postgres -- psql -Atc \"select rolsuper from pg_roles where rolname = 'pharma_backup'\""
    )
    assert role == "f"


def test_cron_takes_over_and_gives_back(lab_host: LabHost, converge: Callable[..., int]) -> None:
    host = lab_host("db1")
    before = len(sets(host, "first", "pharma"))
    cron = ("--limit", "db1", "-e", '{"backup_scheduler": "cron", "backup_cron_schedule": "* * * * *"}')
    assert converge(*cron) > 0
    assert host.run("ls /etc/systemd/system/pharma-backup@*").rc != 0
    assert host.check_output("systemctl list-timers --all 'pharma-backup@*' --no-legend") == ""
    assert (host.file(CRON).user, host.file(CRON).mode) == ("root", 0o644)
    assert converge(*cron) == 0, "a second run changes nothing"
    deadline = time.monotonic() + 90
    while len(sets(host, "first", "pharma")) <= before:
        assert time.monotonic() < deadline, host.check_output("journalctl -n 40 --no-pager")
        time.sleep(1)
    assert "backup_finished" in host.check_output("journalctl -t pharma-backup --no-pager -o cat")
    assert converge("--limit", "db1") > 0
    assert not host.file(CRON).exists
    assert all(host.service(timer).is_running for timer in TIMERS)


def test_a_database_that_is_removed_takes_its_timer_secrets_and_metrics_along(
    lab_host: LabHost, converge: Callable[..., int], lab_secrets: dict[str, str]
) -> None:
    host = lab_host("db1")
    left = [{"name": "pharma", "password": lab_secrets["database_backup_password"]}]
    words = ("--limit", "db1", "-e", json.dumps({"backup_databases": left}))
    assert converge(*words, "--check") > 0
    assert host.service(TIMERS[1]).is_running, "a dry run changes nothing"
    assert converge(*words) > 0
    found = host.check_output(
        "find /etc/systemd/system /etc/pharma-ops /var/lib/pharma-ops -name '*customers*'"
    )
    assert found == ""
    assert host.service(TIMERS[0]).is_running
    assert converge(*words) == 0
