# SPDX-License-Identifier: GPL-3.0-or-later
"""Readiness against a real database that stops, hangs, is busy, and comes back; times are measured."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import psycopg
import pytest
from backend_harness import Cli, Cluster, Service, eventually, make_cli, start_service
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from pharma_backend import metrics, reach
from pharma_backend.readiness import ATTEMPT_SHARE, FAIL_AFTER, RECHECK_SECONDS, Readiness, Verdict

SCHEMAS = Path(__file__).resolve().parents[2] / "docs/schemas"
# What the contract promises, in seconds.
GONE_WITHIN = 3.0
BACK_WITHIN = 5.0


@given(st.lists(st.booleans(), min_size=1))
def test_the_verdict_changes_after_two_results_that_contradict_it(results: list[bool]) -> None:
    verdict = Verdict()
    for number, result in enumerate(results):
        before = verdict.ok
        changed = verdict.record(result)
        if number == 0:
            assert verdict.ok == result
        else:
            assert changed == (verdict.ok != before)
            # One result alone changes nothing, two do.
            expected = result if results[number - 1] == result else before
            assert verdict.ok == expected


@given(st.floats(0, 10))
def test_two_failures_fit_into_what_is_promised(took: float) -> None:
    interval, timeout = 2.0, 1.0
    good = Verdict(ok=True, decided=True)
    check = FAIL_AFTER * good.patience(timeout) + RECHECK_SECONDS
    assert check <= timeout
    assert interval + check < GONE_WITHIN
    assert 0 <= good.pause(interval, took) <= interval
    good.record(False)
    assert good.pause(interval, took) == RECHECK_SECONDS
    bad = Verdict(ok=False, decided=True)
    assert interval + bad.patience(timeout) + RECHECK_SECONDS + timeout < BACK_WITHIN
    assert bad.patience(timeout) > timeout * ATTEMPT_SHARE


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A cluster that a test may stop."""
    with tempfile.TemporaryDirectory(prefix="pharma-") as home:
        cluster = Cluster(Path(home), port=5496)
        cluster.create()
        yield cluster
        cluster.stop()


@pytest.fixture
def running(own_cluster: Cluster, tmp_path: Path) -> Iterator[Service]:
    """The service with the times of production."""
    cli = make_cli(own_cluster, own_cluster.new_database("pharmacy"), tmp_path)
    cli.json("migrate")
    cli.environment |= {"PHARMA_POOL_TIMEOUT": "1"}
    service = start_service(cli, tmp_path, production_times=True)
    try:
        eventually(lambda: status(service) == 200)
        yield service
    finally:
        service.client.close()
        service.process.kill()
        service.process.wait()


def status(service: Service, path: str = "/health/ready") -> int:
    return service.client.get(path).status_code


def validate(schema: str, document: object) -> None:
    text = (SCHEMAS / f"{schema}.schema.json").read_text()
    jsonschema.Draft202012Validator(json.loads(text)).validate(document)


