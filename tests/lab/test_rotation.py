# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets are rotated while cashiers sell: no request fails, nobody is logged out, and the old value is void."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import canaries
import pytest
from canaries import Canaries
from cashiers import Cashier
from kept_alive import Endpoint
from load import Report, Traffic, log_in, tills
from playbooks import SHORT_WAITS, Playbooks, Played
from shop import Shop

REQUESTS = 10_000
# A till refreshes when its token has expired, so a refresh token that outlives three of them is never late.
TOKENS = {"access_token_ttl": 30, "refresh_token_ttl": 90}
MARGIN_SECONDS = 5
CREDENTIALS = {"jwt": "JWT_SECRET", "refresh": "REFRESH_SECRET", "database": "DATABASE_URL"}
CREATE_PROBE = (
    "systemd-run --quiet --wait --pipe --collect --property=DynamicUser=yes --setenv=PHARMA_ENV=lab"
    " --property=LoadCredential=DATABASE_URL:/etc/pharma/credentials/DATABASE_URL"
    " /opt/pharma/current/bin/pharma-backend create-user --username rotation-probe --role admin --password-stdin"
)
# In the lab's secrets: the value in use, and the one that the rotation brings.
PAIRS = {
    "jwt": [("jwt_secret", "jwt_secret_next")],
    "refresh": [("refresh_secret", "refresh_secret_next")],
    "database": [
        ("database_app_password", "database_app_password_next"),
        ("database_login", "database_login_next"),
    ],
}

OnHost = Callable[..., str]
Play = Callable[..., Played]


class Vault:
    """The lab's secrets as an operator keeps them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, str]:
        """All values."""
        loaded: dict[str, str] = json.loads(self.path.read_text())
        return loaded

    def move(self, name: str) -> None:
        """After a rotation: the new value takes its place, and another new one is made for the next time."""
        values = self.read()
        for old, new in PAIRS[name]:
            values[old], values[new] = values[new], values[old]
            if "login" not in old:
                values[new] = secrets.token_urlsafe(32)
        self.path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


@pytest.fixture(scope="module")
def vault(state_dir: Path) -> Vault:
    """The lab's secrets."""
    return Vault(state_dir / "secrets.json")


@pytest.fixture(scope="module")
def playbooks(root: Path) -> Playbooks:
    """Runs playbooks with tokens that live for a short time."""
    settings = json.dumps({"backend_settings": TOKENS, "rotate_margin_seconds": MARGIN_SECONDS})
    return Playbooks(root, "--limit", "app1:db1", *SHORT_WAITS, "-e", settings)


@pytest.fixture(scope="module")
def play(playbooks: Playbooks) -> Play:
    """Runs one: ``play("site", "--tags", "backend")``."""
    return lambda playbook, *words: playbooks.run(f"playbooks/{playbook}.yml", *words)


def under_way(record: dict[str, Any], phase: str) -> bool:
    """Whether that phase of a rotation has begun and not ended. (An earlier rotation's record is there until then.)"""
    last = record.get("phases", [])[-1:]
    return [step["name"] for step in last if step["finishedAt"] is None] == [phase]


def state(on_host: OnHost, name: str) -> dict[str, Any]:
    """The record of the rotation on the host; empty when there is none."""
    path = f"/var/lib/pharma-ops/rotations/{name}.json"
    text = on_host("app1", f"cat {path} 2>/dev/null || true")
    return json.loads(text) if text.strip() else {}


@pytest.fixture(scope="module", autouse=True)
def short_tokens(play: Play, on_host: OnHost, shop: Shop, vault: Vault) -> None:
    """The service issues tokens whose end a test can wait for, and there is a user to prove a rotation with."""
    done = play("site", "--tags", "backend")
    done.succeeded()
    if shop.sql("select count(*) from pharmacy.users where username = 'rotation-probe'").strip() == "0":
        on_host("app1", CREATE_PROBE, vault.read()["probe_password"] + "\n")


@pytest.fixture
def selling(shop: Shop, endpoint: Endpoint) -> Iterator[Traffic]:
    """Cashiers who logged in before the rotation, at work."""
    shop.restock()
    staff = [Cashier(user, seed) for seed, user in enumerate(shop.hire(8))]
    log_in(endpoint, staff)
    with Traffic(tills(endpoint, staff)) as load:
        yield load


