# SPDX-License-Identifier: GPL-3.0-or-later
"""Each scheduler really fires: the role's own files, in a container whose systemd and cron run them."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
from cluster import Cluster
from material import BACKUP_PASSWORD, BACKUP_ROLE, Keys

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "roles/backup/templates"
UNITS = Path("/etc/systemd/system")
CRON = Path("/etc/cron.d/pharma-backup")
SETTINGS = Path("/etc/pharma-ops")
STATE = Path("/var/lib/pharma-ops")
STORE = STATE / "store"
TOLD = STATE / "told"
VARIABLES = {
    "ansible_managed": "test",
    "backup_schedule": "*-*-* *:*:0/5",
    "backup_cron_schedule": "* * * * *",
    "backup_randomized_delay": "0",
    "backup_max_duration": "5m",
    "backup_memory_max": "1G",
    "backup_databases": [{"name": "small"}, {"name": "gone"}],
    "__backup_directories": [str(STORE)],
}
NOTIFY = f"""\
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo %i >> {TOLD}'
"""

pytestmark = pytest.mark.skipif(
    not (Path("/run/.containerenv").exists() and Path("/run/systemd/system").is_dir()),
    reason="changes the units of its host: needs a container with systemd",
)


def render(name: str, **more: Any) -> str:
    """A template of the role, as it would be on a host."""
    environment = jinja2.Environment(  # noqa: S701 - units are no HTML
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    return environment.from_string((TEMPLATES / name).read_text()).render(VARIABLES | more)


def systemctl(*words: str) -> None:
    """Run systemctl; it must succeed."""
    subprocess.run(["systemctl", *words], check=True, capture_output=True, timeout=60)


def wait_for(what: Callable[[], object], seconds: float) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, journal()
        time.sleep(0.2)


def journal() -> str:
    """The last lines of the host's journal."""
    return subprocess.run(["journalctl", "-n", "60", "--no-pager"], capture_output=True, text=True).stdout


def record(database: str) -> dict[str, Any] | None:
    """The record of a database's backups."""
    path = STATE / "backups" / f"{database}.json"
    return json.loads(path.read_text()) if path.exists() else None


@pytest.fixture
def host(cluster: Cluster, keys: Keys) -> Iterator[None]:
    """Makes this container a host as the roles would: command, configuration, and a database that is not there."""
    cluster.create("small", "CREATE TABLE notes (id integer PRIMARY KEY); INSERT INTO notes VALUES (1)")
    for directory in (
        SETTINGS / "keys",
        STORE,
        Path("/run/lock/pharma-ops"),
        Path("/usr/local/lib/pharma-ops"),
    ):
        directory.mkdir(parents=True)
    engine = Path("/usr/local/lib/pharma-ops/pharma_ops")
    engine.symlink_to(ROOT / "plugins/module_utils/_ops")
    command = Path("/usr/local/bin/pharma-ops")
    command.write_text(
        '#!/bin/sh\nPYTHONPATH=/usr/local/lib/pharma-ops exec python3 -m pharma_ops.cli "$@"\n'
    )
    command.chmod(0o755)
    for name, content in (
        ("keys/backup-signing.pem", keys.signing_key.read_text()),
        ("recipients.txt", keys.recipients.read_text()),
        ("keys/password", BACKUP_PASSWORD),
    ):
        (SETTINGS / name).write_text(content)
    lines = ['environment = "lab"', "[backup]", 'stores = ["disk"]']
    lines += ["[stores.disk]", 'type = "local"', f'path = "{STORE}"']
    for name in ("small", "gone"):
        lines += [
            f"[databases.{name}]",
            'host = "127.0.0.1"',
            f"port = {cluster.port}",
            f'user = "{BACKUP_ROLE}"',
        ]
        lines += [f'password_file = "{SETTINGS}/keys/password"']
    (SETTINGS / "config.toml").write_text("\n".join(lines) + "\n")
    (UNITS / "pharma-notify@.service").write_text(NOTIFY)
    yield
    for timer in UNITS.glob("pharma-backup@*.timer"):
        systemctl("stop", timer.name)
    for path in (*UNITS.glob("pharma-*"), CRON, command):
        path.unlink(missing_ok=True)
    systemctl("daemon-reload")
    for directory in (SETTINGS, STATE, Path("/run/lock/pharma-ops"), Path("/usr/local/lib/pharma-ops")):
        shutil.rmtree(directory)


def sets() -> list[Path]:
    """The complete sets in the store."""
    return sorted(STORE.glob("small/*/manifest.json"))


def check_failure_is_told() -> None:
    """The database that is not there fails its job, which says so to the one who tells."""
    wait_for(lambda: TOLD.exists() and "pharma-backup@gone.service" in TOLD.read_text(), 30)
    assert "pharma-backup@small" not in TOLD.read_text()
    failed = record("gone")
    assert failed is not None
    assert failed["lastRun"]["error"]["code"] == "DATABASE_MISSING"


@pytest.mark.usefixtures("host")
def test_timers_of_systemd_fire() -> None:
    (UNITS / "pharma-backup@.service").write_text(render("pharma-backup@.service.j2"))
    for database in VARIABLES["backup_databases"]:  # type: ignore[attr-defined]
        timer = UNITS / f"pharma-backup@{database['name']}.timer"
        # A real timer need not be exact; systemd lets it be up to a minute late.
        exact = "[Timer]\nAccuracySec=100ms\n"
        timer.write_text(render("pharma-backup@.timer.j2", item=database).replace("[Timer]\n", exact))
    subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, UNITS.glob("pharma-backup@*.timer"))],
        check=True,
        capture_output=True,
    )
    systemctl("daemon-reload")
    systemctl("start", *(timer.name for timer in UNITS.glob("pharma-backup@*.timer")))
    wait_for(lambda: len(sets()) >= 2, 40)
    found = record("small")
    assert found is not None
    assert found["lastRun"]["verdict"] == "complete"
    check_failure_is_told()


@pytest.mark.usefixtures("host")
@pytest.mark.skipif(shutil.which("cron") is None, reason="needs cron")
def test_lines_of_cron_fire() -> None:
    CRON.write_text(render("pharma-backup.cron.j2"))
    CRON.chmod(0o644)
    systemctl("start", "cron.service")
    wait_for(sets, 75)
    wait_for(lambda: record("small"), 10)
    found = record("small")
    assert found is not None
    assert found["lastRun"]["verdict"] == "complete"
    check_failure_is_told()
    lines = subprocess.run(
        ["journalctl", "-t", "pharma-backup", "--no-pager", "-o", "cat"], capture_output=True, text=True
    ).stdout
    assert '"msg":"backup_finished"' in lines, "what it prints is in the journal"
    systemctl("stop", "cron.service")


@pytest.mark.usefixtures("host")
def test_a_run_that_reaches_its_deadline_is_stopped_and_says_so(cluster: Cluster) -> None:
    """A lock on a table holds the dump up for longer than the unit allows."""
    unit = render("pharma-backup@.service.j2", backup_max_duration="4s")
    (UNITS / "pharma-backup@.service").write_text(unit)
    systemctl("daemon-reload")
    with cluster.connect("small") as connection, connection.transaction():
        connection.execute("LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
        done = subprocess.run(
            ["systemctl", "start", "pharma-backup@small.service"], capture_output=True, timeout=60
        )
    assert done.returncode != 0
    found = record("small")
    assert found is not None
    assert (found["lastRun"]["verdict"], found["lastRun"]["error"]["code"]) == ("failed", "INTERRUPTED")
    assert sets() == []
    wait_for(TOLD.exists, 10)
