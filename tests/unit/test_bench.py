# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's own arithmetic, and that its measuring sees a child's memory and a failure."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load(root: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", root / f"tests/bench/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report(root: Path) -> ModuleType:
    return load(root, "report")


@pytest.fixture(scope="module")
def measure(root: Path) -> ModuleType:
    return load(root, "measure")


def test_ratios_are_taken_pair_by_pair(report: ModuleType) -> None:
    backup = [report.Pair(naive=naive, ours=ours) for naive, ours in [(20, 5), (30, 6), (100, 50)]]
    restore = [report.Pair(naive=10, ours=5)]
    drill = [report.Pair(naive=10, ours=20)]
    found = report.objectives(backup, restore, drill, [3.0, 4.0, 5.0], 100 << 20, 2_000_000_000)
    assert [(each.value, each.met) for each in found] == [
        (4.0, True),
        (2.0, True),
        (2.0, False),
        (2.0, True),
        (100.0, True),
    ]


def test_stages_are_medians_in_the_order_of_the_drill(report: ModuleType) -> None:
    drills = [{"select": 1.0, "fetch": 2.0}, {"select": 3.0, "fetch": 4.0}, {"select": 2.0, "fetch": 9.0}]
    assert list(report.stage_medians(drills).items()) == [("select", 2.0), ("fetch", 4.0)]


def test_the_table_names_what_was_missed(report: ModuleType) -> None:
    result = {
        "postgresql": "17.12",
        "cpus": 2,
        "dataset": {"bytes": 1e9, "sales": 7, "seed": 42},
        "rounds": [{"seconds": {"pg_dump -Fc": 20.0}}, {"seconds": {"pg_dump -Fc": 22.0}}],
        "stages": {"select": 0.1},
        "judged": False,
        "objectives": [
            {"name": "x", "value": 2.0, "bound": 3.0, "at_least": True, "unit": "x", "met": False}
        ],
    }
    text = report.render(result)
    assert "1000 MB, 7 sales, seed 42, 2 rounds" in text
    assert "21.00" in text
    assert "MISSED" in text
    assert "Not judged" in text
    assert "Not judged" not in report.render(result | {"judged": True})


def test_memory_of_a_grandchild_counts(measure: ModuleType) -> None:
    script = "import time; held = b'x' * (64 << 20); time.sleep(0.5)"
    done = measure.run(["sh", "-c", f'{sys.executable} -c "{script}"; true'])
    assert 64 << 20 <= done.peak_bytes < 200 << 20
    assert 0.5 <= done.seconds < 20
    assert done.cpu_seconds < done.seconds


def test_a_failing_command_is_not_a_measurement(measure: ModuleType) -> None:
    with pytest.raises(measure.CommandError, match="out of luck"):
        measure.run(["sh", "-c", "echo out of luck >&2; exit 3"])
