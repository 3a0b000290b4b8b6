# SPDX-License-Identifier: GPL-3.0-or-later
"""A listening socket that outlives the process behind it: restarts lose no request."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from backend_harness import Cli, eventually

# The service with a route more, on which the event loop does not come back for the seconds asked for.
STUCK = """
import sys, time
from pharma_backend import app, cli
create = app.create
def with_stuck_route(shared):
    inner = create(shared)
    async def asgi(scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/stuck":
            time.sleep(2)
        await inner(scope, receive, send)
    return asgi
app.create = with_stuck_route
sys.exit(cli.main(sys.argv[1:]))
"""
# The service, stopped in the moment between its first line and uvicorn's own handlers of signals.
EARLY = """
import os, signal, sys, uvicorn
from pharma_backend import cli
run = uvicorn.Server.run
def stopped_before(server, sockets=None):
    os.kill(os.getpid(), signal.SIGTERM)
    return run(server, sockets)
uvicorn.Server.run = stopped_before
sys.exit(cli.main(sys.argv[1:]))
"""
HEAD = b"GET %s HTTP/1.1\r\nHost: pharma\r\nConnection: close\r\n\r\n"


@dataclass
class Socket:
    """What a socket unit of systemd does: holds the listening socket and hands it to processes."""

    path: Path
    listener: socket.socket
    cli: Cli
    output: Path

    def start(self, script: str = "", **extra: str) -> subprocess.Popen[bytes]:
        """Start the service, or a script in its place that takes its arguments."""
        arguments = ["serve", "--fd", str(self.listener.fileno())]
        command = [sys.executable, "-c", script, *arguments] if script else self.cli.command(*arguments)
        with self.output.open("ab") as stream:
            return subprocess.Popen(
                command,
                pass_fds=[self.listener.fileno()],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=self.cli.env(**extra),
            )

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(15)
        connection.connect(str(self.path))
        return connection

    def ask(self, path: str = "/health/live") -> str:
        """One request on a connection of its own; its status, or how it was lost."""
        with self.connect() as connection:
            return finish(connection, HEAD % path.encode())

    def events(self) -> list[str]:
        return [json.loads(line)["msg"] for line in self.output.read_bytes().splitlines()]


def finish(connection: socket.socket, data: bytes) -> str:
    """Send the rest of a request; the status of its answer, or how it was lost."""
    try:
        connection.sendall(data)
        answer = connection.makefile("rb").read()
    except OSError as error:
        return type(error).__name__
    return answer.split(b" ", 2)[1].decode() if answer.endswith(b"}") else f"lost: {answer!r}"


@pytest.fixture
def held(pharmacy: Cli, tmp_path: Path) -> Iterator[Socket]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "blue.sock"))
    listener.listen(4096)
    with listener:
        yield Socket(tmp_path / "blue.sock", listener, pharmacy, tmp_path / "out.log")


@contextlib.contextmanager
def running(held: Socket, **extra: str) -> Iterator[subprocess.Popen[bytes]]:
    process = held.start(**extra)
    try:
        assert held.ask() == "200"
        yield process
    finally:
        process.kill()
        process.wait()


def test_restarts_over_one_socket_lose_no_request(held: Socket) -> None:
    seen: Counter[str] = Counter()
    slowest = [0.0]
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            began = time.monotonic()
            seen[held.ask()] += 1
            slowest[0] = max(slowest[0], time.monotonic() - began)

    process = held.start()
    clients = [threading.Thread(target=hammer) for _ in range(8)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            served = seen["200"]
            eventually(lambda served=served: seen["200"] > served + 300, 20)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            process = held.start()
        served = seen["200"]
        eventually(lambda: seen["200"] > served + 300, 20)
    finally:
        stop.set()
        for client in clients:
            client.join()
        process.kill()
        process.wait()
    print(f"\n{seen['200']} requests through 3 restarts, the slowest took {slowest[0]:.2f} s: {dict(seen)}")
    assert set(seen) == {"200"}


def test_a_stop_leaves_the_queue_to_the_successor(held: Socket) -> None:
    with running(held) as process, held.connect() as early:
        time.sleep(0.1)  # accepted, and nothing sent yet
        process.send_signal(signal.SIGTERM)
        eventually(lambda: "service_stopping" in held.events())
        with held.connect() as late:
            late.sendall(HEAD % b"/health/ready")
            time.sleep(0.3)  # past the grace; the connection accepted before is still answered
            assert finish(early, HEAD % b"/health/ready") == "503"
            assert process.wait(10) == 0
            successor = held.start()
            try:
                assert finish(late, b"") == "200"
            finally:
                successor.kill()
                successor.wait()
    assert held.path.exists(), "the socket belongs to whoever made it"


def test_half_a_head_is_waited_for_and_a_silent_client_not_forever(held: Socket) -> None:
    head = HEAD % b"/health/live"
    with running(held) as process, held.connect() as slow, held.connect() as silent:
        slow.sendall(head[:30])
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert finish(slow, head[30:]) == "200"
        # The silent one would be waited for until the stop's own time is over, 20 s.
        assert process.wait(10) == 0
        assert silent.recv(1) == b""


def test_an_idle_kept_alive_connection_does_not_delay_the_stop(held: Socket) -> None:
    with running(held) as process, held.connect() as kept:
        kept.sendall(b"GET /health/live HTTP/1.1\r\nHost: pharma\r\n\r\n")
        received = b""
        while not received.endswith(b"}"):
            received += kept.recv(4096)
        process.send_signal(signal.SIGTERM)
        # Neither for the end of its own time, 75 s, nor for that of the stop, 20 s.
        assert process.wait(10) == 0
        assert kept.recv(1) == b""


def test_a_drain_that_is_asked_for_goes_on_accepting(held: Socket) -> None:
    with running(held, PHARMA_DRAIN_SECONDS="0.5") as process:
        process.send_signal(signal.SIGTERM)
        eventually(lambda: "service_stopping" in held.events())
        assert held.ask("/health/ready") == "503"
        assert process.wait(10) == 0


def test_a_stop_that_comes_before_the_server_runs_is_not_missed(held: Socket) -> None:
    process = held.start(script=EARLY)
    try:
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    assert held.events()[-1] == "service_stopped"


def test_the_descriptor_must_be_a_listening_socket(held: Socket) -> None:
    with Path(os.devnull).open() as nothing, held.connect() as connected:
        for descriptor in (nothing.fileno(), connected.fileno(), 987):
            done = subprocess.run(
                held.cli.command("serve", "--fd", str(descriptor)),
                pass_fds=[nothing.fileno(), connected.fileno()],
                capture_output=True,
                env=held.cli.env(),
                check=False,
            )
            assert done.returncode == 2
            line = json.loads(done.stdout.splitlines()[-1])
            assert (line["msg"], line["error"]["code"]) == ("startup_failed", "SOCKET_INVALID")
            assert f"Descriptor {descriptor} " in line["error"]["message"]


def test_the_watchdog_is_fed_by_the_loop_alone(held: Socket, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(10)
        process = held.start(STUCK, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="900000")
        try:
            heard: list[str] = []
            while heard[-2:] != ["WATCHDOG=1", "WATCHDOG=1"]:
                heard.append(channel.recv(4096).decode())
            # Two thirds of what systemd gave; the rest is for the kill and the new start.
            assert "WATCHDOG_USEC=600000" in heard
            assert any(message.startswith("READY=1") for message in heard)
            began = time.monotonic()
            assert held.ask("/stuck") == "404"
            fed = 0
            with contextlib.suppress(BlockingIOError):
                channel.setblocking(False)
                while channel.recv(4096) == b"WATCHDOG=1":
                    fed += 1
            # Every 0.2 s before and after, and nothing at all in the two seconds between.
            assert fed <= (time.monotonic() - began - 2) / 0.2 + 2
        finally:
            process.kill()
            process.wait()