def processes(cluster: Cluster) -> list[int]:
    """The server and its children, the server first."""
    server = int((cluster.home / "pg" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    return [server, *map(int, children)]


def after_a_check(service: Service) -> None:
    """Wait for the worst moment: a check has just succeeded, the next is an interval away."""
    eventually(lambda: service.client.get("/health/ready").json()["checkedAgoMs"] < 60)


def until(service: Service, wanted: int) -> float:
    began = time.monotonic()
    eventually(lambda: status(service) == wanted)
    return time.monotonic() - began


def exposition(service: Service) -> dict[str, float]:
    text = service.client.get("/metrics").text
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def connection_errors(service: Service, code: str) -> float:
    return exposition(service)[f'pharma_db_connection_errors_total{{code="{code}"}}']


def test_a_start_without_a_database_lives_and_waits(tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="pharma-") as home,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel,
    ):
        channel.bind(str(tmp_path / "notify"))
        cluster = Cluster(Path(home), port=5495)
        cluster.create()
        cli = make_cli(cluster, cluster.new_database("pharmacy"), tmp_path)
        cli.json("migrate")
        cluster.stop()
        service = start_service(cli, tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"))
        try:
            assert (status(service, "/health/live"), status(service)) == (200, 503)
            time.sleep(0.5)
            channel.setblocking(False)
            assert b"READY=1" not in channel.recv(4096)
            with pytest.raises(BlockingIOError):
                channel.recv(4096)
            cluster.start()
            channel.settimeout(5)
            assert channel.recv(4096).startswith(b"READY=1")
            assert status(service) == 200
            assert told(service) == [("fail", "P1001"), ("ok", "")]
        finally:
            service.stop()
            cluster.stop()


def told(service: Service) -> list[tuple[str, str]]:
    """What the log says of readiness since the start: the verdicts, and the codes of the bad ones."""
    lines = [line["meta"] for line in service.lines() if line["msg"] == "readiness_changed"]
    return [(meta["db"], meta.get("code", "")) for meta in lines]


def test_a_database_that_stops(running: Service, own_cluster: Cluster) -> None:
    after_a_check(running)
    own_cluster.stop()
    gone = until(running, 503)
    assert status(running, "/health/live") == 200
    validate("health-live", running.client.get("/health/live").json())
    ready = running.client.get("/health/ready")
    validate("health-ready", ready.json())
    assert (ready.json()["status"], ready.json()["db"]) == ("fail", "fail")
    text = ready.text
    assert "FATAL" not in text
    assert str(own_cluster.home) not in text
    eventually(lambda: connection_errors(running, "P1001") > 0)
    own_cluster.start()
    back = until(running, 200)
    print(f"\nstopped: 503 after {gone:.2f} s, 200 again {back:.2f} s after the start")
    assert gone < GONE_WITHIN
    assert back < BACK_WITHIN
    assert told(running) == [("ok", ""), ("fail", "P1001"), ("ok", "")]


def test_a_database_that_hangs(running: Service, own_cluster: Cluster) -> None:
    after_a_check(running)
    stopped = processes(own_cluster)
    try:
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        gone = until(running, 503)
        assert status(running, "/health/live") == 200
        eventually(lambda: connection_errors(running, "P1002") >= 3)
        began = time.monotonic()
        body = {"username": "ana", "password": "correct horse battery"}
        reply = running.client.post("/auth/login", json=body)
        answered = time.monotonic() - began
    finally:
        for process in stopped:
            os.kill(process, signal.SIGCONT)
    back = until(running, 200)
    print(
        f"\nhung: 503 after {gone:.2f} s, a request was refused after {answered:.2f} s, "
        f"200 again {back:.2f} s after it went on"
    )
    assert gone < GONE_WITHIN
    assert back < BACK_WITHIN
    assert told(running) == [("ok", ""), ("fail", "P1002"), ("ok", "")]
    assert (reply.status_code, reply.json()["code"]) == (503, "DB_UNREACHABLE")
    assert answered < 3
    assert running.client.post("/auth/login", json=body).status_code == 401


def test_a_hanging_database_does_not_hold_up_the_stop(running: Service, own_cluster: Cluster) -> None:
    stopped = processes(own_cluster)
    try:
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        until(running, 503)
        began = time.monotonic()
        assert running.stop() == 0
        took = time.monotonic() - began
    finally:
        for process in stopped:
            os.kill(process, signal.SIGCONT)
    print(f"\nstopped in {took:.2f} s while the database hung")
    assert took < 5


def test_an_exhausted_pool_is_no_reason_to_be_unready(
    pharmacy: Cli, sql: psycopg.Connection, tmp_path: Path
) -> None:
    service = start_service(
        pharmacy, tmp_path, PHARMA_POOL_MIN_SIZE="1", PHARMA_POOL_MAX_SIZE="1", PHARMA_POOL_TIMEOUT="0.7"
    )
    try:
        headers = service.headers("ana")
        assert connection_errors(service, "pool_timeout") == 0
        with psycopg.connect(sql.info.dsn) as blocker, ThreadPoolExecutor(2) as threads:
            blocker.execute("lock table pharmacy.products in access exclusive mode")
            asked = [
                threads.submit(service.client.get, "/products?limit=1", headers=headers) for _ in range(2)
            ]
            eventually(lambda: exposition(service)["pharma_db_pool_waiting"] == 1, 2)
            assert exposition(service)['pharma_db_pool_connections{state="used"}'] == 1
            eventually(lambda: connection_errors(service, "pool_timeout") == 1, 2)
            assert status(service) == 200
            blocker.rollback()
            assert sorted(reply.result(10).status_code for reply in asked) == [200, 503]
        values = exposition(service)
        assert values["pharma_db_pool_max_connections"] == 1
        # The three requests waited: one to log in, one that got its connection, one in vain.
        waits = "pharma_db_pool_wait_seconds"
        assert values[f"{waits}_count"] - values[f'{waits}_bucket{{le="0.5"}}'] == 1
    finally:
        service.stop()


def test_a_thousand_probes_a_second_add_no_query(running: Service, own_cluster: Cluster) -> None:
    probe = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"

    async def connection(number: int) -> int:
        reader, writer = await asyncio.open_unix_connection(str(running.socket))
        good = 0
        for _ in range(number):
            writer.write(probe)
            good += (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        writer.close()
        return good

    async def probes(connections: int, each: int) -> int:
        return sum(await asyncio.gather(*(connection(each) for _ in range(connections))))

    def queries() -> int:
        return own_cluster.log().count("statement: select 1\n")

    eventually(lambda: queries() > 0)
    before, began = queries(), time.monotonic()
    assert asyncio.run(probes(8, 400)) == 3200
    took = time.monotonic() - began
    asked = queries() - before
    print(f"\n3200 probes in {took:.2f} s ({3200 / took:.0f} a second), {asked} queries")
    # Those that fell due, and one for the part of an interval at each end.
    assert asked <= took / 2 + 1


class Answers(Readiness):
    """Readiness whose database answers from a list: a result, or an error that nobody expects."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.now = 100.0
        super().__init__("", interval=0.001, timeout=1.0, clock=lambda: self.now)
        self.answers = list(answers)

    async def _ask(self, seconds: float) -> bool:
        assert 0 < seconds <= 1
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_verdict_that_is_too_old_is_not_believed() -> None:
    async def age(seconds: float) -> tuple[bool, bool]:
        readiness = Answers(True)
        await readiness.check()
        readiness.now += seconds
        return readiness.database_ok, readiness.ok

    bound = Answers().stale_after
    assert asyncio.run(age(bound - 0.01)) == (True, True)
    assert asyncio.run(age(bound + 0.01)) == (False, False)


def test_a_stop_is_not_ready_though_the_database_is_fine() -> None:
    async def stop() -> tuple[bool, bool]:
        readiness = Answers(True)
        await readiness.check()
        readiness.stopping = True
        return readiness.database_ok, readiness.ok

    assert asyncio.run(stop()) == (True, False)


def test_the_checker_survives_what_it_does_not_expect() -> None:
    async def run() -> bool:
        readiness = Answers(True, ValueError("no checker should die of this"), False, False, True, True)
        await readiness.start()
        while readiness.answers:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        await readiness.close()
        return readiness.ok

    assert asyncio.run(run())


def counted(code: str) -> float:
    return REGISTRY.get_sample_value("pharma_db_connection_errors_total", {"code": code}) or 0.0


def verdict(url: str, timeout: float = 0.3) -> tuple[bool, float]:
    """The first verdict on a database, and the seconds it took."""

    async def ask() -> tuple[bool, float]:
        readiness = Readiness(url, interval=0.2, timeout=timeout)
        began = time.monotonic()
        await readiness.check()
        took = time.monotonic() - began
        await asyncio.gather(*readiness._probes)
        await readiness.close()
        return readiness.ok, took

    return asyncio.run(ask())


def test_failed_connections_are_counted_by_their_code(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        port = silent.getsockname()[1]
        before = counted(metrics.REACHED_TIMED_OUT)
        ok, took = verdict(f"postgresql://u:secret@127.0.0.1:{port}/x")
        assert not ok
        assert took < 0.5
        assert counted(metrics.REACHED_TIMED_OUT) == before + 1
    for code, url in {
        metrics.CANNOT_REACH: f"postgresql://u:secret@127.0.0.1:{port}/x",
        metrics.REFUSED: cluster.url("nobody_knows_me"),
    }.items():
        before = counted(code)
        assert not verdict(url)[0]
        assert counted(code) == before + 1


def test_a_connection_timeout_of_the_pool_is_told_apart(tmp_path: Path) -> None:
    async def connect(url: str) -> None:
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            await reach.Connection.connect(url, connect_timeout=2)

    before = counted(metrics.REACHED_TIMED_OUT), counted(metrics.CANNOT_REACH)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / ".s.PGSQL.5432"))
        silent.listen(4)
        asyncio.run(connect(f"host={tmp_path} user=u"))
    assert counted(metrics.REACHED_TIMED_OUT) == before[0] + 1
    assert counted(metrics.CANNOT_REACH) == before[1]
    assert asyncio.run(reach.takes_connections("host=127.0.0.1 port=9", 0.2)) is False
