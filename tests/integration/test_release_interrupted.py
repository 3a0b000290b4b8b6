# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases that are stopped or killed in the middle: what serves, and who brings it to an end."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from release_host import Host, Traffic, ask, systemctl

from pharma_ops.drill import isolation

pytestmark = pytest.mark.skipif(bool(isolation.unavailable()), reason=isolation.unavailable())
NUMBERS = itertools.count(1)
# Long enough in each stage to be met there.
SLOW = {"migrate_delay": 1, "start_delay": 1, "ready_after": 2, "smoke_delay": 1}


@pytest.fixture
def host(engine_path: Path) -> Iterator[Host]:
    made = Host(f"halt{next(NUMBERS)}", engine_path)
    made.settings["watch_seconds"] = 6
    yield made
    made.remove()


def assert_consistent(host: Host, version: str, colour: str) -> None:
    """What follows the link agrees with it, and the other colour is not in anybody's way."""
    status = host.status()
    assert status["problems"] == []
    assert (status["version"], status["active"], status["unfinished"]) == (version, colour, None)
    assert (host.link(), host.boots()) == (colour, [colour])
    assert (host.root / "current").resolve().name == version
    assert ask(host.root / "slots/active.sock") == "200"
    assert host.recorded()[-1] == version


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("migrate", signal.SIGTERM),
        ("start", signal.SIGINT),
        ("health", signal.SIGTERM),
        ("smoke", signal.SIGHUP),
    ],
)
def test_a_signal_before_the_switch_refuses_the_release(
    host: Host, stage: str, number: signal.Signals
) -> None:
    host.deployed("1.0.0")
    host.install("2.0.0", **SLOW)
    with Traffic(host).flowing() as traffic:
        command = host.start("deploy", "2.0.0")
        command.wait_for(stage)
        command.send(number)
        command.send(number)
        status, result = command.end()
        traffic.wait_for(traffic.total + 50)
    record = result["record"]
    assert (status, record["verdict"], record["code"]) == (1, "refused", "INTERRUPTED"), result
    assert f"interrupted in {stage} by {number.name}" in record["cause"]
    assert traffic.failed == {}
    assert host.served("2.0.0") == 0
    assert host.state_of("green") != "active"
    assert systemctl("is-active", f"{host.name}-migrate@2.0.0.service") == "inactive"
    assert_consistent(host, "1.0.0", "blue")


def test_a_signal_during_the_watch_switches_back(host: Host) -> None:
    host.settings["watch_seconds"] = 30
    host.deployed("1.0.0")
    host.install("2.0.0")
    with Traffic(host).flowing() as traffic:
        command = host.start("deploy", "2.0.0")
        command.wait_for("watch")
        traffic.wait_for(traffic.total + 50)
        command.send(signal.SIGTERM)
        status, result = command.end()
    record = result["record"]
    assert (status, record["verdict"], record["code"]) == (1, "switched_back", "INTERRUPTED"), result
    assert "interrupted in watch by SIGTERM. 1.0.0 serves again." in record["cause"]
    assert host.served("2.0.0") > 0
    assert traffic.failed == {}
    assert_consistent(host, "1.0.0", "blue")


@pytest.mark.parametrize("stage", ["migrate", "start", "health", "smoke", "watch"])
def test_what_a_killed_engine_left_is_brought_to_an_end(host: Host, stage: str) -> None:
    """Status says it; the next command repairs, and does what it was asked for."""
    host.deployed("1.0.0")
    host.install("2.0.0", **SLOW)
    with Traffic(host).flowing() as traffic:
        command = host.start("deploy", "2.0.0")
        command.wait_for(stage)
        command.send(signal.SIGKILL)
        command.end()
        shown = host.run("status")
        assert shown[0] == 1
        assert shown[1]["unfinished"]["stage"] == stage
        assert any("release repair" in problem for problem in shown[1]["problems"])
        switched = stage == "watch"
        serving = ("2.0.0", "green") if switched else ("1.0.0", "blue")
        assert (shown[1]["version"], shown[1]["active"]) == serving, "the link is what serves"
        status, result = host.run("repair")
        assert (status, result["repaired"]["verdict"]) == (0, "deployed" if switched else "refused")
        assert f"killed in {stage}" in result["repaired"]["cause"]
        assert_consistent(host, *serving)
        assert host.state_of("green") == ("active" if switched else "inactive")
        assert host.run("repair")[1]["repaired"] is None
    assert traffic.failed == {}
    assert host.served("2.0.0") > 0 if switched else host.served("2.0.0") == 0
    assert [record["verdict"] for record in host.records()][1:] == [result["repaired"]["verdict"]]


