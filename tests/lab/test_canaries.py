# SPDX-License-Identifier: GPL-3.0-or-later
"""Every secret of the lab is a canary: after everything was run, no log, output, process or report shows one."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import canaries
import pytest
from canaries import Canaries
from kept_alive import BrokenExchangeError, Connection, Endpoint
from playbooks import SHORT_WAITS, Playbooks, Played

OnHost = Callable[..., str]
HOSTS = tuple((os.environ.get("LAB_HOSTS") or "db1,app1,staging1").replace(",s3", "").split(","))
# Goes on when the connection has ended, and can be ended by its number.
AWAY = "</dev/null >/dev/null 2>&1 & echo $! > /run/canary-test.pid; sleep 0.3"


@pytest.fixture(scope="module")
def looked_for(state_dir: Path) -> Canaries:
    """All secrets as they are now; a rotation that runs afterwards brings others."""
    return Canaries(canaries.values(state_dir))


@pytest.fixture(scope="module")
def play(root: Path) -> Callable[..., Played]:
    """Runs a playbook on all hosts with everything that Ansible can say."""
    limit = ",".join((*HOSTS, "localhost"))
    return Playbooks(root, "-vvv", "--diff", *SHORT_WAITS, "--limit", limit).run


@pytest.fixture(scope="module")
def probe_password(state_dir: Path) -> str:
    """A secret that the tests may show to a host on purpose."""
    loaded: dict[str, str] = json.loads((state_dir / "secrets.json").read_text())
    return loaded["probe_password"]


@pytest.fixture
def shown(on_host: OnHost, probe_password: str) -> Iterator[Callable[[str], None]]:
    """Shows a secret in a place of app1 as a fault would, and takes it away again."""
    undo: list[str] = []

    def show(place: str) -> None:
        text = f"login with {quote(probe_password)} failed\n"
        if place == "journal":
            on_host("app1", "logger --tag canary-test --file /dev/stdin", text)
            undo.append("sleep 2; journalctl --rotate --vacuum-time=1s >/dev/null 2>&1")
        elif place == "environment of processes":
            on_host("app1", f"read -r V; CANARY=$V sleep 7777 {AWAY}", text)
            undo.append("kill $(cat /run/canary-test.pid)")
        elif place == "arguments of processes":
            on_host("app1", f"read -r V; python3 -c 'import time; time.sleep(7777)' \"$V\" {AWAY}", text)
            undo.append("kill $(cat /run/canary-test.pid)")
        else:
            on_host("app1", "cat > /var/log/canary-test.log", text)
            undo.append("rm -f /var/log/canary-test.log")

    yield show
    for command in undo:
        on_host("app1", f"{command}; true")


def ask(
    endpoint: Endpoint, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> int:
    """Send one request through the proxy; the status of the answer, 0 when there was none."""
    try:
        return asyncio.run(Connection(endpoint).exchange(method, path, headers or {}, body)).status
    except BrokenExchangeError:
        return 0


def errors(endpoint: Endpoint) -> list[int]:
    """Make the service log what goes wrong with secrets in it."""
    as_json = {"Content-Type": "application/json"}
    login = json.dumps({"username": "rotation-probe", "password": "wrong-password"}).encode()
    return [
        ask(endpoint, "POST", "/auth/login", as_json, login),
        ask(endpoint, "GET", "/products", {"Authorization": "Bearer not-a-token"}),
        ask(endpoint, "POST", "/auth/refresh", as_json, b"{"),
    ]


def test_nothing_shows_a_secret_after_everything_was_run(
    looked_for: Canaries, play: Callable[..., Played], on_host: OnHost, endpoint: Endpoint, root: Path
) -> None:
    """Deployed, deployed in a dry run, backed up, drilled, refused, crashed: all of it with -vvv and --diff."""
    short = "rotate=jwt backend_jwt_secret_next=short"
    runs = {
        "site": play("playbooks/site.yml"),
        "site in a dry run": play("playbooks/site.yml", "--check"),
        "rotation in a dry run": play("playbooks/rotate_secrets.yml", "--check", "-e", "rotate=jwt"),
        "rotation to a secret that is too short": play("playbooks/rotate_secrets.yml", "-e", short),
        "rotation with the probe's password wrong": play(
            "playbooks/rotate_secrets.yml", "-e", "rotate=refresh rotate_probe_password=wrong"
        ),
        "backup": play("playbooks/backup.yml"),
        "drill": play("playbooks/drill.yml"),
    }
    for name in ("site", "site in a dry run", "backup", "drill"):
        runs[name].succeeded()
    assert runs["rotation to a secret that is too short"].code != 0
    assert "PROBE_FAILED" in runs["rotation with the probe's password wrong"].output
    # Errors: a login that fails, a token that is none, a body that is not JSON; then a crash in the middle.
    assert errors(endpoint) == [401, 401, 422]
    on_host("app1", "systemctl kill --signal=SIGABRT 'pharma-backend@*.service'")
    deadline = time.monotonic() + 60
    while ask(endpoint, "GET", "/health/ready") != 200:
        assert time.monotonic() < deadline, "the service did not come back after a crash"
        time.sleep(0.5)

    told = {name: names for name, run in runs.items() if (names := looked_for.found(run.output))}
    assert told == {}
    assert canaries.look(looked_for, on_host, HOSTS) == {}
    evidence = Path(os.environ.get("LAB_EVIDENCE_DIR") or root / "evidence")
    reports = {
        str(path): names
        for path in evidence.rglob("*")
        if path.is_file() and (names := looked_for.found(path.read_text(errors="replace")))
    }
    assert reports == {}
    assert list(evidence.rglob("report.html")), f"no report in {evidence}, so none was looked at"
    print(
        f"{looked_for.count} strings, 0 in {sum(len(run.output) for run in runs.values())} characters of output"
    )


@pytest.mark.parametrize(
    "place", ["files of logs", "journal", "environment of processes", "arguments of processes"]
)
def test_a_secret_that_is_shown_is_found(
    looked_for: Canaries, on_host: OnHost, shown: Callable[[str], None], place: str
) -> None:
    """The search sees what it is there for."""
    shown(place)
    assert canaries.look(looked_for, on_host, ["app1"]) == {f"app1: {place}": {"probe_password:0"}}


def test_every_form_of_a_secret_is_found(looked_for: Canaries, probe_password: str) -> None:
    """In a longer text, in base64 of a longer text, in a URL."""
    assert looked_for.count > 100
    for text in (
        f"password={probe_password}&x",
        f"postgresql://u:{quote(probe_password, safe='')}@db1/x",
        *(
            base64.b64encode(b"user:" + b"x" * pad + probe_password.encode() + b"\n").decode()
            for pad in range(3)
        ),
        probe_password.encode().hex(),
    ):
        assert looked_for.found(text) == {"probe_password:0"}, text
    assert looked_for.found("nothing of it") == set()
