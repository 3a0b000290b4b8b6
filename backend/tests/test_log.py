# SPDX-License-Identifier: GPL-3.0-or-later
"""Log lines: their shape, their size, and what never stands in them."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pharma_backend import context, cpf, events, log, scan, scrub
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


def test_an_unknown_event_says_so_and_nothing_else() -> None:
    line = _line("info", "no_such_event", {"password": "hunter2"})
    assert (line["msg"], line["meta"]) == ("log_event_unknown", {"dropped": 1})


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
                assert keys <= log.EVENTS[event.value].keys(), f"{path}:{node.lineno}"
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
    line = _line("error", "server_message", {"logger": "x", "text": "y " * 100_000}, caught.value)
    assert len(line["meta"]["text"]) <= scan.MAX_TEXT + 1


def test_a_line_that_is_too_long_is_shortened() -> None:
    failures = [ValueError("\x07\u2603" * 10_000) for _ in range(20)]
    group = ExceptionGroup("\U0001f4a5" * 2000, failures)
    line = _line("error", "server_message", {"logger": "x", "text": "\U0001f4a5" * 20_000}, group)
    assert line["error"]["type"] == "ExceptionGroup"


@pytest.mark.parametrize(
    ("event", "key", "wrong"),
    [
        ("request_completed", "status", "200"),
        ("request_completed", "status", True),
        ("request_completed", "durationMs", float("nan")),
        ("request_completed", "durationMs", "password=hunter2"),
        ("request_completed", "release", "hunter2"),
        ("request_completed", "traceId", "g" * 32),
        ("payment_confirmed", "amount", 12.5),
        ("payment_confirmed", "amount", "12.5"),
        ("payment_confirmed", "amount", Decimal("NaN")),
        ("payment_confirmed", "methods", "cash"),
        ("payment_confirmed", "methods", ["cash", "hunter2"]),
        ("payment_confirmed", "saleId", "52998224725"),
        ("sale_created", "saleId", {"id": 1}),
        ("sale_created", "saleId", SecretStr("hunter2")),
        ("login_succeeded", "role", "hunter2"),
        ("login_failed", "reason", "Maria da Silva"),
        ("cash_totals_mismatch", "differences", [{"method": "cash", "expected": "1.00"}]),
        ("server_message", "text", b"hunter2"),
        ("server_message", "logger", "Bearer abc"),
        ("heartbeat", "ready", 1),
    ],
)
def test_a_value_of_the_wrong_kind_is_dropped_and_counted(event: str, key: str, wrong: object) -> None:
    assert json.loads(log.render("info", event, {key: wrong}, None))["meta"] == {"dropped": 1}


@pytest.mark.parametrize(
    ("event", "key", "given", "written"),
    [
        ("payment_confirmed", "amount", Decimal("12.5"), "12.50"),
        ("payment_confirmed", "methods", ("cash", "pix"), ["cash", "pix"]),
        ("sale_created", "saleId", 7, "7"),
        ("sale_created", "saleId", UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ("server_message", "text", "the pool is full", "the pool is full"),
    ],
)
def test_a_value_of_a_kin_type_is_converted(event: str, key: str, given: object, written: object) -> None:
    assert json.loads(log.render("info", event, {key: given}, None))["meta"] == {key: written}


def test_every_kind_admits_something() -> None:
    """An event whose kind refused everything would lose its facts in silence."""
    samples: list[object] = [1, 1.5, True, "12.50", "ok", "7", "text", "INFO", "SIGTERM", "0.1.0", "a" * 32]
    samples += ["0.1.0+0123456789ab", "P1001", "admin", "GET", "main", "cash", ["cash"], "credentials"]
    samples.append([{"method": "cash", "expected": "1.00", "observed": "2.00"}])
    for event, kinds in log.EVENTS.items():
        for key in kinds:
            admitted = [events.admit(event, {key: sample})[0] for sample in samples]
            assert any(key in each for each in admitted), f"{event}.{key}"


_COMPLETED = {
    "status": 500,
    "durationMs": 1.0,
    "dbTimeMs": 0.0,
    "dbQueries": 0,
    "release": "1.0.0+000000000000",
}
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


@given(st.integers(0, 999_999_999).filter(lambda nine: nine % 111_111_111), st.text(max_size=20))
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


def test_causes_contexts_and_members_are_told_and_scanned() -> None:
    def fail() -> None:
        try:
            try:
                raise ValueError("password=hunter2")
            except ValueError:
                raise KeyError("Maria da Silva")  # noqa: B904 - a context is wanted
        except KeyError as error:
            raise RuntimeError("it failed") from ExceptionGroup("all", [error, OSError("52998224725")])

    with pytest.raises(RuntimeError) as caught:
        fail()
    line = _line("error", "request_completed", _COMPLETED, caught.value)
    told = [(cause["relation"], cause["type"]) for cause in line["error"]["causes"]]
    assert told == [
        ("cause", "ExceptionGroup"),
        ("member", "KeyError"),
        ("member", "OSError"),
        ("context", "ValueError"),
    ]
    for secret in ("hunter2", "Maria", "52998224725"):
        assert secret not in json.dumps(line)


def test_a_cycle_of_causes_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert [cause["message"] for cause in _line("error", "server_message", {}, one)["error"]["causes"]] == [
        "other"
    ]


def test_an_exception_that_cannot_be_printed_or_named_is_told_all_the_same() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("hunter2")

    BrokenError.__name__ = "Bearer hunter2"
    facts = _line("error", "server_message", {}, BrokenError())["error"]
    assert (facts["type"], facts["message"]) == ("Exception", "[unprintable]")


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
    page = (ROOT / "docs/errors.md").read_text()
    assert sorted(code for code in codes if f"`{code}`" not in page) == []
