# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients meet before the service: TLS, headers, limits, errors in one form, and a log that names nobody."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from kept_alive import Endpoint
from testinfra.host import Host  # type: ignore[import-untyped]

ACCESS_LOG = "/var/log/nginx/pharma-backend.log"
SERVED = ["/etc/nginx/tls/pharma-backend.crt", "/etc/nginx/sites-enabled/pharma-backend.conf"]
# Asks the socket of the colour in service, as only the host can.
ASK_SOCKET = """
import http.client, socket, sys
client = http.client.HTTPConnection("localhost")
client.sock = socket.socket(socket.AF_UNIX)
client.sock.connect("/opt/pharma/slots/active.sock")
client.request("GET", sys.argv[1])
print(client.getresponse().status)
"""


@pytest.fixture(scope="module")
def app(lab_host: Callable[[str], Host]) -> Host:
    """The host that runs the proxy."""
    return lab_host("app1")


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[httpx.Client]:
    """Somebody on the network who trusts the company's authority."""
    context = ssl.create_default_context(cafile=str(endpoint.ca))
    with httpx.Client(base_url=f"https://{endpoint.host}", verify=context, timeout=10) as made:
        yield made


@pytest.fixture(scope="module")
def problem_of(root: Path) -> Callable[[httpx.Response], dict[str, Any]]:
    """Reads a problem and holds it to its schema."""
    schema = json.loads((root / "docs/schemas/problem.schema.json").read_text())

    def read(answer: httpx.Response) -> dict[str, Any]:
        assert answer.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = answer.json()
        jsonschema.validate(problem, schema)
        assert problem["status"] == answer.status_code
        assert problem["requestId"] == answer.headers["x-request-id"]
        return problem

    return read


def handshake(endpoint: Endpoint, version: ssl.TLSVersion) -> str | None:
    """Connect with this version of TLS alone, which the client itself is made to allow."""
    context = ssl.create_default_context(cafile=str(endpoint.ca))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection((endpoint.host, endpoint.port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname=endpoint.name) as tls,
    ):
        return tls.version()


