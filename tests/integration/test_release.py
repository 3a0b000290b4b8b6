# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases on real units: two colours, one link, a gate that looks at real requests. Needs systemd and root."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from release_host import Host, Traffic, ask

from pharma_ops.drill import isolation

pytestmark = pytest.mark.skipif(bool(isolation.unavailable()), reason=isolation.unavailable())
NUMBERS = itertools.count(1)


@pytest.fixture
def host(engine_path: Path) -> Iterator[Host]:
    made = Host(f"shop{next(NUMBERS)}", engine_path)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def schema(root: Path) -> Draft202012Validator:
    path = root / "docs/schemas/deployment.schema.json"
    return Draft202012Validator(json.loads(path.read_text()))


def stages(record: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["verdict"] for stage in record["stages"]}


def test_releases_come_and_go_without_a_failed_request(host: Host, schema: Draft202012Validator) -> None:
    """Deploy, deploy, renew and roll back under load; nothing fails, and each step is in the journal."""
    host.deployed("1.0.0")
    assert (host.link(), host.boots()) == ("blue", ["blue"])
    first = host.records()[0]
    assert first["previousVersion"] is None
    assert stages(first)["watch"] == "not_run"
    host.install("2.0.0")
    with Traffic(host).flowing() as traffic:
        traffic.wait_for(200)
        status, result = host.run("deploy", "2.0.0", "--who", "ana")
        assert (status, result["record"]["verdict"]) == (0, "deployed"), result
        assert (host.link(), host.boots()) == ("green", ["green"])
        assert (host.root / "current").resolve().name == "2.0.0"
        assert host.state_of("blue") == "active", "the release before is kept warm"
        (host.root / "secret").write_text("second")
        status, result = host.run("renew")
        assert (status, result["record"]["verdict"]) == (0, "renewed"), result
        assert "migrate" not in stages(result["record"])
        assert host.link() == "blue"
        status, result = host.run("rollback")
        assert (status, result["record"]["verdict"]) == (0, "rolled_back"), result
        assert (result["version"], host.link(), host.boots()) == ("1.0.0", "green", ["green"])
        traffic.wait_for(2500)
    assert traffic.failed == {}
    assert traffic.total >= 2000
    records = host.records()
    assert [record["verdict"] for record in records] == ["deployed", "deployed", "renewed", "rolled_back"]
    assert records[1]["requests"]["total"] >= 50
    assert records[1]["requests"]["errors5xx"] == 0
    assert (records[1]["who"], records[1]["previousVersion"]) == ("ana", "1.0.0")
    for record in records:
        schema.validate(record)
    assert host.status()["healthy"]
    assert host.recorded() == ["1.0.0", "2.0.0", "2.0.0", "1.0.0"]


def test_a_release_serves_though_that_could_not_be_recorded(host: Host) -> None:
    host.deployed("1.0.0")
    (host.root / "no-record").touch()
    status, result = host.run("rollback", "1.0.0")
    assert (status, result["changed"]) == (0, False)
    host.install("2.0.0")
    host.settings["watch_seconds"] = 0
    status, result = host.run("deploy", "2.0.0")
    assert (status, result["record"]["verdict"], stages(result["record"])["record"]) == (0, "deployed", "unknown")


def test_going_back_to_a_warm_release_takes_a_flip(host: Host) -> None:
    host.settings["watch_seconds"] = 0
    host.deployed("1.0.0")
    host.deployed("2.0.0")
    with Traffic(host).flowing() as traffic:
        traffic.wait_for(50)
        began = time.monotonic()
        status, result = host.run("rollback")
        seconds = time.monotonic() - began
    assert (status, result["version"], host.link()) == (0, "1.0.0", "blue")
    assert seconds <= 5
    assert stages(result["record"])["start"] == "not_run"
    assert traffic.failed == {}
    assert host.run("rollback", "1.0.0")[1]["changed"] is False
    assert host.run("rollback")[1]["error"]["code"] == "RELEASE_PREVIOUS_UNKNOWN"


def test_going_back_to_a_release_that_does_not_run_starts_it_first(host: Host) -> None:
    host.settings["watch_seconds"] = 0
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        host.deployed(version)
    began = time.monotonic()
    status, result = host.run("rollback", "1.0.0")
    assert (status, result["version"]) == (0, "1.0.0")
    assert time.monotonic() - began <= 5
    assert stages(result["record"])["start"] == "passed"
    assert ask(host.root / "slots/active.sock") == "200"