def assert_nobody_noticed(report: Report, what: str) -> None:
    """Every request was answered as it should be, and every token was taken."""
    print(f"{what}: {report.summary()}")
    assert report.requests >= REQUESTS
    assert report.failed == 0, report.summary()
    assert report.logged_out == ()
    assert report.refreshes > 0, "no token expired under way, so nothing was shown"


@pytest.mark.parametrize("name", ["jwt", "refresh", "database"])
def test_nobody_notices_a_rotation(
    name: str, selling: Traffic, play: Play, vault: Vault, on_host: OnHost, shop: Shop
) -> None:
    """Nobody but the journal: everything that Ansible can say is read for the values, old and new, as the hosts are."""
    before = vault.read()
    looked_for = Canaries(canaries.values(vault.path.parent))
    file = f"/etc/pharma/credentials/{CREDENTIALS[name]}"
    done = play("rotate_secrets", "-e", f"rotate={name} rotate_wait=true", "-vvv", "--diff")
    report = selling.finish(at_least=REQUESTS)
    done.succeeded()
    assert_nobody_noticed(report, f"rotation of {name}")
    assert looked_for.found(done.output) == set()
    assert canaries.look(looked_for, on_host, ("db1", "app1")) == {}
    record = state(on_host, name)
    assert record["state"] == "finished"
    assert [phase["name"] for phase in record["phases"]] == [
        "prepare",
        "accept",
        "switch",
        "verify",
        "retire",
    ]

    content = on_host("app1", f"cat {file}")
    for old, new in PAIRS[name]:
        assert before[old] not in content.replace("pharma_app_alt", "") or old == "database_login"
        assert before[new] in content
    if name == "database":
        roles = shop.sql(
            "select rolname, rolcanlogin from pg_roles where rolname like 'pharma_app%' order by 1"
        )
        assert dict(line.split("|") for line in roles.split()) == {
            before["database_login"]: "f",
            before["database_login_next"]: "t",
        }

    # The operator forgets to move the value: the deployment is refused and changes nothing.
    refused = play("site", "--tags", "backend")
    assert refused.code != 0
    assert "SECRET_RETIRED" in refused.output
    if name == "database":
        refused = play("site", "--tags", "database")
        assert refused.code != 0
        assert "has taken the place of" in refused.output
    assert on_host("app1", f"cat {file}") == content

    vault.move(name)
    done = play("site", "--tags", "database,backend")
    done.succeeded()
    assert on_host("app1", f"cat {file}") == content


def test_a_rotation_that_was_killed_goes_on_and_one_is_taken_back(
    selling: Traffic, playbooks: Playbooks, play: Play, vault: Vault, on_host: OnHost
) -> None:
    """SIGKILL for the controller in the middle of the switch; run again; then back, all of it under load."""
    old, new = vault.read()["jwt_secret"], vault.read()["jwt_secret_next"]
    first = subprocess.Popen(
        playbooks.command("playbooks/rotate_secrets.yml", "-e", "rotate=jwt"),
        cwd=playbooks.root,
        env=playbooks.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not under_way(state(on_host, "jwt"), "switch"):
        assert first.poll() is None, "the playbook ended before it came to the switch"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert under_way(state(on_host, "jwt"), "switch"), "the kill came too late to interrupt anything"

    done = play("rotate_secrets", "-e", "rotate=jwt")
    done.succeeded()
    assert "by another run" in done.words
    assert on_host("app1", "cat /etc/pharma/credentials/JWT_SECRET").split() == [new, old]
    early = play("rotate_secrets", "-e", "rotate=jwt rotate_margin_seconds=600")
    assert early.code != 0
    assert "users would be logged out" in early.words

    # A deployment in between leaves the ring alone.
    done = play("site", "--tags", "backend")
    done.succeeded()
    assert on_host("app1", "cat /etc/pharma/credentials/JWT_SECRET").split() == [new, old]

    done = play("rotate_secrets", "-e", "rotate=jwt rotate_back=true rotate_wait=true")
    report = selling.finish(at_least=REQUESTS)
    done.succeeded()
    assert_nobody_noticed(report, "killed, continued, taken back")
    assert state(on_host, "jwt")["state"] == "withdrawn"
    assert on_host("app1", "cat /etc/pharma/credentials/JWT_SECRET").split() == [old]
