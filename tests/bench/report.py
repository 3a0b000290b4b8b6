# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark says: medians, ratios pair by pair, objectives, as JSON and as a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MIB = 1 << 20
# What was promised was promised for about 1 GB: fixed costs rule the times of a small database.
JUDGED_FROM_BYTES = 900_000_000


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Our run beside the naive one of the same round, in seconds."""

    naive: float
    ours: float

    @property
    def speedup(self) -> float:
        """How many times as fast ours is."""
        return self.naive / self.ours

    @property
    def cost(self) -> float:
        """Our time as a multiple of the naive one."""
        return self.ours / self.naive


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A number that was promised: ``value`` must be at least, or at most, ``bound``."""

    name: str
    value: float
    bound: float
    at_least: bool
    unit: str

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def objectives(
    backup: Sequence[Pair],
    restore: Sequence[Pair],
    drill: Sequence[Pair],
    compare: Sequence[float],
    peak_bytes: int,
    database_bytes: int,
) -> list[Objective]:
    """The promises of this project's benchmark, filled with the medians of the rounds.

    The comparison is promised in seconds for 1 GB, so its time is scaled to that.
    """
    per_gigabyte = statistics.median(compare) * 1e9 / database_bytes
    median = statistics.median
    return [
        Objective(
            name="backup, times as fast as pg_dump -Fc",
            value=median(pair.speedup for pair in backup),
            bound=3.0,
            at_least=True,
            unit="x",
        ),
        Objective(
            name="restore stage, times as fast as pg_restore",
            value=median(pair.speedup for pair in restore),
            bound=1.4,
            at_least=True,
            unit="x",
        ),
        Objective(
            name="whole drill, select to teardown, of the time of pg_restore",
            value=median(pair.cost for pair in drill),
            bound=1.5,
            at_least=False,
            unit="x",
        ),
        Objective(
            name="exact comparison of 1 GB, two sessions",
            value=per_gigabyte,
            bound=6.0,
            at_least=False,
            unit="s",
        ),
        Objective(
            name="memory of our processes", value=peak_bytes / MIB, bound=256, at_least=False, unit="MiB"
        ),
    ]


def stage_medians(drills: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of every stage, in the order of the first drill."""
    return {name: statistics.median(drill[name] for drill in drills) for name in drills[0]}


def table(rows: Sequence[Sequence[str]]) -> str:
    """A plain table: the first row is its head, the first column is flush left, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(cells)
        )
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def render(result: dict[str, Any]) -> str:
    """The result of a run for a terminal."""
    dataset = result["dataset"]
    lines = [
        (
            f"PostgreSQL {result['postgresql']} on {result['cpus']} cores, {dataset['bytes'] / 1e6:.0f} MB, "
            f"{dataset['sales']} sales, seed {dataset['seed']}, {len(result['rounds'])} rounds"
        ),
        "",
    ]
    head = ["seconds", *(f"round {number}" for number in range(1, len(result["rounds"]) + 1)), "median"]
    rows = [head]
    for name in result["rounds"][0]["seconds"]:
        values = [each["seconds"][name] for each in result["rounds"]]
        rows.append([name, *(f"{value:.2f}" for value in values), f"{statistics.median(values):.2f}"])
    lines += [table(rows), ""]
    stages = [["stage of the drill", "median s"]]
    stages += [[name, f"{seconds:.2f}"] for name, seconds in result["stages"].items()]
    lines += [table(stages), ""]
    promised = [["objective", "bound", "measured", "verdict"]]
    for each in result["objectives"]:
        sign = ">=" if each["at_least"] else "<="
        promised.append(
            [
                each["name"],
                f"{sign} {each['bound']:g} {each['unit']}",
                f"{each['value']:.2f} {each['unit']}",
                "met" if each["met"] else "MISSED",
            ]
        )
    lines.append(table(promised))
    if not result["judged"]:
        lines += [
            "",
            f"Not judged: the objectives are for databases of {JUDGED_FROM_BYTES / 1e6:.0f} MB and more.",
        ]
    return "\n".join(lines) + "\n"