def test_the_version_in_service_is_not_deployed_again(host: Host) -> None:
    host.deployed("1.0.0")
    status, result = host.run("deploy", "1.0.0")
    assert (status, result["changed"], result["version"]) == (0, False, "1.0.0")
    assert len(host.records()) == 1


@pytest.mark.parametrize(
    ("behaviour", "stage", "code"),
    [
        ({"ready": False}, "health", "RELEASE_NOT_READY"),
        ({"says": "1.0.1"}, "health", "RELEASE_NOT_READY"),
        ({"never_up": True}, "start", "RELEASE_DID_NOT_START"),
        ({"start_exit": True}, "start", "RELEASE_DID_NOT_START"),
        ({"smoke_fails": True}, "smoke", "SMOKE_FAILED"),
        ({"migration_fails": True}, "migrate", "MIGRATION_FAILED"),
    ],
)
def test_a_release_that_is_refused_never_gets_a_request(
    host: Host, schema: Draft202012Validator, behaviour: dict[str, Any], stage: str, code: str
) -> None:
    host.settings["health_timeout_seconds"] = 2
    host.deployed("1.0.0")
    host.install("2.0.0", **behaviour)
    with Traffic(host).flowing() as traffic:
        status, result = host.run("deploy", "2.0.0")
        traffic.wait_for(traffic.total + 50)
    record = result["record"]
    assert (status, record["verdict"], record["code"]) == (1, "refused", code), result
    assert stages(record)[stage] == "failed"
    assert "1.0.0 serves on." in record["cause"]
    schema.validate(record)
    assert traffic.failed == {}
    assert host.served("2.0.0") == 0
    assert (host.link(), host.boots()) == ("blue", ["blue"])
    assert host.state_of("green") != "active"
    assert host.recorded() == ["1.0.0"], "a release that had to go was never on record"
    assert host.status()["healthy"]
    assert host.recorded() == ["1.0.0"]


@pytest.mark.parametrize(
    ("behaviour", "settings", "words"),
    [
        ({"pay_fails": True}, {}, "failed with 5xx"),
        ({"slow": 0.2}, {"watch_max_p95_seconds": 0.1, "watch_minimum_requests": 20}, "p95"),
        ({"crash_after": 60}, {"watch_minimum_requests": 100000}, "the process of green ended"),
    ],
)


