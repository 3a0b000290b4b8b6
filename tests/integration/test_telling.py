# SPDX-License-Identifier: GPL-3.0-or-later
"""A unit that fails is told of: systemd's OnFailure, the journal, a webhook with TLS and a mail relay. Needs root."""

from __future__ import annotations

import email
import email.policy
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import receivers
from pharma_ops.drill import isolation

pytestmark = pytest.mark.skipif(bool(isolation.unavailable()), reason=isolation.unavailable())
UNITS = Path("/etc/systemd/system")
ETC, LIB, COMMAND = (
    Path("/etc/pharma-ops"),
    Path("/usr/local/lib/pharma-ops"),
    Path("/usr/local/bin/pharma-ops"),
)
STATE = Path("/var/lib/pharma-ops")
SECONDS = 30


def systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)


@dataclass
class Host:
    """This machine as the role ops leaves it, with its real unit for telling, and two who are told."""

    web: receivers.WebReceiver
    relay: receivers.MailReceiver

    def fail(self, name: str, service: str) -> dict[str, Any]:
        """Start a unit that fails; returns what the webhook was told of it."""
        told = len(self.web.requests)
        text = f"[Unit]\nOnFailure=pharma-notify@%n.service\n[Service]\nType=oneshot\n{service}\n"
        (UNITS / name).write_text(text)
        systemctl("daemon-reload")
        assert systemctl("start", name).returncode != 0
        wait(lambda: len(self.web.requests) > told, f"nothing was told; {self.journal()}")
        wait(lambda: not self.notifying(name), "the telling did not end")
        (UNITS / name).unlink()
        body: dict[str, Any] = json.loads(self.web.requests[-1].body)
        return body

    @staticmethod
    def notifying(name: str) -> bool:
        state = systemctl("show", "--property=ActiveState", "--value", f"pharma-notify@{name}.service")
        return state.stdout.strip() == "activating"

    @staticmethod
    def journal() -> str:
        shown = subprocess.run(
            ["journalctl", "--no-pager", "-n", "40", "-u", "pharma-notify@*"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return shown.stdout


def wait(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


@pytest.fixture
def host(root: Path, tmp_path: Path) -> Iterator[Host]:
    assert os.geteuid() == 0
    assert not ETC.exists(), f"{ETC} exists: this test is for a throw-away machine"
    made = [ETC, LIB, STATE]
    for directory in (ETC / "keys", LIB, STATE / "store"):
        directory.mkdir(parents=True)
    (LIB / "pharma_ops").symlink_to(root / "plugins/module_utils/_ops")
    command = (root / "roles/ops/templates/pharma-ops.j2").read_text()
    COMMAND.write_text(command.replace('{{ "#!/usr/bin/python3 -I" }}', "#!/usr/bin/python3 -I"))
    COMMAND.chmod(0o755)
    unit = UNITS / "pharma-notify@.service"
    unit.write_text((root / "roles/ops/templates/pharma-notify@.service.j2").read_text())
    identity = receivers.make_identity(ETC / "keys")
    with receivers.web(identity) as web, receivers.relay(identity) as relay:
        (ETC / "keys/url").write_text(f"{web.url}/hooks/T0K3N\n")
        (ETC / "config.toml").write_text(
            f"""
            environment = "lab"
            [databases.shop]
            host = "127.0.0.1"
            port = 1
            [backup]
            [stores.offsite]
            type = "local"
            path = "{STATE}/store"
            [notify]
            language = "en"
            [notify.webhooks.chat]
            url_file = "{ETC}/keys/url"
            ca_file = "{identity.certificate}"
            [notify.mail]
            to = ["oncall@example.com"]
            sender = "db1@example.com"
            host = "127.0.0.1"
            port = {relay.port}
            security = "starttls"
            ca_file = "{identity.certificate}"
            """
        )
        yield Host(web, relay)
    for directory in made:
        shutil.rmtree(directory)
    for path in (COMMAND, unit):
        path.unlink()
    systemctl("daemon-reload")
    systemctl("reset-failed")


def test_a_failed_backup_is_told_with_cause_stage_and_next_step(host: Host, keys: Any) -> None:
    shutil.copy(keys.recipients, ETC / "recipients.txt")
    shutil.copy(keys.signing_key, ETC / "keys/backup-signing.pem")
    body = host.fail("pharma-backup@shop.service", f"ExecStart={COMMAND} backup create --database shop")
    assert body["job"] == "backup"
    assert body["error"]["code"] == "DATABASE_UNREACHABLE"
    assert "127.0.0.1:1" in body["error"]["message"]
    assert body["error"]["action"]
    assert body["error"]["action"] not in body["error"]["message"]
    assert body["unit"] == "pharma-backup@shop.service"
    assert body["result"] == "exit-code (2)"
    assert body["stage"] == "start"
    assert body["startedAt"] <= body["at"]
    # The mail says the same.
    (taken,) = host.relay.mails
    assert taken.encrypted
    assert taken.recipients == ["oncall@example.com"]
    text = email.message_from_bytes(taken.data, policy=email.policy.default).get_content()
    assert body["error"]["message"] in text
    assert f"Next step: {body['error']['action']}" in text
    # And the address of the webhook is nowhere in the journal.
    assert "T0K3N" not in subprocess.run(["journalctl", "--no-pager"], capture_output=True, text=True).stdout


def test_a_job_that_hangs_is_told_as_such(host: Host) -> None:
    body = host.fail("pharma-seen.service", "ExecStart=/bin/sleep 60\nTimeoutStartSec=1")
    assert (body["job"], body["error"]["code"]) == ("seen", "JOB_TIMEOUT")
    assert body["result"].startswith("timeout")


def test_a_job_that_is_killed_is_told_as_such(host: Host) -> None:
    body = host.fail("pharma-backup@shop.service", "ExecStart=/bin/sh -c 'kill -9 $$$$'")
    assert (body["job"], body["error"]["code"]) == ("backup", "JOB_KILLED")
    assert body["unit"] == "pharma-backup@shop.service"


def test_of_a_foreign_job_the_last_lines_are_told(host: Host) -> None:
    body = host.fail("nightly.service", "ExecStart=/bin/sh -c 'echo boom password=hunter2; exit 3'")
    assert (body["job"], body["error"]["code"]) == ("nightly.service", None)
    assert "> boom password=***" in body["text"]
    assert "hunter2" not in json.dumps(body)
    assert body["error"]["action"] == "On the host, read: journalctl -u nightly.service -n 100"


def test_a_job_of_cron_is_told_from_its_lines_in_the_journal(host: Host) -> None:
    """As the file of the role backup does it: the unit is started by name and has never run."""
    told = len(host.web.requests)
    run = f"systemd-cat --identifier=pharma-backup {COMMAND} backup create --database other"
    unit = "pharma-notify@pharma-backup@other.service.service"
    done = subprocess.run(["sh", "-c", f"{run} || systemctl start {unit}"], check=False)
    assert done.returncode == 0
    assert len(host.web.requests) == told + 1
    body = json.loads(host.web.requests[-1].body)
    assert (body["job"], body["error"]["code"]) == ("backup", "CONFIG_INVALID")
    assert "'other'" in body["error"]["message"]


def test_the_status_knows_the_timers_as_systemd_does(host: Host) -> None:
    made = []
    for name, wanted in (("pharma-seen", "*-*-* 07:30:00"), ("pharma-backup@shop", "*-*-* 02:00:00")):
        (UNITS / f"{name}.timer").write_text(f"[Timer]\nOnCalendar={wanted}\n")
        (UNITS / f"{name}.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/false\n")
        made += [UNITS / f"{name}.timer", UNITS / f"{name}.service"]
    systemctl("daemon-reload")
    assert systemctl("start", "pharma-seen.timer", "pharma-backup@shop.timer").returncode == 0
    systemctl("start", "pharma-seen.service")
    done = subprocess.run(
        [COMMAND, "status", "--offline", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    items = {item["name"]: item for item in json.loads(done.stdout)["items"] if item["section"] == "schedule"}
    assert items["backup of shop"]["state"] == "healthy"
    assert items["backup of shop"]["sentence"].startswith("has not run yet; next in ")
    assert (items["seen"]["state"], "failed (exit-code)" in items["seen"]["sentence"]) == ("warning", True)
    systemctl("stop", "pharma-seen.timer", "pharma-backup@shop.timer")
    for path in made:
        path.unlink()


def test_telling_fails_when_nobody_takes_it(host: Host) -> None:
    host.web.statuses = [404]
    path = ETC / "config.toml"
    path.write_text(path.read_text().split("[notify.mail]")[0])
    host.fail("nightly.service", "ExecStart=/bin/false")
    name = "pharma-notify@nightly.service.service"
    assert systemctl("show", "--property=ExecMainStatus", "--value", name).stdout.strip() == "1"
    assert "it answered 404" in host.journal()
