# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pharma_ops.errors import OpsError
from pharma_ops.log import MAX_LINE_BYTES, Log

RUN_ID = "20261122T190000Z-abc123"

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.fixture(scope="session")
def schema(root: Path) -> Draft202012Validator:
    text = (root / "docs/schemas/log-line.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text), format_checker=Draft202012Validator.FORMAT_CHECKER)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs), "a key occurs twice"
    return dict(pairs)


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def written(stream: io.StringIO) -> dict[str, Any]:
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert len(text.encode()) <= MAX_LINE_BYTES
    line: dict[str, Any] = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    return line


def recurse(depth: int) -> None:
    if depth == 0:
        raise RuntimeError("deep " + "\u0001" * 3000)
    recurse(depth - 1)


def caught(depth: int = 0) -> BaseException:
    try:
        recurse(depth)
    except RuntimeError as error:
        return error
    raise AssertionError


def test_lines_keep_the_schema(schema: Draft202012Validator) -> None:
    stream = io.StringIO()
    log = Log("lab", RUN_ID, [stream])
    log.info("backup_started", database="pharma", bytes=12)
    log.warn("stale_set_found", path=Path("/srv/x"))
    log.error("backup_failed", OpsError("STORE_UNREACHABLE", "The store is away.", "Wait."), tries=2)
    log.error("backup_failed", caught(30))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    for line in lines:
        schema.validate(line)
    assert lines[0]["requestId"] == RUN_ID
    assert lines[0]["meta"] == {"database": "pharma", "bytes": 12}
    assert lines[2]["error"]["code"] == "STORE_UNREACHABLE"
    assert lines[3]["error"]["code"] == "INTERNAL"
    assert any(" recurse" in frame for frame in lines[3]["error"]["stack"])


def test_the_schema_refuses_what_is_not_a_line(schema: Draft202012Validator) -> None:
    stream = io.StringIO()
    Log("lab", RUN_ID, [stream]).info("backup_started")
    line = written(stream)
    assert not schema.is_valid(line | {"ts": "yesterday"})
    assert not schema.is_valid(line | {"msg": "Backup of pharma started"})
    assert not schema.is_valid({key: value for key, value in line.items() if key != "requestId"})


@given(VALUES)
def test_any_meta_gives_one_line_of_json_within_the_bound(value: Any) -> None:
    stream = io.StringIO()
    Log("lab", RUN_ID, [stream]).info("anything", value=value)
    assert written(stream)["msg"] == "anything"


def test_a_line_that_would_be_too_long_says_so() -> None:
    stream = io.StringIO()
    Log("lab", RUN_ID, [stream]).info("tables_compared", tables=["á" * 100] * 1000)
    assert written(stream)["meta"] == {"truncated": True}


def test_a_deep_stack_and_a_long_message_stay_within_the_bound() -> None:
    stream = io.StringIO()
    Log("lab", RUN_ID, [stream]).error("run_failed", caught(800), note="n" * 40_000)
    line = written(stream)
    assert line["error"]["type"] == "RuntimeError"


def test_what_json_does_not_have_is_named() -> None:
    stream = io.StringIO()
    endless: list[Any] = []
    endless.append(endless)
    Log("lab", RUN_ID, [stream]).info("odd", endless=endless)
    assert written(stream)["meta"] == {"unserializable": ["endless"]}


@pytest.mark.parametrize(
    "message",
    [
        'connection to "postgresql://pharma:planted&x@db1:5432/pharma" failed',
        "invalid dsn: host=db1 password=planted&x user=x",
        "invalid dsn: host=db1 password = 'planted&x x' user=x",
    ],
)
def test_passwords_of_foreign_messages_do_not_reach_the_log(message: str) -> None:
    stream = io.StringIO()
    Log("lab", RUN_ID, [stream]).error("connect_failed", ValueError(message))
    text = written(stream)["error"]["message"]
    assert "planted&x" not in text
    assert "***" in text
    assert "db1" in text


class Broken(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError("the reader went away")


def test_a_stream_that_cannot_be_written_does_not_stop_the_work() -> None:
    good, closed = io.StringIO(), io.StringIO()
    closed.close()
    Log("lab", RUN_ID, [Broken(), closed, good]).info("still_here")
    assert written(good)["msg"] == "still_here"


def test_a_file_gets_the_lines_too(tmp_path: Path) -> None:
    log = Log("lab", RUN_ID, [])
    with log.to_file(tmp_path / "drill.log"):
        log.info("drill_started", path="caf\udce9")
    assert json.loads((tmp_path / "drill.log").read_text(encoding="utf-8"))["meta"] == {"path": "caf?"}


@pytest.mark.parametrize("event", ["Backup started", "", "9lives", "a-b"])
def test_a_sentence_is_not_an_event(event: str) -> None:
    with pytest.raises(ValueError, match="snake_case"):
        Log("lab", RUN_ID, []).info(event)
