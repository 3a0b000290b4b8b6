# SPDX-License-Identifier: GPL-3.0-or-later
"""A service in two colours on this machine's systemd, and a proxy that writes the access log."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UNITS = Path("/etc/systemd/system")
# What a release does stands in behaviour.json beside it; what it was asked stands in served.log.
PROGRAM = """\
import json, os, signal, socket, socketserver, sys, threading, time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
home = Path(sys.argv[1]).resolve()
does = json.loads((home / "behaviour.json").read_text())
version = json.loads((home / "release.json").read_text())["version"]
secret = Path(sys.argv[2]).read_text() if len(sys.argv) > 2 else ""
if does.get("start_exit"):
    print("no configuration", file=sys.stderr)
    sys.exit(3)
time.sleep(does.get("start_delay", 0))
began = time.monotonic()
served = (home / "served.log").open("a", buffering=1)
count, lock = 0, threading.Lock()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        global count
        if self.path == "/health/ready":
            ready = does.get("ready", True) and time.monotonic() - began >= does.get("ready_after", 0)
            if (home / "unready").exists():
                ready = False
            return self.reply(200 if ready else 503, {"release": does.get("says", version) + "+ab12"})
        if self.path == "/smoke":
            time.sleep(does.get("smoke_delay", 0))
            return self.reply(500 if does.get("smoke_fails") else 200, {"ok": True})
        with lock:
            count += 1
            served.write(self.path + "\\n")
            if count == does.get("crash_after"):
                os._exit(7)
        time.sleep(does.get("slow", 0))
        self.reply(500 if does.get("pay_fails") else 200, {"version": version, "secret": secret})
    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_):
        pass
class Server(socketserver.ThreadingMixIn, socketserver.BaseServer):
    address_family = socket.AF_UNIX
    def __init__(self):
        super().__init__("colour", Handler)
        self.socket = socket.socket(fileno=3)
    def fileno(self):
        return self.socket.fileno()
    def get_request(self):
        return self.socket.accept()[0], ("local", 0)
    def shutdown_request(self, request):
        request.close()
    close_request = shutdown_request
server = Server()
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
if not does.get("never_up"):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
server.serve_forever(poll_interval=0.02)
server.server_close()
"""
SERVICE = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
Sockets={name}@%i.socket
ExecStart={python} {root}/slots/%i/service.py {root}/slots/%i {root}/secret
TimeoutStartSec=60
TimeoutStopSec=10
Restart=on-failure
RestartSec=1
[Install]
WantedBy=multi-user.target
"""
SOCKET = """\
[Socket]
ListenStream={sockets}/%i.sock
SocketMode=0660
Backlog=4096
RemoveOnStop=yes
TriggerLimitIntervalSec=0
"""
MIGRATE = """\
[Service]
Type=oneshot
ExecStart={python} {root}/releases/%i/migrate.py
"""
RECORD = """\
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'test ! -e {root}/no-record && echo %i >> {root}/recorded'
"""
MIGRATION = """\
import json, sys, time
from pathlib import Path
home = Path(__file__).parent
does = json.loads((home / "behaviour.json").read_text())
time.sleep(does.get("migrate_delay", 0))
(home / "migrated").touch()
if does.get("migration_fails"):
    sys.exit("column is in use")
"""
JOURNEY = """\
name: smoke
steps:
  - name: Ask
    request: {method: GET, path: /smoke}
    expect: {status: 200}
"""


