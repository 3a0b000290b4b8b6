#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints what a drill proved, from its evidence: stages, verdict, RTO, RPO, path of the report."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(directory: Path) -> None:
    """Print the summary of one evidence directory."""
    predicate = json.loads((directory / "evidence.json").read_text(encoding="utf-8"))["predicate"]
    print()
    for stage in predicate["stages"]:
        print(f"  {stage['verdict']:<8} {stage['name']:<17} {stage['seconds']:>8.2f} s  {stage['summary']}")
    backup = predicate["backup"]
    print()
    print(f"  backup   {backup['id']}  {backup['tables']} tables, {backup['rows']} rows")
    for name, key in (("RTO", "rto"), ("RPO", "rpo")):
        measured = predicate[key]["seconds"]
        text = "not measured" if measured is None else f"{measured:.1f} s"
        print(f"  {name}      {text}  (objective {predicate[key]['objectiveSeconds']} s)")
    print(f"  verdict  {predicate['verdict'].upper()}  {predicate['cause']}")
    print(f"  report   {(directory / 'report.html').resolve()}")
    print()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
