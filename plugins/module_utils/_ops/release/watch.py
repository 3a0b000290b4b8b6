# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches a release that has just begun to serve, and says when it must go."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ..evidence.record import Verdict
from . import stages, units
from .access import Counter, Tail
from .deployment import Deployment, Report
from .gate import Decision, Judgement, judge
from .probe import problem_of

INTERVAL_SECONDS = 1.0
UNREADY_CHECKS = 3
"""So many answers in a row that are not ready end the watch."""


@dataclass
class Watcher:
    """Looks once a second at the requests, the process and the readiness of the new colour."""

    deployment: Deployment
    tail: Tail
    counter: Counter
    first: units.State
    unready: int = 0
    last_problem: str = ""
    notes: list[str] = field(default_factory=list)

    def look(self) -> Judgement:
        """One look; the requests so far are kept in the deployment."""
        for line in self.tail.lines():
            self.counter.add(line)
        self.deployment.requests = self.counter.requests()
        return self._life() or judge(self.deployment.requests, self.deployment.run.layout.settings)

    def _life(self) -> Judgement | None:
        run, colour = self.deployment.run, self.deployment.colour
        state = units.state(run.layout.unit(colour))
        if not state.running or not state.same_process(self.first):
            return Judgement(Decision.GO_BACK, f"the process of {colour} ended")
        answer = run.prober.ask(run.layout.socket(colour))
        self.last_problem = problem_of(answer, self.deployment.release.version, run.layout.settings)
        self.unready = self.unready + 1 if self.last_problem else 0
        if self.unready >= UNREADY_CHECKS:
            return Judgement(
                Decision.GO_BACK, f"{colour} was not ready {self.unready} times in a row: {self.last_problem}"
            )
        return None


def watch(deployment: Deployment, tail: Tail, report: Report) -> str:
    """Watch for the configured time; why to switch back, or nothing.

    :param tail: opened before the switch, so that no line is missed.
    """
    run, settings = deployment.run, deployment.run.layout.settings
    since = deployment.switched_at if deployment.switched_at is not None else time.time()
    watcher = Watcher(deployment, tail, Counter(since), units.state(run.layout.unit(deployment.colour)))
    began = time.monotonic()
    while True:
        judgement = watcher.look()
        spent = time.monotonic() - began
        run.progress.advanced("watch", int(spent), settings.watch_seconds, "seconds")
        if judgement.decision is Decision.GO_BACK and not _old_is_worse(deployment, watcher):
            report.verdict = Verdict.FAILED
            report.detail = f"After {spent:.0f} s {judgement.cause}."
            return judgement.cause
        if spent >= settings.watch_seconds:
            break
        time.sleep(min(INTERVAL_SECONDS, max(0.0, settings.watch_seconds - spent)))
    _sum_up(judgement, watcher, report)
    return ""


def _old_is_worse(deployment: Deployment, watcher: Watcher) -> bool:
    """Whether the colour before is not ready while the new one is: then going back would help nobody."""
    layout, old = deployment.run.layout, deployment.previous_colour
    if watcher.last_problem or old is None or deployment.previous is None:
        return False
    if not units.state(layout.unit(deployment.colour)).running:
        return False
    if stages.is_ready(layout, deployment.run.prober, old, deployment.previous.version):
        return False
    if units.state(layout.unit(old)).dead:
        units.start(layout.unit(old))
    note = f"{old} is not ready to take over"
    if note not in watcher.notes:
        watcher.notes.append(note)
        deployment.run.log.warn("switch_back_impossible", colour=old)
    return True


def _sum_up(judgement: Judgement, watcher: Watcher, report: Report) -> None:
    report.verdict = {
        Decision.GO_ON: Verdict.PASSED,
        Decision.UNDECIDED: Verdict.UNKNOWN,
        Decision.GO_BACK: Verdict.FAILED,
    }[judgement.decision]
    parts = [judgement.cause, *watcher.notes]
    if watcher.counter.unreadable:
        parts.append(f"{watcher.counter.unreadable} lines of the access log are no requests")
    report.detail = "; ".join(parts) + "."