class Host:
    """One service; ``settings`` of its configuration can be changed before a command."""

    def __init__(self, name: str, engine_path: Path) -> None:
        self.name = name
        self.root = Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/var/tmp"))
        self.root.chmod(0o755)
        self.engine_path = engine_path
        self.sockets = Path(f"/run/{name}")
        self.log = self.root / "access.log"
        self.config = self.root / "ops" / "config.toml"
        self.state = self.root / "state"
        for directory in ("releases", "slots", "ops"):
            (self.root / directory).mkdir()
        self.log.touch()
        (self.root / "secret").write_text("first")
        (self.root / "smoke.yaml").write_text(JOURNEY)
        values = {"name": name, "python": "/usr/bin/python3", "root": self.root, "sockets": self.sockets}
        for suffix, text in (
            ("@.service", SERVICE),
            ("@.socket", SOCKET),
            ("-migrate@.service", MIGRATE),
            ("-record@.service", RECORD),
        ):
            (UNITS / f"{name}{suffix}").write_text(text.format_map(values))
        self.settings: dict[str, Any] = {
            "root": str(self.root),
            "socket_dir": str(self.sockets),
            "unit": f"{name}@{{colour}}.service",
            "socket_unit": f"{name}@{{colour}}.socket",
            "migrate_unit": f"{name}-migrate@{{version}}.service",
            "record_unit": f"{name}-record@{{version}}.service",
            "health_timeout_seconds": 15,
            "smoke_journey_file": str(self.root / "smoke.yaml"),
            "access_log": str(self.log),
            "watch_seconds": 2,
            "watch_minimum_requests": 50,
        }
        systemctl("daemon-reload")

    def install(self, version: str, **behaviour: Any) -> Path:
        """Install a release, as the role does: what says that it is whole comes last."""
        directory = self.root / "releases" / version
        directory.mkdir()
        (directory / "service.py").write_text(PROGRAM)
        (directory / "migrate.py").write_text(MIGRATION)
        (directory / "behaviour.json").write_text(json.dumps(behaviour))
        digest = hashlib.sha256(version.encode()).hexdigest()
        identity = {"name": self.name, "version": version, "digest": digest}
        (directory / "release.json").write_text(json.dumps(identity))
        return directory

    def start(self, *words: str) -> Command:
        """Start ``pharma-ops release …``."""
        lines = [
            'environment = "lab"',
            f'state_dir = "{self.state}"',
            f'lock_dir = "{self.root}/lock"',
            f"[releases.{self.name}]",
            *(f"{key} = {json.dumps(value)}" for key, value in self.settings.items()),
        ]
        self.config.write_text("\n".join(lines) + "\n")
        return Command(self, words)

    def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Run it to its end; exit status and result."""
        return self.start(*words).end()

    def deployed(self, version: str, **behaviour: Any) -> None:
        """Install a release and put it into service."""
        self.install(version, **behaviour)
        status, result = self.run("deploy", version)
        assert status == 0, result

    def records(self) -> list[dict[str, Any]]:
        path = self.state / "deployments" / f"{self.name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def recorded(self) -> list[str]:
        """The versions that were recorded as serving, in order."""
        path = self.root / "recorded"
        return path.read_text().split() if path.exists() else []

    def status(self) -> dict[str, Any]:
        return self.run("status")[1]

    def link(self) -> str:
        """The colour that the link leads to."""
        return (self.root / "slots" / "active.sock").readlink().stem

    def served(self, version: str) -> int:
        """Requests other than the engine's own that a release has got."""
        path = self.root / "releases" / version / "served.log"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def state_of(self, colour: str) -> str:
        return systemctl("is-active", f"{self.name}@{colour}.service")

    def boots(self) -> list[str]:
        """The colours that start at boot."""
        return [
            colour
            for colour in ("blue", "green")
            if systemctl("is-enabled", f"{self.name}@{colour}.service") == "enabled"
        ]

    def remove(self) -> None:
        for colour in ("blue", "green"):
            systemctl("disable", f"{self.name}@{colour}.service")
            systemctl("stop", f"{self.name}@{colour}.socket", f"{self.name}@{colour}.service")
            systemctl("reset-failed", f"{self.name}@{colour}.service")
        for path in UNITS.glob(f"{self.name}[@-]*"):
            path.unlink()
        systemctl("daemon-reload")
        shutil.rmtree(self.root)


class Command:
    """A running ``pharma-ops release …``."""

    def __init__(self, host: Host, words: tuple[str, ...]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pharma_ops.cli", "release", *words, "--json", "--config", host.config],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(host.engine_path)},
        )

    def wait_for(self, stage: str) -> None:
        """Read its log until a stage begins."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = json.loads(line) if line.startswith("{") else {}
            if found.get("msg") == "step_started" and found["meta"]["step"] == stage:
                return
        raise AssertionError(f"it ended before {stage}: {self.process.communicate()}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, dict[str, Any]]:
        out, err = self.process.communicate(timeout=60)
        result = json.loads(out) if out else {}
        return self.process.returncode, result | {"stderr": err[-3000:]}


class Traffic:
    """Clients behind a proxy: each request connects to the link anew and stands in the access log."""

    # Seconds between two requests of a client: what is done to the service meanwhile needs the processor too.
    PAUSE = 0.01

    def __init__(self, host: Host, clients: int = 4) -> None:
        self.host = host
        self.clients = clients
        self.statuses: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()

    @property
    def total(self) -> int:
        return sum(self.statuses.values())

    @property
    def failed(self) -> dict[str, int]:
        return {status: count for status, count in self.statuses.items() if status != "200"}

    def wait_for(self, total: int) -> None:
        deadline = time.monotonic() + 30
        while self.total < total:
            assert time.monotonic() < deadline, self.statuses
            time.sleep(0.02)

    def _client(self) -> None:
        while not self._stop.wait(self.PAUSE):
            began = time.time()
            try:
                status = ask(self.host.root / "slots" / "active.sock")
            except OSError as error:
                status = type(error).__name__
            ended = time.time()
            line = {
                "ts": round(ended, 3),
                "status": int(status) if status.isdigit() else 502,
                "requestTime": round(ended - began, 3),
                "upstreamTime": round(ended - began, 3),
                "requestId": "test-0001",
                "method": "GET",
            }
            with self._lock:
                self.statuses[status] = self.statuses.get(status, 0) + 1
                with self.host.log.open("a") as stream:
                    stream.write(json.dumps(line) + "\n")

    @contextmanager
    def flowing(self) -> Iterator[Traffic]:
        threads = [threading.Thread(target=self._client) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()


def ask(path: Path, target: str = "/pay") -> str:
    """The status of one request; an OSError when there is no answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(15)
        connection.connect(str(path))
        connection.sendall(f"GET {target} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    if not answer.startswith(b"HTTP/"):
        raise ConnectionError("no answer")
    return answer.split(b" ", 2)[1].decode()


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False).stdout.strip()
