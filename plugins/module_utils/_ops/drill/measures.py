# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill tells Prometheus: its verdict, what it measured, and when a set was last proven."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import metrics
from ..config import Config
from ..errors import OpsError
from ..evidence.record import DrillRecord, Verdict
from ..files import write_atomic
from ..log import Log
from ..metrics import Gauge

JOB = "drill"
SCHEMA_VERSION = 1
VERDICTS = tuple(verdict.value for verdict in Verdict if verdict not in (Verdict.NOT_RUN, Verdict.LIMITED))


@dataclass(frozen=True, kw_only=True)
class Measures:
    """The drills of one database: the last one, and when one last passed (Unix seconds; None: never).

    :ivar rto_seconds: None: the last drill did not measure it; ``rpo_seconds`` likewise.
    """

    database: str
    last_run: float
    verdict: str
    rto_seconds: float | None
    rpo_seconds: float | None
    last_proven: float | None

    def as_dict(self) -> dict[str, Any]:
        """As it is kept for the next drill."""
        return {
            "schemaVersion": SCHEMA_VERSION,
            "database": self.database,
            "lastRun": self.last_run,
            "verdict": self.verdict,
            "rtoSeconds": self.rto_seconds,
            "rpoSeconds": self.rpo_seconds,
            "lastProven": self.last_proven,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Measures:
        """What :meth:`as_dict` made.

        :raises KeyError, TypeError, ValueError: it is something else.
        """
        if data["schemaVersion"] != SCHEMA_VERSION:
            raise ValueError("its schema version is not known")
        return cls(
            database=str(data["database"]),
            last_run=float(data["lastRun"]),
            verdict=str(data["verdict"]),
            rto_seconds=_number(data["rtoSeconds"]),
            rpo_seconds=_number(data["rpoSeconds"]),
            last_proven=_number(data["lastProven"]),
        )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def of_record(record: DrillRecord, database: str, before: Measures | None) -> Measures:
    """The measures after a drill."""
    finished = record.finished_at.timestamp()
    proven = record.verdict is Verdict.PASSED
    return Measures(
        database=database,
        last_run=finished,
        verdict=record.verdict.value,
        rto_seconds=record.rto.seconds,
        rpo_seconds=record.rpo.seconds,
        last_proven=finished if proven else (before.last_proven if before else None),
    )


def gauges(all_measures: list[Measures]) -> tuple[Gauge, ...]:
    """The metrics of the drills of all databases."""

    def samples(name: str) -> tuple[tuple[dict[str, str], float], ...]:
        values = [(one.database, getattr(one, name)) for one in all_measures]
        return tuple(({"database": database}, value) for database, value in values if value is not None)

    return (
        Gauge("pharma_drill_last_run_timestamp_seconds", "When the last drill ended.", samples("last_run")),
        Gauge(
            "pharma_drill_last_proven_timestamp_seconds",
            "When a drill last passed.",
            samples("last_proven"),
        ),
        Gauge(
            "pharma_drill_last_verdict",
            "1 for the verdict of the last drill, 0 for the others.",
            tuple(
                ({"database": one.database, "verdict": verdict}, float(one.verdict == verdict))
                for one in all_measures
                for verdict in VERDICTS
            ),
        ),
        Gauge(
            "pharma_drill_rto_seconds",
            "From the beginning of the last drill to the end of its journey.",
            samples("rto_seconds"),
        ),
        Gauge(
            "pharma_drill_rpo_seconds",
            "Age of the newest change that the last drill restored.",
            samples("rpo_seconds"),
        ),
    )


def publish(config: Config, record: DrillRecord, log: Log) -> None:
    """Write the metrics of a drill of a set; whatever goes wrong is logged, for the verdict stands already."""
    database = record.backup.get("database") or (config.drill.database if config.drill else "")
    if record.scope != "full" or not database:
        return
    try:
        directory = config.state_dir / "drill-measures"
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        path = directory / f"{database}.json"
        measures = of_record(record, str(database), _read(path, log))
        write_atomic(path, (json.dumps(measures.as_dict(), sort_keys=True) + "\n").encode())
        metrics.publish(config.metrics_dir, JOB, gauges(read_all(config, log)))
    except (OpsError, OSError, ValueError) as error:
        log.error("metrics_not_written", error, job=JOB)


def read_all(config: Config, log: Log) -> list[Measures]:
    """The measures of all databases that were drilled on this host."""
    found = (_read(path, log) for path in sorted((config.state_dir / "drill-measures").glob("*.json")))
    return [one for one in found if one]


def _read(path: Path, log: Log) -> Measures | None:
    try:
        return Measures.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.error("record_damaged", error, file=str(path))
        return None
