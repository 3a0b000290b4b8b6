# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts of stages: what stops a drill, what never counts as passed, what always runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops.errors import OpsError
from pharma_ops.evidence.record import Verdict
from pharma_ops.interruptions import Interrupted, Interruptions
from pharma_ops.log import Log
from pharma_ops.progress import Silent
from pharma_ops.restoring.runner import FAILED_CODES, Report, Runner, Stage, verdict_of

Action = Callable[[Report], None]


def runner() -> Runner:
    log = Log("lab", "drill-test-1", [])
    return Runner(log, Silent(), Interruptions())


def passes(report: Report) -> None:
    report.check("a", True, 1, 1)


def fails(report: Report) -> None:
    report.check("a", False, "equal", "different")


def cannot_tell(report: Report) -> None:
    report.check("a", None, "equal", "nothing to look at")


def raises(error: BaseException) -> Action:
    def action(_report: Report) -> None:
        raise error

    return action


BEHAVIOURS: dict[str, tuple[Action, Verdict]] = {
    "passes": (passes, Verdict.PASSED),
    "fails": (fails, Verdict.FAILED),
    "cannot tell": (cannot_tell, Verdict.UNKNOWN),
    "wrong data": (raises(OpsError("RESTORE_FAILED", "It failed.")), Verdict.FAILED),
    "no store": (raises(OpsError("STORE_UNREACHABLE", "No store.")), Verdict.UNKNOWN),
    "defect": (raises(ZeroDivisionError("x")), Verdict.UNKNOWN),
    "interrupted": (raises(Interrupted("SIGTERM")), Verdict.UNKNOWN),
}


@given(st.lists(st.sampled_from(sorted(BEHAVIOURS)), max_size=6))
def test_everything_after_the_first_problem_is_not_run_but_the_teardown(names: list[str]) -> None:
    run = runner()
    run.run([Stage(name=str(number), action=BEHAVIOURS[name][0]) for number, name in enumerate(names)])
    run.run([Stage(name="teardown", action=passes, always=True)])
    expected = []
    for name in names:
        problem = next((verdict for verdict in expected if verdict is not Verdict.PASSED), None)
        expected.append(Verdict.NOT_RUN if problem else BEHAVIOURS[name][1])
    assert [result.verdict for result in run.results] == [*expected, Verdict.PASSED]
    assert all(result.summary or result.verdict is Verdict.PASSED for result in run.results)


def test_a_failed_check_outweighs_the_error_that_followed_it() -> None:
    def action(report: Report) -> None:
        fails(report)
        raise OpsError("STORE_UNREACHABLE", "No store.")

    run = runner()
    run.run([Stage(name="x", action=action)])
    assert run.results[0].verdict is Verdict.FAILED
    assert run.results[0].error is not None


def test_a_skipped_stage_blocks_nothing_and_says_why() -> None:
    run = runner()
    run.run(
        [
            Stage(name="a", action=fails, required=False, skipped="No manifest."),
            Stage(name="b", action=passes),
        ]
    )
    assert [(result.verdict, result.summary) for result in run.results] == [
        (Verdict.NOT_RUN, "No manifest."),
        (Verdict.PASSED, ""),
    ]


def test_the_interrupted_stage_is_named() -> None:
    run = runner()
    run.run([Stage(name="restore", action=raises(Interrupted("SIGTERM")))])
    assert run.results[0].error is not None
    assert run.results[0].error["message"] == "interrupted in restore by SIGTERM"


@pytest.mark.parametrize("code", sorted(FAILED_CODES))
def test_errors_that_answer_the_question_fail(code: str) -> None:
    assert verdict_of(OpsError(code, "x")) is Verdict.FAILED


@given(st.text())
def test_every_other_error_leaves_it_open(code: str) -> None:
    expected = Verdict.FAILED if code in FAILED_CODES else Verdict.UNKNOWN
    assert verdict_of(OpsError(code, "x")) is expected


def test_a_signal_between_stages_ends_the_next_one_and_not_the_teardown() -> None:
    log = Log("lab", "drill-test-1", [])
    interruptions = Interruptions()
    run = Runner(log, Silent(), interruptions)
    # A shell that starts something in the background has it ignore SIGINT.
    before = signal.getsignal(signal.SIGINT)
    with interruptions.handled():
        run.run([Stage(name="first", action=passes)])
        os.kill(os.getpid(), signal.SIGTERM)
        run.run([Stage(name="second", action=passes)])
        run.run([Stage(name="teardown", action=lambda _: os.kill(os.getpid(), signal.SIGINT), always=True)])
    found = [result.verdict for result in run.results]
    assert found == [Verdict.PASSED, Verdict.UNKNOWN, Verdict.PASSED]
    assert signal.getsignal(signal.SIGINT) is before
