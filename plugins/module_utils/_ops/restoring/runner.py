# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs stages in order and turns what happens in each into a verdict."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import OpsError
from ..evidence.record import Check, StageResult, Verdict
from ..interruptions import Interruptions
from ..log import Log
from ..progress import Progress

FAILED_CODES = frozenset(
    {
        "APPLICATION_DID_NOT_START",
        "APPLICATION_NOT_READY",
        "BACKUP_DAMAGED",
        "BACKUP_MISSING",
        "BACKUP_UNFINISHED",
        "CIPHERTEXT_DAMAGED",
        "DUMP_INVALID",
        "IDENTITY_WRONG",
        "LEFTOVERS",
        "MANIFEST_INVALID",
        "MANIFEST_MISPLACED",
        "NO_BACKUP",
        "NO_PROVEN_BACKUP",
        "RELEASE_MISSING",
        "RESTORE_FAILED",
        "SIGNATURE_INVALID",
        "STORE_OBJECT_MISSING",
        "USER_NOT_CREATED",
    }
)
"""Errors that answer the question of the drill with no: what had to be proven was looked at and is wrong.

Every other error only says that the question could not be decided here (no space, no network, a
missing program), and its stage is ``unknown``.
"""


@dataclass
class Report:
    """What a stage found; the verdict follows from its checks."""

    summary: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    def check(
        self, name: str, met: bool | None, expected: object, observed: object, detail: str = ""
    ) -> bool:
        """Add a check and return whether it passed. ``met`` None means that it could not be decided."""
        verdict = {True: Verdict.PASSED, False: Verdict.FAILED, None: Verdict.UNKNOWN}[met]
        self.checks.append(
            Check(name=name, verdict=verdict, expected=str(expected), observed=str(observed), detail=detail)
        )
        return met is True

    @property
    def verdict(self) -> Verdict:
        """Failed when a check failed, else unknown when one is, else passed."""
        verdicts = {check.verdict for check in self.checks}
        if Verdict.FAILED in verdicts:
            return Verdict.FAILED
        return Verdict.UNKNOWN if verdicts - {Verdict.PASSED} else Verdict.PASSED


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: its name and what it does.

    :ivar action: gets an empty report to fill.
    :ivar required: without it the drill cannot pass.
    :ivar skipped: why it is not run at all; only a stage that is not required may be skipped.
    :ivar always: runs even after a failed one and after an interruption.
    :ivar interruptible: a signal ends it; one that comes while another kind runs waits for the next.
    """

    name: str
    action: Callable[[Report], None]
    required: bool = True
    skipped: str = ""
    always: bool = False
    interruptible: bool = True


@dataclass
class Runner:
    """Keeps the results of the stages that ended, in order.

    :ivar ended_at: ``time.monotonic()`` at the end of each stage that ran.
    :ivar after_interruption: what to do after a signal ended a stage.
    """

    log: Log
    progress: Progress
    interruptions: Interruptions
    results: list[StageResult] = field(default_factory=list)
    ended_at: dict[str, float] = field(default_factory=dict)
    blocked_by: str = ""
    after_interruption: str = "Run the drill again; the teardown below says whether anything is left."

    def run(self, stages: Sequence[Stage]) -> None:
        """Run stages in order; the results are appended to :attr:`results`. Nothing is raised."""
        for stage in stages:
            if stage.skipped:
                self._add(_not_run(stage, stage.skipped))
            elif self.blocked_by and not stage.always:
                self._add(_not_run(stage, f"{self.blocked_by} did not pass."))
            else:
                result = self._execute(stage)
                self._add(result)
                if stage.required and result.verdict is not Verdict.PASSED and not self.blocked_by:
                    self.blocked_by = stage.name

    def result(self, name: str) -> StageResult | None:
        """The result of a stage that ended."""
        return next((result for result in self.results if result.name == name), None)

    def _execute(self, stage: Stage) -> StageResult:
        self.progress.started(stage.name)
        self.log.info("stage_started", stage=stage.name)
        report = Report()
        error: dict[str, str] | None = None
        verdict: Verdict | None = None
        began = time.monotonic()
        try:
            with self._allowance(stage):
                stage.action(report)
        except OpsError as problem:
            verdict, error = verdict_of(problem), problem.as_dict()
            self.log.error("stage_error", problem, stage=stage.name)
        except KeyboardInterrupt as signal:
            verdict, error = Verdict.UNKNOWN, _interruption(stage.name, signal, self.after_interruption)
            self.log.error("stage_interrupted", signal, stage=stage.name)
        except Exception as defect:  # noqa: BLE001 - a defect must not keep the teardown from running
            verdict, error = Verdict.UNKNOWN, _internal(stage.name, defect)
            self.log.error("stage_error", defect, stage=stage.name)
        self.ended_at[stage.name] = time.monotonic()
        # A check that already failed says more than an error that followed it.
        if verdict is None or report.verdict is Verdict.FAILED:
            verdict = report.verdict
        return StageResult(
            name=stage.name,
            required=stage.required,
            verdict=verdict,
            seconds=self.ended_at[stage.name] - began,
            summary=report.summary or (error["message"] if error else _first_problem(report)),
            facts=report.facts,
            checks=tuple(report.checks),
            error=error,
        )

    def _allowance(self, stage: Stage) -> contextlib.AbstractContextManager[None]:
        if stage.always or not stage.interruptible:
            return contextlib.nullcontext()
        return self.interruptions.allowed()

    def _add(self, result: StageResult) -> None:
        self.results.append(result)
        self.log.info(
            "stage_finished",
            stage=result.name,
            verdict=result.verdict.value,
            seconds=round(result.seconds, 3),
            summary=result.summary,
        )
        for check in result.checks:
            if check.verdict is not Verdict.PASSED:
                self.log.warn(
                    "check_not_passed",
                    stage=result.name,
                    check=check.name,
                    verdict=check.verdict.value,
                    expected=check.expected,
                    observed=check.observed,
                )
        self.progress.finished(result.name, result.verdict.value, result.seconds, result.summary)


def verdict_of(error: OpsError) -> Verdict:
    """Failed when the error answers the drill's question with no, unknown when it only prevents an answer."""
    return Verdict.FAILED if error.code in FAILED_CODES else Verdict.UNKNOWN


def _first_problem(report: Report) -> str:
    for wanted in (Verdict.FAILED, Verdict.UNKNOWN):
        problems = [check for check in report.checks if check.verdict is wanted]
        if problems:
            first = problems[0]
            more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
            return f"{first.name}: expected {first.expected}, observed {first.observed}{more}."
    return ""


def _not_run(stage: Stage, why: str) -> StageResult:
    return StageResult(
        name=stage.name, required=stage.required, verdict=Verdict.NOT_RUN, seconds=0.0, summary=why
    )


def _interruption(stage: str, signal: KeyboardInterrupt, action: str) -> dict[str, str]:
    how = signal.args[0] if signal.args else "SIGINT"
    return {
        "code": "INTERRUPTED",
        "message": f"interrupted in {stage} by {how}",
        "action": action,
    }


def _internal(stage: str, defect: Exception) -> dict[str, str]:
    return {
        "code": "INTERNAL",
        "message": f"{stage} ended with {type(defect).__name__}: {str(defect)[:500]}",
        "action": "Read drill.log for the stack, and report it as a defect.",
    }
