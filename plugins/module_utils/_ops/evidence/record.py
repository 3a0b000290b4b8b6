# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a drill as plain data, and the in-toto statement that is made of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from .. import clock

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "tag:pharma.hardening,2026:drill/v1"
SCHEMA_VERSION = 1


class Verdict(StrEnum):
    """How a check, a stage or a drill ended.

    ``limited`` is a drill's alone: all that could be asked of a bare dump file passed.
    """

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_RUN = "not_run"
    LIMITED = "limited"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing a stage looked at: what was expected, what was there."""

    name: str
    verdict: Verdict
    expected: str
    observed: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """One stage of a drill. ``summary`` is one English sentence; ``facts`` are JSON values.

    ``error`` is ``OpsError.as_dict()`` (code, message, action) of what ended the stage.
    """

    name: str
    required: bool
    verdict: Verdict
    seconds: float
    summary: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    error: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A measured time against its objective, both in seconds; None: it was not measured.

    The time is kept in whole milliseconds, as it is written: what follows from it must be the same for
    whoever reads the evidence.
    """

    seconds: float | None
    objective_seconds: float

    def __post_init__(self) -> None:
        if self.seconds is not None:
            object.__setattr__(self, "seconds", round(self.seconds, 3))

    @property
    def met(self) -> bool | None:
        """Whether the measured time is within the objective."""
        return None if self.seconds is None else self.seconds <= self.objective_seconds


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What the evidence is about, bound by its digest."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class DrillRecord:
    """A whole drill.

    :ivar scope: ``full``, ``dump`` for a bare dump file, or ``recovery`` of production.
    :ivar rpo_basis: where ``newest_change_at`` comes from: ``commit_timestamp``, ``snapshot`` or, of a
        dump made by others, ``dump_header``.
    :ivar backup: id, database, serverVersion, startedAt, finishedAt, sourceHost, store, tables, rows, bytes.
    :ivar release: name, version, digest; empty when the drill started none.
    :ivar prev: sha256 of the previous drill's line in the same ledger; None for the first.
    """

    drill_id: str
    environment: str
    host: str
    tool_version: str
    scope: str
    started_at: datetime
    finished_at: datetime
    stages: tuple[StageResult, ...]
    subjects: tuple[Subject, ...]
    rto: Objective
    rpo: Objective
    newest_change_at: datetime | None = None
    rpo_basis: str | None = None
    backup: dict[str, Any] = field(default_factory=dict)
    release: dict[str, Any] = field(default_factory=dict)
    prev: str | None = None

    @property
    def verdict(self) -> Verdict:
        """See :func:`overall_verdict`; a missed objective fails a drill too, but no recovery is undone by it."""
        verdict = overall_verdict(self.stages, limited=self.scope == "dump")
        if self.scope == "recovery":
            return verdict
        if verdict is Verdict.LIMITED and self.rpo.met is False:
            # Measured only of a dump in a store, where the job that makes them has stopped.
            return Verdict.FAILED
        if verdict is Verdict.PASSED and (self.rto.met is not True or self.rpo.met is not True):
            return Verdict.FAILED if False in (self.rto.met, self.rpo.met) else Verdict.UNKNOWN
        return verdict

    @property
    def cause(self) -> str:
        """One English sentence: why the verdict is what it is."""
        if stage := self.decisive_stage:
            return f"{stage.name}: {stage.error['message'] if stage.error else stage.summary}"
        for name, objective in (("RTO", self.rto), ("RPO", self.rpo)):
            if objective.met is False and self.scope != "recovery":
                measured, wanted = f"{objective.seconds:.1f} s", f"{objective.objective_seconds:g} s"
                return f"{name} objective missed: {measured} of {wanted}."
        if self.verdict is Verdict.LIMITED:
            return "The dump file restores; without a manifest nothing shows that it equals its source."
        if self.verdict is Verdict.PASSED and self.scope == "recovery":
            return "Every stage passed: the database is back and equals its backup."
        if self.verdict is Verdict.PASSED:
            return "Every stage passed: the backup equals its source and the release sells on it."
        if stage := next((s for s in self.stages if s.required and s.verdict is Verdict.NOT_RUN), None):
            return f"{stage.name} was not run."
        return "RTO or RPO was not measured." if self.stages else "No stage was run."

    @property
    def decisive_stage(self) -> StageResult | None:
        """The first required stage that failed or, when none failed, that could not be decided."""
        for wanted in (Verdict.FAILED, Verdict.UNKNOWN):
            for stage in self.stages:
                if stage.required and stage.verdict is wanted:
                    return stage
        return None


def overall_verdict(stages: Iterable[StageResult], *, limited: bool = False) -> Verdict:
    """The verdict of a drill: unknown and not_run never count as passed.

    :param limited: the scope cannot prove everything, so the best word is ``limited``.
    """
    required = [stage for stage in stages if stage.required]
    verdicts = {stage.verdict for stage in required}
    if Verdict.FAILED in verdicts:
        return Verdict.FAILED
    if not required or verdicts != {Verdict.PASSED}:
        return Verdict.UNKNOWN
    return Verdict.LIMITED if limited else Verdict.PASSED


def statement(record: DrillRecord) -> dict[str, Any]:
    """The in-toto Statement v1 of a drill (docs/schemas/evidence.schema.json)."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": subject.name, "digest": {"sha256": subject.sha256}} for subject in record.subjects
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "schemaVersion": SCHEMA_VERSION,
            "drillId": record.drill_id,
            "environment": record.environment,
            "host": record.host,
            "tool": {"name": "pharma-ops", "version": record.tool_version},
            "scope": record.scope,
            "verdict": record.verdict.value,
            "cause": record.cause,
            "startedAt": clock.to_text(record.started_at),
            "finishedAt": clock.to_text(record.finished_at),
            "rto": _objective(record.rto),
            "rpo": _objective(record.rpo)
            | {
                "newestChangeAt": clock.to_text(record.newest_change_at) if record.newest_change_at else None,
                "basis": record.rpo_basis,
            },
            "backup": _plain(record.backup),
            "release": _plain(record.release),
            "stages": [_stage(stage) for stage in record.stages],
            "prev": record.prev,
        },
    }


def _plain(value: Any) -> Any:
    """The value as JSON can hold it; a fact of an odd type must not cost a whole drill its evidence."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime) and value.tzinfo is not None:
        return clock.to_text(value)
    return str(value).encode("utf-8", "replace").decode()


def _objective(objective: Objective) -> dict[str, Any]:
    return {
        "seconds": objective.seconds,
        "objectiveSeconds": objective.objective_seconds,
        "met": objective.met,
    }


def _stage(stage: StageResult) -> dict[str, Any]:
    return {
        "name": stage.name,
        "required": stage.required,
        "verdict": stage.verdict.value,
        "seconds": round(stage.seconds, 3),
        "summary": stage.summary,
        "facts": _plain(stage.facts),
        "checks": [
            {
                "name": check.name,
                "verdict": check.verdict.value,
                "expected": check.expected,
                "observed": check.observed,
                "detail": check.detail,
            }
            for check in stage.checks
        ],
        "error": stage.error,
    }
