# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark of the log compares equal work, and says when a promise is not kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pharma_backend import context, log

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests/bench"))

import logging_bench
import logging_lines


def test_every_logger_writes_the_same_line(tmp_path: Path) -> None:
    scope = {"method": "POST", "route": logging_lines._Route()}
    token = context.enter(context.RequestContext("a" * 32, scope=scope, store_id="3", user_id="17"))
    path = tmp_path / "lines"
    try:
        with path.open("ab", buffering=0) as stream:
            for write in logging_lines.make_loggers(stream.fileno()).values():
                write("server_message", {"logger": "x", "text": "password=hunter2", "other": 1})
    finally:
        context.leave(token)
        log.configure("lab")
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert line.pop("ts")
        line["meta"].pop("dropped", None)
    assert lines[0] == lines[1] == lines[2]
    assert lines[0]["meta"]["text"] == "password=[masked]"


def test_costs_are_measured_for_each_kind_and_logger() -> None:
    found = logging_lines.measure(rounds=2, lines=20)
    assert found.keys() == logging_lines.KINDS.keys()
    for loggers in found.values():
        assert len(loggers) == 3
        assert all(len(costs) == 2 and min(costs) > 0 for costs in loggers.values())


def test_a_missed_promise_is_told() -> None:
    result = {
        "cpus": 2,
        "rounds": 1,
        "lines": {"request_completed": {"pharma_backend.log": 12.0, "other": 24.0}},
        "pay": {
            "pairs": [{"on": 96.0, "off": 100.0}],
            "throughputLostPercent": 4.0,
            "processorAddedPercent": 6.0,
            "cpuMicroseconds": {"on": 1.0, "off": 1.0},
        },
    }
    assert [each.met for each in logging_bench.objectives(result)] == [False, True, False]
    text = logging_bench.render(result)
    assert "12.00 µs   MISSED" in text
    assert "2.00" in text