def raw_answer(endpoint: Endpoint, request: bytes) -> bytes:
    """What comes back for bytes that no client library would send."""
    context = ssl.create_default_context(cafile=str(endpoint.ca))
    with (
        socket.create_connection((endpoint.host, endpoint.port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=endpoint.name) as tls,
    ):
        tls.sendall(request)
        received = b""
        while part := tls.recv(65536):
            received += part
        return received


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_versions_of_tls_are_spoken(endpoint: Endpoint, version: ssl.TLSVersion) -> None:
    assert handshake(endpoint, version) == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_of_tls_are_refused_by_the_server(endpoint: Endpoint, version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version"):
        handshake(endpoint, version)


def test_clear_text_is_sent_to_https(endpoint: Endpoint) -> None:
    answer = httpx.get(f"http://{endpoint.host}/products?limit=1", follow_redirects=False)
    assert answer.status_code == 308
    assert answer.headers["location"] == f"https://{endpoint.host}/products?limit=1"


@pytest.mark.parametrize("path", ["/health/live", "/metrics"])
def test_every_answer_has_its_security_headers_once(client: httpx.Client, path: str) -> None:
    """Those of the service and those of the proxy itself."""
    headers = client.get(path).headers
    assert headers.get_list("strict-transport-security") == ["max-age=31536000"]
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    assert headers.get_list("x-frame-options") == ["DENY"]
    assert headers.get_list("referrer-policy") == ["no-referrer"]
    assert headers.get_list("content-security-policy") == ["default-src 'none'; frame-ancestors 'none'"]
    assert headers.get_list("server") == ["nginx"]
    assert len(headers.get_list("x-request-id")) == 1


@pytest.mark.parametrize(
    "path", ["/metrics", "/%6detrics", "//metrics", "/x/../metrics", "/metrics/", "/metrics?a=b"]
)
def test_metrics_are_not_routed(endpoint: Endpoint, path: str) -> None:
    answer = raw_answer(endpoint, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b'"code":"NOT_FOUND"' in answer


def test_the_host_itself_reads_metrics(on_host: Callable[..., str]) -> None:
    """So that the test above is about the proxy, and not about a service that has no metrics."""
    assert on_host("app1", "python3 - /metrics", ASK_SOCKET).strip() == "200"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"FOO BAR\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
    ],
)
def test_what_cannot_be_read_is_the_clients_fault(endpoint: Endpoint, request_bytes: bytes) -> None:
    """400 as a problem, and never a 5xx: those are counted against a release."""
    answer = raw_answer(endpoint, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert b"application/problem+json" in answer
    assert b'"code":"REQUEST_INVALID"' in answer


def test_a_body_that_is_too_large_is_a_problem(
    client: httpx.Client, problem_of: Callable[[httpx.Response], dict[str, Any]]
) -> None:
    answer = client.post("/sales", content=b"0" * (2 << 20))
    assert problem_of(answer)["code"] == "PAYLOAD_TOO_LARGE"


def test_the_access_log_names_the_request_and_nobody(client: httpx.Client, app: Host) -> None:
    """One JSON line with the caller's own request id; neither path, query, header nor body."""
    identity = f"proxy-test-{uuid.uuid4().hex}"
    canary = uuid.uuid4().hex
    answer = client.get(
        f"/sales/{canary}",
        params={"cpf": canary},
        headers={"X-Request-Id": identity, "Authorization": f"Bearer {canary}", "User-Agent": canary},
    )
    assert answer.headers["x-request-id"] == identity
    line = json.loads(app.check_output(f"grep -F '{identity}' {ACCESS_LOG}"))
    assert line.keys() == {
        "ts",
        "status",
        "requestTime",
        "upstreamTime",
        "requestId",
        "method",
        "bytes",
        "tls",
    }
    assert (line["status"], line["method"], line["requestId"]) == (answer.status_code, "GET", identity)
    assert isinstance(line["ts"], float)
    assert 0 <= line["upstreamTime"] <= line["requestTime"] + 0.1
    assert app.run(f"grep -rlF {canary} /var/log/nginx").rc == 1


@pytest.mark.parametrize("identity", ["short", "no spaces allowed", 'quote"quote"', "x" * 129])
def test_a_request_id_that_is_not_one_does_not_reach_the_log(
    client: httpx.Client, app: Host, identity: str
) -> None:
    answer = client.get("/metrics", headers={"X-Request-Id": identity})
    assert answer.json()["requestId"] != identity
    assert len(answer.json()["requestId"]) == 32
    assert app.run("grep -F %s %s", identity, ACCESS_LOG).rc == 1


def test_with_both_colours_down_clients_get_a_problem(
    client: httpx.Client, app: Host, problem_of: Callable[[httpx.Response], dict[str, Any]]
) -> None:
    """503 with a time to try again, and service as soon as the colour is back."""
    colour = app.check_output("basename $(readlink /opt/pharma/slots/active.sock) .sock")
    both = "pharma-backend@blue.socket pharma-backend@green.socket"
    running = app.check_output(
        "systemctl list-units --plain --no-legend --state=active 'pharma-backend@*.service'"
    )
    services = [line.split()[0] for line in running.splitlines()]
    app.check_output(f"systemctl stop {both} {' '.join(services)}")
    try:
        answer = client.get("/health/ready")
        problem = problem_of(answer)
        assert (problem["status"], problem["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert answer.headers.get_list("retry-after") == ["1"]
    finally:
        app.check_output(f"systemctl start {both} {' '.join(services)}")
    assert f"pharma-backend@{colour}.service" in services
    assert client.get("/health/ready").status_code == 200


def play_proxy(root: Path, directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the role alone, with these variables in place of the inventory's."""
    playbook = directory / "proxy.yml"
    playbook.write_text(
        json.dumps([{"hosts": "app1", "gather_facts": False, "roles": ["pharma.hardening.proxy"]}])
    )
    given = directory / "variables.json"
    given.write_text(json.dumps(variables))
    return subprocess.run(
        ["ansible-playbook", "-i", "inventories/lab/hosts.yml", str(playbook), "-e", f"@{given}"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )


def words_of(done: subprocess.CompletedProcess[str]) -> str:
    """What a run said, without colours and line breaks; failures go to either stream, as the environment has it."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    return " ".join(plain.replace('\\"', '"').split())


def certificate_of_another_kind(directory: Path) -> str:
    """An RSA certificate; nginx itself does not notice that an EC key cannot be its key."""
    path = directory / "other.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-days", "2"),
            *("-keyout", str(directory / "other.pem"), "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path.read_text()


def reload(app: Host) -> None:
    """Reload nginx, and wait until no worker of before is left: it would close a connection that a test has open."""
    workers = "pgrep --parent $(systemctl show --property=MainPID --value nginx.service)"
    before = set(app.check_output(workers).split())
    app.check_output("systemctl reload nginx")
    deadline = time.monotonic() + 30
    while before & set(app.run(workers).stdout.split()):
        assert time.monotonic() < deadline, f"workers {before} are still there"
        time.sleep(0.1)


@pytest.mark.parametrize("fault", ["setting", "certificate"])
def test_what_nginx_cannot_serve_is_taken_back(
    root: Path, tmp_path: Path, client: httpx.Client, app: Host, fault: str
) -> None:
    """The run fails and says why; files and service are as before, also after a reload by somebody else."""
    before = app.check_output("sha256sum " + " ".join(SERVED))
    wrong = (
        {"proxy_body_size": "lots"}
        if fault == "setting"
        else {"proxy_tls_certificate": certificate_of_another_kind(tmp_path)}
    )
    done = play_proxy(root, tmp_path, **wrong)
    assert done.returncode != 0
    said = words_of(done)
    assert "was left as it was, and serves on" in said
    reason = '"client_max_body_size" directive invalid value' if fault == "setting" else "is not the key of"
    assert reason in said
    assert app.check_output("sha256sum " + " ".join(SERVED)) == before
    assert app.check_output("ls -A /etc/nginx/tls") == "pharma-backend.crt\npharma-backend.key"
    reload(app)
    assert client.get("/health/live").status_code == 200


def test_nginx_is_confined(app: Host) -> None:
    """Its unit is hardened, its key is root's, and what it does not need is out of its sight."""
    assert float(app.check_output("systemd-analyze security nginx.service | tail -1").split()[-3]) <= 3.0
    assert app.file("/etc/nginx/tls/pharma-backend.key").mode == 0o600
    main = app.check_output("systemctl show --property=MainPID --value nginx.service")
    assert app.check_output(f"nsenter --target {main} --mount ls /etc/pharma/credentials") == ""
    assert app.check_output("ls /etc/pharma/credentials") != ""


def test_a_flood_of_logins_is_stopped_and_nothing_else(
    client: httpx.Client, problem_of: Callable[[httpx.Response], dict[str, Any]]
) -> None:
    """From one address: 429 with a time to try again; other requests of that address are answered."""
    for _ in range(1000):
        answer = client.post("/auth/login", json={})
        if answer.status_code == 429:
            break
    assert answer.status_code == 429
    assert problem_of(answer)["code"] == "RATE_LIMITED"
    assert answer.headers.get_list("retry-after") == ["1"]
    assert client.get("/health/ready").status_code == 200
