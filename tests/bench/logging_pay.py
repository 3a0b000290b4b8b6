# SPDX-License-Identifier: GPL-3.0-or-later
"""Payments a second with the log on and off: two real services on one PostgreSQL, pair by pair."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
from backend_harness import PASSWORD, Cli, Cluster, Service, eventually, make_cli

CLIENTS = 6
SLICES = 4
logging.getLogger("httpx").setLevel(logging.WARNING)  # our own client is not what is measured
SILENT = Path(__file__).resolve().with_name("logging_silent.py")


@dataclass
class SilentCli(Cli):
    """The service that writes no line."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(SILENT), *arguments]


def measure(rounds: int, pays: int) -> dict[str, Any]:
    """Payments a second of each pair, the median loss in percent, CPU time of the service for one payment."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pharma-")))
        cluster = Cluster(home, port=5495)
        cluster.create()
        stack.callback(cluster.stop)
        cli = make_cli(cluster, cluster.new_database("pharmacy"), home)
        cli.json("migrate")
        cli.json("demo-data", "--sales", "300", "--seed", "7")
        cli.json("create-user", "--username", "ana", "--role", "manager", "--password-stdin", stdin=PASSWORD)
        services: dict[str, Service] = {}
        for name, command in (("on", cli), ("off", SilentCli(cli.credentials, cli.environment))):
            place = home / name
            place.mkdir()
            services[name] = _start(command, place, stack)
        headers = services["on"].headers("ana")
        opened = services["on"].client.post(
            "/cash/open", headers=headers, json={"register": "bench", "opening_amount": "100.00"}
        )
        opened.raise_for_status()
        sql = stack.enter_context(psycopg.connect(cluster.url("postgres", "pharmacy"), autocommit=True))
        return _rounds(services, sql, opened.json()["id"], headers["Authorization"], rounds, pays)


def _start(cli: Cli, place: Path, stack: ExitStack) -> Service:
    """The service with a unix stream socket as standard output, as under systemd, and somebody who reads it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = stack.enter_context(subprocess.Popen(["cat"], stdin=theirs, stdout=subprocess.DEVNULL))
        path = place / "api.sock"
        command = cli.command("serve", "--uds", str(path))
        process = stack.enter_context(
            subprocess.Popen(command, stdout=ours, env=cli.env(PHARMA_ACCESS_TOKEN_TTL="7200"))
        )
    stack.callback(reader.terminate)
    stack.callback(process.terminate)
    transport = httpx.HTTPTransport(uds=str(path))
    client = stack.enter_context(httpx.Client(transport=transport, base_url="http://pharma", timeout=15))
    eventually(lambda: client.get("/health/ready").status_code == 200, 30)
    return Service(process, path, place / "none", cli, client)


def _lines(service: Service) -> float:
    """Lines of level info that the service has written."""
    wanted = 'pharma_log_lines_total{level="info"} '
    return float(
        next(line for line in service.client.get("/metrics").text.splitlines() if line.startswith(wanted))[
            len(wanted) :
        ]
    )


def _rounds(
    services: dict[str, Service],
    sql: psycopg.Connection[Any],
    session: int,
    token: str,
    rounds: int,
    pays: int,
) -> dict[str, Any]:
    pairs: list[dict[str, float]] = []
    cpu: dict[str, list[float]] = {"on": [], "off": []}
    # Many short pairs: what else happens on the machine changes more slowly than they do.
    pays //= SLICES
    for number in range(-2, rounds * SLICES):
        pair: dict[str, float] = {}
        for name in ("on", "off") if number % 2 else ("off", "on"):
            service = services[name]
            sales = _make_sales(sql, session, pays)
            before = _cpu_seconds(service.process.pid)
            began = time.perf_counter()
            asyncio.run(_pay_all(service.socket, token, sales))
            pair[name] = pays / (time.perf_counter() - began)
            cpu[name].append((_cpu_seconds(service.process.pid) - before) / pays * 1e6)
        if number >= 0:  # the first pairs only warm up
            pairs.append(pair)
    if _lines(services["on"]) < 2 * rounds * SLICES * pays or _lines(services["off"]):
        raise RuntimeError("one service must write lines and the other none")
    return {
        "pairs": pairs,
        "throughputLostPercent": statistics.median(100 * (1 - pair["on"] / pair["off"]) for pair in pairs),
        "processorAddedPercent": statistics.median(
            100 * (on / off - 1) for on, off in zip(cpu["on"][2:], cpu["off"][2:], strict=True)
        ),
        "cpuMicroseconds": {name: statistics.median(values[2:]) for name, values in cpu.items()},
    }


def _make_sales(sql: psycopg.Connection[Any], session: int, count: int) -> list[int]:
    """Open sales of one item for 10.00 in that cash session; their ids."""
    rows = sql.execute(
        """
        with made as (
          insert into pharmacy.sales (store_id, cash_session_id, user_id, total)
          select store_id, id, user_id, 10.00 from pharmacy.cash_sessions, generate_series(1, %(count)s)
           where id = %(session)s
          returning id
        ), items as (
          insert into pharmacy.sale_items (sale_id, line, product_id, lot_id, quantity, unit_price)
          select made.id, 1, lot.product_id, lot.id, 1, 10.00
            from made, (select id, product_id from pharmacy.lots order by id limit 1) as lot
        )
        select id from made
        """,
        {"count": count, "session": session},
    ).fetchall()
    return [row[0] for row in rows]


def _cpu_seconds(pid: int) -> float:
    """Time that the threads of a process have run (schedstat, in nanoseconds)."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


async def _pay_all(path: Path, token: str, sales: list[int]) -> None:
    waiting = list(sales)
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(_pay_some(path, token, waiting))


async def _pay_some(path: Path, token: str, waiting: list[int]) -> None:
    """Pay over one kept-alive connection until none waits; a hand-made client, so that it costs little."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    body = json.dumps({"payments": [{"method": "pix", "amount": "10.00"}]}).encode()
    while waiting:
        head = (
            f"POST /sales/{waiting.pop()}/pay HTTP/1.1\r\nHost: pharma\r\nAuthorization: {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in answer.lower().split(b"\r\n")[1:] if b": " in line)
        content = await reader.readexactly(int(fields[b"content-length"]))
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise httpx.HTTPError(f"a payment was refused: {content.decode()}")
    writer.close()
    await writer.wait_closed()