def test_a_bad_release_is_switched_back_by_itself(
    host: Host, schema: Draft202012Validator, behaviour: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    host.settings |= {"watch_seconds": 60} | settings
    host.deployed("1.0.0")
    host.install("2.0.0", **behaviour)
    with Traffic(host).flowing() as traffic:
        status, result = host.run("deploy", "2.0.0")
        before = dict(traffic.failed)
        traffic.wait_for(traffic.total + 100)
    record = result["record"]
    assert (status, record["verdict"], record["code"]) == (1, "switched_back", "GATE_EXCEEDED"), result
    assert words in record["cause"]
    assert "1.0.0 serves again" in record["cause"]
    assert stages(record)["switch_back"] == "passed"
    watched = next(stage for stage in record["stages"] if stage["name"] == "watch")
    assert watched["seconds"] < 30, "it does not wait for the end of the watch"
    assert record["requests"]["total"] > 0
    schema.validate(record)
    assert traffic.failed == before, "nothing fails once the old release serves again"
    assert (result["version"], host.link(), host.boots()) == ("1.0.0", "blue", ["blue"])
    assert (host.root / "current").resolve().name == "1.0.0"
    assert host.state_of("green") != "active"
    assert host.status()["healthy"]


def test_a_release_that_is_no_longer_ready_is_switched_back(host: Host) -> None:
    host.settings["watch_seconds"] = 20
    host.deployed("1.0.0")
    directory = host.install("2.0.0")
    command = host.start("deploy", "2.0.0")
    command.wait_for("watch")
    (directory / "unready").touch()
    status, result = command.end()
    assert (status, result["record"]["verdict"]) == (1, "switched_back"), result
    assert "not ready 3 times in a row" in result["record"]["cause"]


def test_too_few_requests_leave_the_release_and_say_so(host: Host) -> None:
    host.deployed("1.0.0")
    host.install("2.0.0")
    status, result = host.run("deploy", "2.0.0")
    assert (status, result["record"]["verdict"]) == (0, "deployed")
    assert stages(result["record"])["watch"] == "unknown"
    assert result["record"]["requests"]["total"] == 0


def test_nobody_goes_back_to_a_release_that_is_worse(host: Host) -> None:
    """The one before is broken by now: the new one stays, and the record says that it failed its gate."""
    host.deployed("1.0.0")
    (host.root / "releases/1.0.0/unready").touch()
    host.install("2.0.0", slow=0.2)
    host.settings |= {"watch_max_p95_seconds": 0.1, "watch_minimum_requests": 20, "watch_seconds": 4}
    with Traffic(host).flowing():
        status, result = host.run("deploy", "2.0.0")
    assert (status, host.link()) == (1, "green"), result
    assert stages(result["record"])["watch"] == "failed"
    assert "blue is not ready to take over" in result["record"]["cause"]


def test_the_access_log_may_be_rotated_while_it_is_watched(host: Host) -> None:
    host.settings |= {"watch_seconds": 4}
    host.deployed("1.0.0")
    host.install("2.0.0")
    with Traffic(host).flowing() as traffic:
        command = host.start("deploy", "2.0.0")
        command.wait_for("watch")
        time.sleep(1)
        before = traffic.total
        host.log.rename(host.log.with_suffix(".1"))
        status, result = command.end()
        after = traffic.total
    assert (status, result["record"]["verdict"]) == (0, "deployed")
    assert result["record"]["requests"]["total"] > (after - before) * 0.5


def test_a_second_release_is_refused_and_told_who_is_at_it(host: Host) -> None:
    host.deployed("1.0.0")
    host.install("2.0.0", start_delay=2)
    first = host.start("deploy", "2.0.0")
    first.wait_for("start")
    status, result = host.run("renew")
    assert (status, result["error"]["code"]) == (2, "LOCK_HELD")
    assert str(first.process.pid) in result["error"]["message"]
    assert first.end()[0] == 0


def test_old_releases_go_and_what_is_needed_stays(host: Host) -> None:
    host.settings |= {"watch_seconds": 0, "releases_keep": 3}
    for number in range(1, 6):
        host.install(f"{number}.0.0")
        os.utime(host.root / f"releases/{number}.0.0/release.json", (number, number))
    unfinished = host.root / "releases/9.0.0"
    unfinished.mkdir()
    for version in ("1.0.0", "5.0.0"):
        assert host.run("deploy", version)[0] == 0
    left = sorted(path.name for path in (host.root / "releases").iterdir())
    assert left == ["1.0.0", "4.0.0", "5.0.0", "9.0.0"]
    listed = host.run("list")[1]["releases"]
    assert [item["version"] for item in listed] == ["5.0.0", "4.0.0", "1.0.0"]
    assert [item["active"] for item in listed] == [True, False, False]


def test_a_disk_that_cannot_be_written_does_not_keep_anybody_from_going_back(host: Host) -> None:
    host.settings["watch_seconds"] = 0
    host.deployed("1.0.0")
    host.deployed("2.0.0")
    directory = host.state / "deployments"
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", directory], check=True)
        status, result = host.run("rollback")
        assert (status, result["error"]["code"]) == (2, "JOURNAL_NOT_WRITTEN"), result
        assert "rolled_back" in result["error"]["message"]
        assert (host.link(), host.boots()) == ("blue", ["blue"])
        assert [record["verdict"] for record in host.records()] == ["deployed", "deployed"]
    finally:
        subprocess.run(["umount", directory], check=True)
    assert host.run("deploy", "2.0.0")[0] == 0
    assert len(host.records()) == 3


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("deploy", "7.0.0"), "RELEASE_NOT_INSTALLED"),
        (("deploy", "../x"), "ARGUMENT_INVALID"),
        (("renew",), "RELEASE_NOT_DEPLOYED"),
        (("rollback",), "RELEASE_NOT_DEPLOYED"),
        (("status", "--service", "other"), "CONFIG_INVALID"),
    ],
)
def test_what_cannot_begin_leaves_no_record(host: Host, words: tuple[str, ...], code: str) -> None:
    status, result = host.run(*words)
    assert (status, result["error"]["code"]) == (2, code)
    assert host.records() == []
