# SPDX-License-Identifier: GPL-3.0-or-later
"""Log lines: their shape, their size, and what never stands in them."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_backend import context, cpf, log, scrub
from pharma_backend.errors import Problem

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "backend/src/pharma_backend"
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "docs/schemas/log-line.schema.json").read_text()))


@pytest.fixture(autouse=True)
def request_context() -> Iterator[None]:
    """Every line here is one of a request that matched no route."""
    token = context.enter(context.RequestContext("req-12345678", scope={"method": "GET"}))
    yield
    context.leave(token)


def _line(level: str, event: str, meta: dict[str, Any], error: BaseException | None = None) -> dict[str, Any]:
    data = log.render(level, event, meta, error)
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    assert len(data) <= log.MAX_LINE_BYTES
    line: dict[str, Any] = json.loads(data)
    SCHEMA.validate(line)
    return line


def test_a_key_that_is_not_allowed_is_dropped() -> None:
    line = _line("info", "sale_created", {"saleId": "1", "customer": "Maria da Silva", "cpf": "52998224725"})
    assert line["meta"] == {"saleId": "1", "dropped": 2}


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(KeyError):
        log.render("info", "no_such_event", {}, None)


def test_every_event_in_the_code_is_known_and_its_keys_are_allowed() -> None:
    calls = 0
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
                and node.func.attr in ("info", "warn", "error", "fatal")
            ):
                event = node.args[0]
                assert isinstance(event, ast.Constant)
                assert isinstance(event.value, str), f"{path}:{node.lineno} names no constant event"
                keys = {keyword.arg for keyword in node.keywords if keyword.arg}
                assert keys <= log.EVENTS[event.value], f"{path}:{node.lineno}"
                calls += 1
    assert calls > 15


def test_user_store_and_route_of_the_request() -> None:
    class Route:
        path = "/sales/{id}/pay"

    request = context.RequestContext("req-12345678", scope={"method": "POST", "route": Route()}, user_id="7")
    token = context.enter(request)
    try:
        line = _line("info", "payment_confirmed", {"saleId": "1", "amount": "123.45"})
    finally:
        context.leave(token)
    assert (line["requestId"], line["userId"], line["route"]) == ("req-12345678", "7", "POST /sales/{id}/pay")
    assert "storeId" not in line


def test_a_method_of_the_clients_invention_is_not_repeated() -> None:
    assert context.RequestContext("req-12345678", scope={"method": "EVIL\u2028"}).method == "OTHER"


def test_a_huge_error_is_cut() -> None:
    def deep(level: int) -> None:
        if level:
            deep(level - 1)
        raise ValueError("x " * 100_000)

    with pytest.raises(ValueError) as caught:
        deep(400)
    line = _line("error", "request_completed", _COMPLETED, caught.value)
    assert len(line["error"]["stack"]) <= scrub.MAX_FRAMES
    line = _line("error", "server_message", {"logger": "x", "text": "y" * 100_000}, caught.value)
    assert line["meta"] == {"truncated": True}


_COMPLETED = {"status": 500, "durationMs": 1.0, "dbTimeMs": 0.0, "dbQueries": 0, "release": "x"}
SECRETS = [
    "postgresql://pharma_app:hunter2@db1/pharma",
    "password=hunter2",
    "Authorization: Bearer abc.def.ghi",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "maria.silva@example.com",
    "529.982.247-25",
    "52998224725",
    "4111 1111 1111 1111",
    "'Maria da Silva'",
    'Key (full_name)=("João Souza")',
    "Antônio Conceição de Araújo",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_in_exceptions_are_masked(secret: str) -> None:
    masked = scrub.text(f"it failed for {secret} today")
    for word in (
        "hunter2",
        "abc.def",
        "c2lnbmF0dXJl",
        "maria",
        "Maria",
        "João",
        "247",
        "1111",
        "Araújo",
        "Conceição",
    ):
        assert word not in masked
    assert masked.startswith("it failed for")


@given(st.integers(0, 999_999_999), st.text(max_size=20))
def test_no_cpf_passes(nine: int, around: str) -> None:
    number = cpf.complete(f"{nine:09d}")
    dotted = f"{number[:3]}.{number[3:6]}.{number[6:9]}-{number[9:]}"
    assert number not in scrub.text(f"{around} {number} {around}")
    assert dotted not in scrub.text(f"{around} {dotted} {around}")


def test_rows_that_the_database_quotes_stay_out() -> None:
    class Failure(psycopg.errors.UniqueViolation):
        sqlstate = "23505"

    text = scrub.message(Failure("duplicate key\nDETAIL:  Key (cpf)=(52998224725) already exists."))
    assert text == "SQLSTATE 23505"


def test_locals_never_stand_in_a_stack() -> None:
    password = "hunter2-hunter2"  # noqa: F841 - it must be a local of the frame
    try:
        raise RuntimeError("boom")
    except RuntimeError as error:
        line = _line("error", "request_completed", _COMPLETED, error)
    assert "hunter2" not in json.dumps(line)
    assert line["error"]["code"] == "INTERNAL"
    assert line["error"]["stack"]


def test_an_expected_problem_has_no_stack() -> None:
    line = _line(
        "warn", "request_completed", _COMPLETED | {"status": 409}, Problem("SALE_ALREADY_PAID", 409, "Paid")
    )
    assert line["error"] == {"code": "SALE_ALREADY_PAID", "type": "Problem", "message": "Paid"}


def test_every_code_is_documented() -> None:
    codes = {
        str(node.args[0].value)
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("CommandError", "Problem", "_unauthorized")
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(codes) > 30
    page = (ROOT / "docs/backend.md").read_text()
    assert sorted(code for code in codes if f"`{code}`" not in page) == []
