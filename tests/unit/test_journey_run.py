# SPDX-License-Identifier: GPL-3.0-or-later
"""A journey against a real HTTP server on a unix socket."""

from __future__ import annotations

import copy
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from pharma_ops.errors import OpsError
from pharma_ops.journey import run, spec

TOKEN = "eyJhbGciOi.very-secret-token"
PASSWORD = "correct horse"
JOURNEY: dict[str, Any] = {
    "name": "shop",
    "variables": {"quantity": 2},
    "steps": [
        {
            "name": "Log in",
            "request": {
                "method": "POST",
                "path": "/login",
                "headers": {"X-Request-Id": "{{run_id}}-login"},
                "json": {"username": "{{username}}", "password": "{{password}}"},
            },
            "expect": {
                "status": 200,
                "headers": {"X-Request-Id": "{{run_id}}-login"},
                "json": [{"path": "access", "matches": "^ey"}],
            },
            "capture": {"token": "access"},
        },
        {
            "name": "Sell",
            "request": {
                "method": "POST",
                "path": "/sales",
                "headers": {"Authorization": "Bearer {{token}}"},
                "json": {"quantity": "{{quantity}}"},
            },
            "expect": {"status": 201, "json": [{"path": "quantity", "equals": "{{quantity}}"}]},
            "capture": {"sale_id": "id"},
        },
        {
            "name": "Read",
            "request": {"method": "GET", "path": "/sales/{{sale_id}}"},
            "expect": {"status": 200, "json": [{"path": "id", "equals": "{{sale_id}}"}]},
        },
    ],
}


class Shop(BaseHTTPRequestHandler):
    """Log in, sell, read: as little as shows that values travel and types stay."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/login":
            good = body == {"username": "ana", "password": PASSWORD}
            self.reply(200, {"access": TOKEN}) if good else self.reply(
                401, {"error": f"no: {body['password']}"}
            )
        elif self.headers["Authorization"] == f"Bearer {TOKEN}":
            self.reply(201, {"id": "a/b", "quantity": body["quantity"]})
        else:
            self.reply(403, {})

    def do_GET(self) -> None:
        self.reply(200, {"id": "a/b"}) if self.path == "/sales/a%2Fb" else self.reply(
            404, {"path": self.path}
        )

    def reply(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        if request_id := self.headers["X-Request-Id"]:
            self.send_header("X-Request-Id", request_id)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""


class Server(socketserver.ThreadingUnixStreamServer):
    """An HTTP server on a unix socket."""

    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        connection, _ = super().get_request()
        return connection, ("local", 0)


@contextmanager
def shop(path: Path) -> Iterator[Path]:
    with Server(str(path), Shop) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield path
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    with shop(tmp_path / "shop.sock") as path:
        yield path


def walk(socket: Path, journey: dict[str, Any], password: str = PASSWORD) -> run.Outcome:
    given = {"username": "ana", "password": password, "run_id": "drill-1"}
    return run.run(
        spec.parse(journey), base_url="http://restored", socket=socket, given=given, connection=None
    )


def shown(outcome: run.Outcome) -> str:
    return " ".join(f"{f.expected} {f.observed}" for f in outcome.findings)


def test_a_journey_that_succeeds(socket: Path) -> None:
    outcome = walk(socket, JOURNEY)
    assert outcome.met, outcome.findings
    assert set(outcome.durations) == {"Log in", "Sell", "Read"}
    assert TOKEN not in shown(outcome)
    assert PASSWORD not in shown(outcome)


def test_the_first_failing_step_ends_the_journey_and_hides_the_password(socket: Path) -> None:
    outcome = walk(socket, JOURNEY, password="wrong-but-secret")
    assert not outcome.met
    assert [finding.met for finding in outcome.findings] == [False, None, None]
    assert "status 401" in outcome.findings[0].observed
    assert "wrong-but-secret" not in shown(outcome)


def test_a_wrong_value_is_told_with_what_was_there(socket: Path) -> None:
    journey = copy.deepcopy(JOURNEY)
    journey["steps"][1]["expect"]["json"] = [{"path": "quantity", "equals": "2"}]
    outcome = walk(socket, journey)
    wrong = next(finding for finding in outcome.findings if finding.met is False)
    assert (wrong.name, wrong.expected, wrong.observed) == ("Sell: quantity", '"2"', "2")


def test_a_token_that_is_not_as_expected_is_not_shown(socket: Path) -> None:
    journey = copy.deepcopy(JOURNEY)
    journey["steps"][0]["expect"]["json"] = [
        {"path": "@", "matches": "^x"},
        {"path": "access", "equals": "x"},
    ]
    outcome = walk(socket, journey)
    assert not outcome.met
    assert TOKEN not in shown(outcome)


def test_a_captured_value_must_be_there(socket: Path) -> None:
    journey = copy.deepcopy(JOURNEY)
    journey["steps"][1]["capture"]["sale_id"] = "sale.id"
    outcome = walk(socket, journey)
    assert any("capture sale_id" in f.name and f.met is False for f in outcome.findings)


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    outcome = walk(tmp_path / "nobody.sock", JOURNEY)
    assert outcome.findings[0].met is False
    assert "no answer" in outcome.findings[0].observed


def test_sql_needs_a_database(socket: Path) -> None:
    journey = JOURNEY | {"sql": [{"name": "x", "query": "select 1", "expect": [[1]]}]}
    with pytest.raises(OpsError, match="asks the database"):
        walk(socket, journey)
