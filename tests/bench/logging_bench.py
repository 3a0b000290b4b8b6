# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backend's log costs: per line beside two other loggers, and per payment beside no log at all.

Usage: logging_bench.py [--rounds N] [--lines N] [--pays N] [--only lines|pay] --out DIR
Writes DIR/logging.json and DIR/logging.txt. A missed objective is printed and is no failure.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "backend/src"), str(ROOT / "backend/tests")]

import logging_lines  # noqa: E402
import logging_pay  # noqa: E402
from report import Objective, table  # noqa: E402


def objectives(result: dict[str, Any]) -> list[Objective]:
    """The promises, filled with the medians of the rounds."""
    found = [
        Objective(
            name=f"our line, {kind}", value=rows["pharma_backend.log"], bound=10.0, at_least=False, unit="µs"
        )
        for kind, rows in result.get("lines", {}).items()
    ]
    if "pay" in result:
        lost = result["pay"]["throughputLostPercent"]
        name = "throughput of POST /sales/{id}/pay lost to the log"
        found.append(Objective(name=name, value=lost, bound=5.0, at_least=False, unit="%"))
        added = result["pay"]["processorAddedPercent"]
        name = "processor time of a payment added by the log"
        found.append(Objective(name=name, value=added, bound=5.0, at_least=False, unit="%"))
    return found


def render(result: dict[str, Any]) -> str:
    """The result for a terminal."""
    lines = [f"{result['cpus']} cores, {result['rounds']} rounds, medians; ratios are to ours", ""]
    for kind, rows in result.get("lines", {}).items():
        ours = rows["pharma_backend.log"]
        cells = [[name, f"{cost:.2f}", f"{cost / ours:.2f}"] for name, cost in rows.items()]
        lines += [table([[kind, "µs a line", "ratio"], *cells]), ""]
    if "pay" in result:
        pay = result["pay"]
        lost = sorted(100 * (1 - pair["on"] / pair["off"]) for pair in pay["pairs"])
        quarter = len(lost) // 4
        medians = [f"{statistics.median(pair[name] for pair in pay['pairs']):.0f}" for name in ("on", "off")]
        cells = [["payments a second", *medians]]
        lines += [table([["POST /sales/{id}/pay", "log on", "log off"], *cells])]
        lines += [
            f"lost in {len(lost)} pairs: quartiles {lost[quarter]:+.1f} % to {lost[-1 - quarter]:+.1f} %"
        ]
        cpu = pay["cpuMicroseconds"]
        lines += [f"CPU of the service for one payment: {cpu['on']:.0f} µs on, {cpu['off']:.0f} µs off", ""]
    promised = [
        [
            each.name,
            f"<= {each.bound:g} {each.unit}",
            f"{each.value:.2f} {each.unit}",
            "met" if each.met else "MISSED",
        ]
        for each in objectives(result)
    ]
    lines.append(table([["objective", "bound", "measured", "verdict"], *promised]))
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="What the backend's log costs.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lines", type=int, default=20_000, help="lines of each logger in a round")
    parser.add_argument("--pays", type=int, default=600, help="payments of each service in a round")
    parser.add_argument("--only", choices=("lines", "pay"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    result: dict[str, Any] = {"cpus": os.cpu_count(), "rounds": options.rounds}
    if options.only != "pay":
        result["lines"] = {
            kind: {name: statistics.median(costs) for name, costs in loggers.items()}
            for kind, loggers in logging_lines.measure(options.rounds, options.lines).items()
        }
    if options.only != "lines":
        result["pay"] = logging_pay.measure(options.rounds, options.pays)
    result["objectives"] = [
        {"name": each.name, "value": each.value, "bound": each.bound, "unit": each.unit, "met": each.met}
        for each in objectives(result)
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "logging.json").write_text(json.dumps(result, indent=2) + "\n")
    (options.out / "logging.txt").write_text(render(result))
    print(render(result), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
