# SPDX-License-Identifier: GPL-3.0-or-later
"""The module ``pg_backup_prune`` as a playbook meets it: check mode with the plan as a diff, then the same for real."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from estate_samples import DATABASE, RULES, Host, add_drill, host, ids, put_days, put_upload

RunAnsible = Callable[..., subprocess.CompletedProcess[str]]
Module = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def here(tmp_path: Path) -> Host:
    return host(tmp_path, f"{RULES}\nmax_age_hours = 60")


@pytest.fixture
def prune(run_ansible: RunAnsible, root: Path, tmp_path: Path, here: Host) -> Module:
    """Runs the module on this machine; how it ended and its result."""
    play = tmp_path / "play.yml"

    def run(*options: str, **arguments: object) -> tuple[int, dict[str, Any]]:
        task = {"pharma.hardening.pg_backup_prune": {"config": str(here.config)} | arguments}
        play.write_text(
            json.dumps(
                [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}]
            )
        )
        done = run_ansible(
            "ansible-playbook",
            *("-i", "localhost,", *options, str(play)),
            cwd=tmp_path,
            ANSIBLE_COLLECTIONS_PATH=str(root / "collections"),
            ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
            ANSIBLE_PYTHON_INTERPRETER=sys.executable,
        )
        try:
            result = json.loads(done.stdout)["plays"][0]["tasks"][0]["hosts"]["localhost"]
        except (ValueError, LookupError) as error:
            raise AssertionError(done.stdout + done.stderr) from error
        return done.returncode, result

    return run


def today(root: Path, days: int) -> list[str]:
    """The module asks the real clock."""
    return put_days(root, days, now=datetime.now(UTC) - timedelta(days=1))


def test_check_mode_shows_the_plan_as_a_diff_and_the_run_does_just_that(here: Host, prune: Module) -> None:
    made = today(here.store, 8)
    add_drill(here.ledger, made[0], finished=datetime.now(UTC) - timedelta(hours=30))
    put_upload(here.store, f"{DATABASE}/20260101T053000Z-abcdef/dump.age", datetime(2026, 1, 1, tzinfo=UTC))
    status, looked = prune("--check", "--diff")
    assert (status, looked["changed"]) == (0, True)
    assert ids(here.store) == made
    (diff,) = looked["diff"]
    assert diff["before_header"] == f"pharma in directory {here.store} (offsite-pruner)"
    gone = [line for line in diff["before"].splitlines() if line not in diff["after"].splitlines()]
    assert gone == [
        f"{made[1]} complete 4000 bytes: beyond all rules",
        f"{made[2]} complete 4000 bytes: beyond all rules",
        "unfinished upload of pharma/20260101T053000Z-abcdef/dump.age",
    ]
    (place,) = looked["places"]
    assert place["removed"] == []
    assert place["plan"][1] == f"remove {gone[0]}"

    status, done = prune()
    assert (status, done["changed"]) == (0, True)
    assert done["places"][0]["removed"] == made[1:3]
    assert done["places"][0]["uploads_aborted"] == 1
    assert ids(here.store) == [made[0], *made[3:]]

    for options in ((), ("--check",)):
        status, again = prune(*options)
        assert (status, again["changed"]) == (0, False)


def test_a_blocked_plan_fails_with_its_code_in_both_modes(here: Host, prune: Module) -> None:
    made = put_days(here.store, 8, now=datetime.now(UTC) - timedelta(days=5))
    for options in ((), ("--check",)):
        status, result = prune(*options)
        assert status != 0
        assert (result["code"], result["rc"]) == ("RETENTION_NEWEST_TOO_OLD", 1)
        assert result["places"][0]["verdict"] == "blocked"
    status, result = prune(fail_when_blocked=False)
    assert (status, result["changed"]) == (0, False)
    assert result["places"][0]["error"]["code"] == "RETENTION_NEWEST_TOO_OLD"
    assert ids(here.store) == made


def test_a_host_without_a_policy_is_told_so(here: Host, prune: Module) -> None:
    here.config.write_text('environment = "lab"\n')
    status, result = prune()
    assert status != 0
    assert result["code"] == "CONFIG_INVALID"
    assert "pharma.hardening.retention" in result["msg"]
