# SPDX-License-Identifier: GPL-3.0-or-later
"""A service in another language, deployed by variables alone: released and rolled back without a failed request."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import jsonschema
import pytest
from cashiers import Exchange, Tally, User, fault
from kept_alive import BrokenExchangeError, Connection, Endpoint
from load import Report, Traffic, Worker
from playbooks import Playbooks

REQUESTS = 10_000
CALLERS = 12
# Seconds between two calls of a caller: the playbooks that run meanwhile need the processor too.
PAUSE = 0.05
NOBODY = User("", "", "", "")
PORT = 8443
DEPLOY = "examples/node-service/deploy.yml"


class Caller:
    """Greets over a kept-alive connection until the stop, and keeps the release of every answer."""

    def __init__(self, endpoint: Endpoint, tally: Tally, stop: asyncio.Event, answered: list[str]) -> None:
        self.began = asyncio.Event()
        self._connection = Connection(endpoint)
        self._tally = tally
        self._stop = stop
        self._answered = answered

    async def work(self) -> None:
        """Call again and again."""
        number = 0
        while not self._stop.is_set():
            body = b"x" * (100_000 if number % 10 == 0 else 10)
            await (self._call("GET", "/hello") if number % 2 else self._call("POST", "/length", body))
            self.began.set()
            number += 1
            await asyncio.sleep(PAUSE)
        self._tally.announced_closes += self._connection.announced
        self._connection.close()

    async def _call(self, method: str, path: str, body: bytes = b"") -> None:
        request_id = uuid.uuid4().hex
        began, clock, status = time.time(), time.perf_counter(), None
        try:
            answer = await self._connection.exchange(method, path, {"X-Request-Id": request_id}, body)
            status, cause = answer.status, fault(answer, request_id, 200)
            if not cause:
                document = json.loads(answer.body)
                self._answered.append(document["release"].partition("+")[0])
                if method == "POST" and document["bytes"] != len(body):
                    cause = f"{document['bytes']} of {len(body)} bytes arrived"
        except BrokenExchangeError as error:
            cause = str(error)
        seconds = time.perf_counter() - clock
        self._tally.exchanges.append(
            Exchange(request_id, NOBODY, f"{method} {path}", began, seconds, status, len(body), cause)
        )


@dataclasses.dataclass
class Calls:
    """Traffic of callers, and by which release each was answered, in the order of the answers."""

    endpoint: Endpoint
    answered: list[str] = dataclasses.field(default_factory=list)

    def staff(self, tally: Tally, stop: asyncio.Event) -> Sequence[Worker]:
        """The callers."""
        return [Caller(self.endpoint, tally, stop, self.answered) for _ in range(CALLERS)]


@pytest.fixture(scope="module")
def hello(endpoint: Endpoint) -> Endpoint:
    """The service's own port on the proxy."""
    return dataclasses.replace(endpoint, port=PORT)


@pytest.fixture(scope="module")
def play(root: Path) -> Callable[..., float]:
    """Runs a playbook on app1, which must succeed; its seconds."""
    playbooks = Playbooks(root, "--limit", "app1")
    return lambda *words: playbooks.run(*words).succeeded().seconds


@pytest.fixture(scope="module")
def deploy(root: Path, play: Callable[..., float]) -> Callable[[str], float]:
    """Builds a version and deploys it; the playbook's seconds."""

    def run(version: str) -> float:
        script = root / "examples/node-service/build-release.sh"
        subprocess.run([script, version, root / "build/hello"], check=True, capture_output=True)
        return play(DEPLOY, "-e", f"hello_version={version}")

    return run


@pytest.fixture(scope="module")
def deployed(deploy: Callable[[str], float]) -> float:
    """The first version is in service."""
    return deploy("1.0.0")


def versions(answered: Sequence[str]) -> list[str]:
    """Which versions answered, each change of them once."""
    return [
        version for number, version in enumerate(answered) if number == 0 or answered[number - 1] != version
    ]


def untouched(report: Report, what: str) -> None:
    print(f"{what}: {report.summary()}")
    assert report.requests >= REQUESTS
    assert report.failed == 0, report.summary()


def test_a_release_a_restart_and_a_roll_back_fail_nobody(
    deployed: float,
    deploy: Callable[[str], float],
    play: Callable[..., float],
    hello: Endpoint,
    on_host: Callable[..., str],
) -> None:
    """One load over all three; nobody gets an answer of the old release after one of the new."""
    calls = Calls(hello)
    with Traffic(calls.staff) as load:
        load.wait(1_000)
        on_host("app1", "systemctl restart 'hello@*.service'")
        load.wait(1_000)
        released = deploy("1.1.0")
        load.wait(1_000)
        forth = len(calls.answered)
        back = play("playbooks/rollback.yml", "-e", "backend_service=hello")
        load.wait(500)
        after = len(calls.answered)
        report = load.finish(REQUESTS)
    untouched(report, f"node: first {deployed:.1f} s, release {released:.1f} s, roll back {back:.1f} s")
    assert set(calls.answered[:forth]) == {"1.0.0", "1.1.0"}
    assert set(calls.answered[after:]) == {"1.0.0"}
    # In the moment of a switch answers of both are on their way, so there is some coming and going; not for long.
    assert len(versions(calls.answered)) <= 2 + 2 * CALLERS


def test_its_lines_keep_the_contract(deployed: float, on_host: Callable[..., str], root: Path) -> None:
    """Every line that the service wrote is one of the format of all services."""
    schema = json.loads((root / "docs/schemas/log-line.schema.json").read_text())
    journal = "journalctl --output=cat --no-pager --identifier=hello"
    output = on_host("app1", f"{journal} --lines=200; {journal} --grep=service_ --lines=10")
    lines = [json.loads(line) for line in output.splitlines()]
    assert {line["msg"] for line in lines} >= {"request_completed", "service_ready", "service_stopped"}
    for line in lines:
        assert line["service"] == "hello"
        # The schema knows the services of this checkout by name; the rest of it holds for any.
        jsonschema.validate(line | {"service": "pharma-ops"}, schema)


def test_the_pharmacy_beside_it_is_untouched(deployed: float, endpoint: Endpoint) -> None:
    """The second site has not taken the first one's requests."""
    answer = asyncio.run(Connection(endpoint).exchange("GET", "/health/ready", {}))
    assert answer.status == 200
    assert "db" in json.loads(answer.body)
