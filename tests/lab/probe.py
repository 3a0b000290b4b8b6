# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a service on its unix socket; runs on the service's own host, with nothing but Python.

python3 - SOCKET watch SECONDS          every 20 ms until then: a line for each change of live or ready
python3 - SOCKET flood SECONDS RATE     that many probes of readiness a second; their number and what they got
python3 - SOCKET login COUNT            that many logins at once; readiness and metrics meanwhile
python3 - SOCKET metrics                the metrics
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

INTERVAL = 0.02
CONNECTIONS = 8


async def ask(socket: str, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """One request on a connection of its own: status and body. Waits as long as it takes."""
    reader, writer = await asyncio.open_unix_connection(socket)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\nContent-Type: application/json\r\n"
    )
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    received, _, content = answer.partition(b"\r\n\r\n")
    return int(received.split(b" ", 2)[1]), content


async def watch(socket: str, seconds: float) -> None:
    """Print time, live and ready whenever one of the last two changes."""
    before = None
    end = time.time() + seconds
    while time.time() < end:
        live, _ = await ask(socket, "GET", "/health/live")
        ready, _ = await ask(socket, "GET", "/health/ready")
        if (live, ready) != before:
            print(json.dumps({"at": time.time(), "live": live, "ready": ready}), flush=True)
            before = (live, ready)
        await asyncio.sleep(INTERVAL)


async def flood(socket: str, seconds: float, rate: float) -> None:
    """Send probes at an even rate over kept-alive connections; print how many, and how many were 200."""
    probe = b"GET /health/ready HTTP/1.1\r\nHost: probe\r\n\r\n"
    began = time.monotonic()

    async def connection(number: int) -> tuple[int, int]:
        reader, writer = await asyncio.open_unix_connection(socket)
        sent = good = 0
        while (elapsed := time.monotonic() - began) < seconds:
            if sent >= elapsed * rate / CONNECTIONS:
                await asyncio.sleep(0.001)
                continue
            writer.write(probe)
            sent += 1
            good += (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        writer.close()
        return sent, good

    counts = await asyncio.gather(*(connection(number) for number in range(CONNECTIONS)))
    took = time.monotonic() - began
    sent, good = sum(count[0] for count in counts), sum(count[1] for count in counts)
    print(json.dumps({"sent": sent, "good": good, "seconds": took}))


async def login(socket: str, count: int) -> None:
    """Log in as many users that do not exist at once; print the statuses, and readiness and metrics meanwhile."""
    bodies = [f'{{"username": "probe-{n}", "password": "of nobody at all"}}'.encode() for n in range(count)]
    asked = [asyncio.create_task(ask(socket, "POST", "/auth/login", body)) for body in bodies]
    readiness, exposed = set(), []
    while not all(task.done() for task in asked):
        readiness.add((await ask(socket, "GET", "/health/ready"))[0])
        exposed.append((await ask(socket, "GET", "/metrics"))[1].decode())
        await asyncio.sleep(0.2)
    statuses = [task.result()[0] for task in asked]
    print(json.dumps({"statuses": statuses, "ready": sorted(readiness), "metrics": exposed}))


async def metrics(socket: str) -> None:
    """Print the metrics."""
    status, text = await ask(socket, "GET", "/metrics")
    print(json.dumps({"status": status, "text": text.decode()}))


def main() -> None:
    """Do what the arguments say."""
    socket, command, *rest = sys.argv[1:]
    does = {"watch": watch, "flood": flood, "login": login, "metrics": metrics}[command]
    numbers = [int(word) if word.isdecimal() else float(word) for word in rest]
    asyncio.run(does(socket, *numbers))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
