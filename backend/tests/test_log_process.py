# SPDX-License-Identifier: GPL-3.0-or-later
"""The running service: whatever speaks in it speaks in lines, and a log that cannot be written stops nothing."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import jsonschema
import pytest
from backend_harness import Cli, Service, eventually, start_service

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "docs/schemas/log-line.schema.json").read_text()))
FAULTS = Path(__file__).resolve().parent / "log_faults.py"


@dataclass
class FaultyCli(Cli):
    """The service with routes that go wrong."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(FAULTS), *arguments]


@pytest.fixture(scope="module")
def faulty(pharmacy: Cli) -> FaultyCli:
    return FaultyCli(pharmacy.credentials, pharmacy.environment)


@pytest.fixture(scope="module")
def failing(faulty: FaultyCli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = start_service(
        faulty, tmp_path_factory.mktemp("faults"), PHARMA_HEARTBEAT_SECONDS="0.2", PYTHONWARNINGS="always"
    )
    yield service
    service.client.close()
    assert service.stop() == 0


def told(service: Service, event: str, **meta: object) -> dict[str, Any]:
    """The first line of an event with those facts; every line so far must be one, and keep its secrets."""

    def find() -> list[dict[str, Any]]:
        lines = service.lines()
        return [line for line in lines if line["msg"] == event and meta.items() <= line["meta"].items()]

    line: dict[str, Any] = eventually(find, 5)[0]
    clean(service.output.read_bytes())
    return line


def clean(output: bytes) -> list[dict[str, Any]]:
    """The lines, each valid; no secret of the faults among them."""
    assert b"hunter2" not in output
    lines = [json.loads(line, object_pairs_hook=unique) for line in output.splitlines()]
    for line in lines:
        SCHEMA.validate(line)
    return lines


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are each there once."""
    assert len({key for key, _ in pairs}) == len(pairs)
    return dict(pairs)


def test_an_exception_in_a_thread(failing: Service) -> None:
    assert failing.client.get("/boom/thread").status_code == 200
    line = told(failing, "uncaught_exception", where="thread")
    assert line["error"]["type"] == "RuntimeError"
    assert line["error"]["message"] == "cannot use postgresql://[credentials]@db1/pharma"
    assert any(frame.endswith(" fail") for frame in line["error"]["stack"])


def test_an_exception_in_a_task_that_nobody_awaits(failing: Service) -> None:
    assert failing.client.get("/boom/task").status_code == 200
    line = told(failing, "server_message", logger="asyncio")
    assert line["meta"]["text"] == "Task exception was never retrieved"
    assert line["error"]["type"] == "RuntimeError"


def test_an_exception_in_a_finalizer(failing: Service) -> None:
    assert failing.client.get("/boom/finalizer").status_code == 200
    assert told(failing, "uncaught_exception", where="finalizer")["error"]["type"] == "RuntimeError"


def test_a_warning(failing: Service) -> None:
    assert failing.client.get("/boom/warning").status_code == 200
    line = told(failing, "python_warning", category="DeprecationWarning", file="tests/log_faults.py")
    assert line["meta"]["text"] == "postgresql://[credentials]@db1/pharma is deprecated"
    assert line["level"] == "warn"


def test_an_exception_in_a_request_and_after_its_answer_began(failing: Service) -> None:
    headers = {"X-Request-Id": "boom-request-1"}
    reply = failing.client.get("/boom/request", headers=headers)
    assert (reply.status_code, reply.headers["x-request-id"]) == (500, "boom-request-1")
    with pytest.raises(httpx.RemoteProtocolError):
        failing.client.get("/boom/after", headers={"X-Request-Id": "boom-request-2"})
    for request_id in ("boom-request-1", "boom-request-2"):
        line = failing.line(request_id)
        assert (line["level"], line["error"]["type"]) == ("error", "RuntimeError")
    clean(failing.output.read_bytes())


def test_the_request_id_is_on_every_answer(failing: Service) -> None:
    for method, path, status in (
        ("GET", "/health/live", 200),
        ("GET", "/nowhere", 404),
        ("PUT", "/health/live", 405),
        ("GET", "/products", 401),
        ("POST", "/auth/login", 422),
        ("GET", "/boom/request", 500),
    ):
        reply = failing.client.request(method, path, headers={"X-Request-Id": f"status-{status}.x"})
        assert (reply.status_code, reply.headers["x-request-id"]) == (status, f"status-{status}.x")
        made = failing.client.request(method, path, headers={"X-Request-Id": "no good id"})
        assert re.fullmatch("[0-9a-f]{32}", made.headers["x-request-id"])


def test_bytes_that_are_no_request(failing: Service) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(failing.socket))
        connection.sendall(b"hunter2 \xff\r\n\r\n")
        answer = b""
        while part := connection.recv(4096):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    request_id = json.loads(body)["requestId"]
    assert f"x-request-id: {request_id}".encode() in head
    assert failing.line(request_id, "request_refused")["meta"] == {"status": 400}
    told(failing, "server_message", logger="uvicorn.error")


def test_a_heartbeat_at_each_interval(failing: Service) -> None:
    def beats() -> list[dict[str, Any]]:
        found = [line for line in failing.lines() if line["msg"] == "heartbeat"]
        return found if len(found) >= 4 else []

    line = eventually(beats, 5)[-1]
    assert line["meta"].keys() == {"uptimeSec", "ready", "release", "linesWritten", "linesLost"}
    assert line["meta"]["ready"] is True
    assert line["meta"]["linesLost"] == 0
    assert line["meta"]["linesWritten"] > 0


def test_metrics_count_the_lines(failing: Service) -> None:
    before = _metric(failing.client, 'pharma_log_lines_total{level="warn"}')
    failing.client.get("/nowhere")
    assert _metric(failing.client, 'pharma_log_lines_total{level="warn"}') == before + 1
    assert _metric(failing.client, "pharma_log_write_errors_total") == 0


def _metric(client: httpx.Client, name: str) -> float:
    text = client.get("/metrics").text
    return float(next(line for line in text.splitlines() if line.startswith(name + " ")).rpartition(" ")[2])


def test_the_servers_own_access_log_has_no_path(faulty: FaultyCli, tmp_path: Path) -> None:
    service = start_service(faulty, tmp_path, LOG_FAULT="access")
    try:
        service.client.get("/customers/hunter2?token=hunter2")
        line = told(service, "server_access", status=404)
        assert line["meta"] == {"method": "GET", "status": 404}
    finally:
        assert service.stop() == 0


@pytest.mark.parametrize(("fault", "code"), [("startup", 1), ("lifespan", 3)])
def test_an_exception_at_start(faulty: FaultyCli, tmp_path: Path, fault: str, code: int) -> None:
    done = faulty.run("serve", "--uds", str(tmp_path / "api.sock"), check=code, LOG_FAULT=fault)
    lines = clean((done.stdout + done.stderr).encode())
    failures = [line for line in lines if line["level"] in ("error", "fatal")]
    assert failures
    if fault == "startup":
        assert failures[-1]["msg"] == "uncaught_exception"
        assert failures[-1]["error"]["message"] == "cannot use postgresql://[credentials]@db1/pharma"


def test_a_setting_that_cannot_be_used_is_a_line(faulty: FaultyCli, tmp_path: Path) -> None:
    done = faulty.run("serve", "--uds", str(tmp_path / "x"), check=2, PHARMA_POOL_MIN_SIZE="hunter2")
    (line,) = clean((done.stdout + done.stderr).encode())
    assert (line["level"], line["msg"], line["error"]["code"]) == (
        "fatal",
        "startup_failed",
        "SETTING_INVALID",
    )


@contextmanager
def writing_to(
    cli: Cli, home: Path, stdout: IO[bytes] | int
) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """The service with that standard output, serving."""
    path = home / "api.sock"
    process = subprocess.Popen(
        cli.command("serve", "--uds", str(path)), stdout=stdout, stderr=subprocess.PIPE, env=cli.env()
    )
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://pharma", timeout=5) as client:
        try:
            eventually(lambda: client.get("/health/ready").status_code == 200)
            yield client, process
        finally:
            process.terminate()
            assert process.wait(15) == 0
            assert process.stderr is not None
            assert process.stderr.read() == b""


def test_a_full_disk_stops_nothing_and_is_counted(pharmacy: Cli, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full, writing_to(pharmacy, tmp_path, full) as (client, _):
        before = _metric(client, "pharma_log_write_errors_total")
        assert before > 0
        assert all(client.get("/products").status_code == 401 for _ in range(50))
        assert _metric(client, "pharma_log_write_errors_total") >= before + 50


def test_a_closed_pipe_stops_nothing_and_is_counted(pharmacy: Cli, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with writing_to(pharmacy, tmp_path, writer) as (client, _):
        os.close(writer)
        os.close(reader)
        assert all(client.get("/products").status_code == 401 for _ in range(50))
        assert _metric(client, "pharma_log_write_errors_total") >= 50


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_that_hangs_stops_nothing_and_gets_its_lines_when_it_is_back(
    pharmacy: Cli, tmp_path: Path, kind: str
) -> None:
    ends = [end.detach() for end in socket.socketpair()] if kind == "socket" else list(os.pipe())
    reader, writer = ends
    with writing_to(pharmacy, tmp_path, writer) as (client, process):
        os.close(writer)
        began = time.monotonic()
        for number in range(1000):  # 400 KB, of which the pipe or the socket's buffer takes a part
            assert client.get("/products", headers={"X-Request-Id": f"hang-{number:04}"}).status_code == 401
        assert time.monotonic() - began < 30
        assert _metric(client, "pharma_log_write_errors_total") == 0
        os.set_blocking(reader, False)
        received = b""

        def last() -> bool:
            nonlocal received
            with suppress(BlockingIOError):
                received += os.read(reader, 1 << 20)
            return b"hang-0999" in received and received.endswith(b"\n")

        eventually(last, 10)
        assert process.poll() is None
        os.set_blocking(reader, True)
    os.close(reader)
    told = [line["requestId"] for line in clean(received)]
    assert [each for each in told if each.startswith("hang-")] == [f"hang-{n:04}" for n in range(1000)]
