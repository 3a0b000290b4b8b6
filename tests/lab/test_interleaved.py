# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests of many users, mixed over shared connections: no line of the log carries what belongs to another's."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cashiers import Cashier, Mix
from kept_alive import Endpoint
from load import Report, Traffic, tills
from shop import Shop, strangers

REQUESTS = 10_000
# Fewer than cashiers, so that every connection carries the requests of all of them in turn.
CONNECTIONS = 11
READ_AT_ONCE = 64 * 1024


def some_large(random_: random.Random) -> int:
    """Every third body is larger than what the server reads at once."""
    return random_.randint(READ_AT_ONCE + 1, 3 * READ_AT_ONCE) if random_.random() < 1 / 3 else 0


@pytest.fixture
def straight(state_dir: Path, shop: Shop, tmp_path: Path) -> Iterator[Endpoint]:
    """The service without the proxy before it, so that its own connections are kept: its socket, through ssh."""
    socket = tmp_path / "api.sock"
    command = ["ssh", "-F", str(state_dir / "ssh/config"), "-o", "ControlMaster=no", "-o", "ControlPath=none"]
    forward = f"{socket}:/run/pharma-backend/{shop.slot()}.sock"
    process = subprocess.Popen([*command, "-N", "-L", forward, "app1"])
    try:
        limit = time.monotonic() + 10
        while not socket.exists():
            assert time.monotonic() < limit, "ssh forwarded no socket"
            time.sleep(0.05)
        yield Endpoint(name="app1", socket=socket)
    finally:
        process.terminate()
        process.wait(10)


def check(report: Report, shop: Shop, since: float) -> None:
    """Each request has its own line, once, and no line is another's."""
    assert report.failed == 0, report.summary()
    exchanges = {exchange.request_id: exchange for exchange in report.exchanges}
    assert len(exchanges) == report.requests >= REQUESTS
    assert sum(exchange.sent_bytes > READ_AT_ONCE for exchange in report.exchanges) > REQUESTS / 50
    lines = list(shop.lines(since))
    foreign = strangers(lines, exchanges)
    assert not foreign, f"{len(foreign)} lines, for instance {foreign[:3]}"
    completed = Counter(line["requestId"] for line in lines if line["msg"] == "request_completed")
    lost = [request_id for request_id in exchanges if completed[request_id] != 1]
    assert not lost, (
        f"{len(lost)} of {len(exchanges)} requests have not exactly one line, for instance {lost[:3]}"
    )
    print(f"{report.summary()}\n  {len(lines)} lines, 0 foreign")


@pytest.mark.parametrize("through", ["the proxy", "the service's own connections"])
def test_no_line_carries_what_belongs_to_another_request(
    through: str,
    request: pytest.FixtureRequest,
    endpoint: Endpoint,
    cashiers: list[Cashier],
    shop: Shop,
) -> None:
    """10,000 requests of users of four stores, small and large, interleaved on connections that stay open."""
    way = endpoint if through == "the proxy" else request.getfixturevalue("straight")
    # The line of a request is written after its answer, and that of the last login is none of these.
    time.sleep(2)
    since = time.time()
    with Traffic(tills(way, cashiers, Mix(pause=0, padding=some_large), CONNECTIONS)) as load:
        report = load.finish(at_least=REQUESTS)
    check(report, shop, since)
