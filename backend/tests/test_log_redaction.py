# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret of the corpus reaches a line, and what only looks like one stays readable."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import redaction_carriers as carriers
import redaction_corpus as corpus
from fastapi import FastAPI, Request

from pharma_backend import app, context, log, release, scan, settings

SCHEMAS = Path(__file__).resolve().parents[2] / "docs/schemas"
SCHEMA = jsonschema.Draft202012Validator(json.loads((SCHEMAS / "log-line.schema.json").read_text()))
CLASSES = [
    "keys",
    "depth",
    "exceptions",
    "json",
    "urls",
    "postgres",
    "bodies",
    "headers",
    "tails",
    "encodings",
    "values",
]
BYPASS_AT_LEAST = 200
HARMLESS_AT_LEAST = 50
OVER_REDACTION_AT_MOST = 0.01

Ask = Callable[[dict[str, Any]], None]


@pytest.fixture
def lines() -> Iterator[list[bytes]]:
    """The lines that are written during a test."""
    written: list[bytes] = []
    log.configure("lab", written.append)
    # The client of these tests tells what it asks for; the service has none.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    yield written
    log.configure("lab")


@pytest.fixture(scope="module")
def ask() -> Ask:
    """Sends a request to the real application, whose database is not there."""
    secrets = {
        "DATABASE_URL": "postgresql://127.0.0.1:1/x",
        "JWT_SECRET": "j" * 48,
        "REFRESH_SECRET": "r" * 48,
    }
    loop = asyncio.new_event_loop()

    async def build() -> Any:
        return app.create(app.services(settings.Settings(env="lab"), release.identify(), secrets))

    served = loop.run_until_complete(build())

    async def boom(request: Request) -> None:
        raise ValueError((await request.body()).decode())

    inner: Any = served
    while not isinstance(inner, FastAPI):
        inner = inner._app
    inner.add_api_route("/boom", boom, methods=["POST"])

    async def send(case: dict[str, Any]) -> None:
        transport = httpx.ASGITransport(served, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            headers = {"content-type": "application/json"} | case.get("headers", {})
            await client.request(
                case["method"], case["path"], headers=headers, content=case.get("body", "").encode()
            )

    return lambda case: loop.run_until_complete(send(case))


def _say(case: corpus.Case, body: Any, ask: Ask) -> None:
    if case.carrier == "request":
        ask(body)
    else:
        carriers.say(case.carrier, body)


def _leaking(cases: list[corpus.Case], lines: list[bytes], ask: Ask) -> list[str]:
    """The cases whose canaries stand in a line, with the line."""
    leaking = []
    for number, case in enumerate(cases):
        lines.clear()
        canaries = corpus.Canaries(f"{case.group} {number}")
        body = canaries.fill(case.body)
        assert canaries.secrets or canaries.digits, f"{case} plants nothing"
        _say(case, body, ask)
        assert lines, f"{case} wrote no line"
        for line in lines:
            assert len(line) <= log.MAX_LINE_BYTES
            SCHEMA.validate(json.loads(line))
        if found := canaries.leaks(b"".join(lines)):
            leaking.append(
                f"{case.group}/{case.carrier}: {case.body!r} leaks {found[:3]}\n  {lines[0].decode()[:600]}"
            )
    return leaking


@pytest.mark.parametrize("group", CLASSES)
def test_nothing_leaks(group: str, lines: list[bytes], ask: Ask) -> None:
    cases = corpus.load(group)
    leaking = _leaking(cases, lines, ask)
    print(f"redaction {group}: {len(cases)} cases, {len(leaking)} leaks")
    assert len(cases) >= 20
    assert not leaking, "\n".join(leaking)


def test_the_corpus_is_large_enough() -> None:
    sizes = Counter(case.group for group in CLASSES for case in corpus.load(group))
    print("redaction cases:", dict(sizes), "together", sizes.total())
    assert sizes.total() >= BYPASS_AT_LEAST
    bodies = [json.dumps([case.carrier, case.body]) for group in CLASSES for case in corpus.load(group)]
    assert len(set(bodies)) == len(bodies)


def test_the_corpus_fails_without_redaction(
    lines: list[bytes], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the scan, the kinds and the causes' scan out of the way nearly all cases leak: the check can fail."""
    monkeypatch.setattr(scan, "text", lambda value, limit=100_000: value)
    monkeypatch.setattr("pharma_backend.log.admit", lambda event, meta: (json.loads(json.dumps(meta)), 0))
    monkeypatch.setattr("pharma_backend.scrub._database", lambda error: str(error))
    monkeypatch.setattr("pharma_backend.log.MAX_LINE_BYTES", 10**6)
    monkeypatch.setattr("test_log_redaction.SCHEMA", jsonschema.Draft202012Validator({}), raising=False)
    cases = [
        case for group in CLASSES for case in corpus.load(group) if case.carrier not in ("request", "access")
    ]
    leaking = 0
    for number, case in enumerate(cases):
        lines.clear()
        canaries = corpus.Canaries(f"{case.group} {number}")
        _say(case, canaries.fill(case.body), ask)
        leaking += bool(lines and canaries.leaks(b"".join(lines)))
    print(f"redaction off: {leaking} of {len(cases)} cases leak")
    assert leaking >= 0.95 * len(cases)


@pytest.mark.parametrize("carrier", ["error", "library", "cause", "note"])
def test_the_harmless_stays(carrier: str, lines: list[bytes]) -> None:
    cases = corpus.load("harmless")
    assert len(cases) >= HARMLESS_AT_LEAST
    masked = []
    for case in cases:
        lines.clear()
        carriers.say(carrier, case.body)
        if case.body not in json.dumps(json.loads(lines[0]), ensure_ascii=False):
            masked.append(f"{case.body!r}: {lines[0].decode()}")
    print(f"harmless by {carrier}: {len(cases)} cases, {len(masked)} masked")
    assert len(masked) <= OVER_REDACTION_AT_MOST * len(cases), "\n".join(masked)


def test_the_check_of_over_redaction_can_fail(lines: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "text", lambda value, limit=0: re.sub(r"\d", "#", value))
    carriers.say("error", "order 4500012345 is late")
    assert b"4500012345" not in lines[0]


def test_every_form_of_a_canary_is_seen() -> None:
    canaries = corpus.Canaries("x")
    password, number = canaries.fill("{password}"), canaries.fill("{cpf}")
    for form in (
        password,
        password.upper(),
        password.encode().hex(),
        password[::-1],
        number,
        ".".join(number),
    ):
        assert canaries.leaks(json.dumps({"msg": form}).encode()), form
    assert not canaries.leaks(b'{"msg": "fine"}')


@pytest.fixture(autouse=True)
def no_request() -> Iterator[None]:
    token = context.enter(context.RequestContext("corpus-request", scope={"method": "GET"}))
    yield
    context.leave(token)