def test_the_next_deployment_repairs_first(host: Host) -> None:
    host.settings["watch_seconds"] = 0
    host.deployed("1.0.0")
    host.install("2.0.0", ready_after=5)
    command = host.start("deploy", "2.0.0")
    command.wait_for("health")
    command.send(signal.SIGKILL)
    command.end()
    host.install("3.0.0")
    status, result = host.run("deploy", "3.0.0")
    assert (status, result["repaired"]["verdict"], result["record"]["verdict"]) == (0, "refused", "deployed")
    assert result["record"]["previousVersion"] == "1.0.0"
    assert_consistent(host, "3.0.0", "green")


@pytest.mark.parametrize("done", [False, True])
def test_killed_in_the_switch_itself(host: Host, done: bool) -> None:
    """The moment is too short to be met by a signal, so its two sides are made by hand."""
    host.settings["watch_seconds"] = 0
    host.deployed("1.0.0")
    host.install("2.0.0", smoke_delay=2)
    command = host.start("deploy", "2.0.0")
    command.wait_for("smoke")
    command.send(signal.SIGKILL)
    command.end()
    note = host.state / "deployments" / f"{host.name}.unfinished.json"
    note.write_text(note.read_text().replace('"stage": "smoke"', '"stage": "switch"'))
    link = host.root / "slots/active.sock"
    if done:
        beside = link.with_name("beside")
        beside.symlink_to(host.sockets / "green.sock")
        beside.replace(link)
    status, result = host.run("repair")
    assert (status, result["repaired"]["verdict"]) == (0, "deployed" if done else "refused")
    assert_consistent(host, *(("2.0.0", "green") if done else ("1.0.0", "blue")))


def test_killed_while_it_switched_back(host: Host) -> None:
    """What was decided is done: the release that had to go does not serve on."""
    host.settings["watch_seconds"] = 30
    host.deployed("1.0.0")
    host.install("2.0.0", pay_fails=True)
    with Traffic(host).flowing():
        command = host.start("deploy", "2.0.0")
        command.wait_for("switch_back")
        command.send(signal.SIGKILL)
        command.end()
    assert host.run("repair")[1]["repaired"]["verdict"] == "switched_back"
    assert host.state_of("green") != "active"
    assert_consistent(host, "1.0.0", "blue")


def test_derived_state_follows_the_link(host: Host) -> None:
    """A link that was set by hand is believed; what starts at boot and ``current`` follow it."""
    host.settings["watch_seconds"] = 0
    host.deployed("1.0.0")
    host.deployed("2.0.0")
    link = host.root / "slots/active.sock"
    link.unlink()
    link.symlink_to(host.sockets / "blue.sock")
    problems = host.status()["problems"]
    assert len(problems) == 3, problems
    assert host.run("repair")[0] == 0
    assert_consistent(host, "1.0.0", "blue")


def test_a_crashed_colour_in_service_is_renewed(host: Host) -> None:
    """What the on-call does with a service that is ill: the same release anew, in the other colour."""
    host.settings["watch_seconds"] = 0
    host.deployed("1.0.0")
    (host.root / "releases/1.0.0/unready").touch()
    status = host.status()
    assert not status["healthy"]
    assert "blue is in service and not ready" in status["problems"][0]
    (host.root / "releases/1.0.0/unready").unlink()
    assert host.run("renew")[0] == 0
    assert_consistent(host, "1.0.0", "green")
