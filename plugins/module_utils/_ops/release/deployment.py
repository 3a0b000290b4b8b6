# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One deployment under way: what it was asked for, where it stands, its stages."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from .. import clock
from ..config import Config
from ..errors import OpsError
from ..evidence.record import Verdict
from ..interruptions import Interrupted, Interruptions
from ..log import Log
from ..progress import Progress
from . import journal, marker
from .gate import Requests
from .journal import Action, Record, Result, StageResult
from .layout import Layout, Release
from .marker import Marker
from .probe import Prober


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every command works with.

    :ivar state_dir: directory of the journal and the marker.
    """

    id: str
    layout: Layout
    state_dir: Path
    who: str
    log: Log
    progress: Progress
    prober: Prober
    interruptions: Interruptions
    started_at: datetime

    @property
    def journal(self) -> Path:
        """The journal of the service."""
        return journal.path(self.state_dir, self.layout.service)

    @property
    def marker(self) -> Path:
        """The marker of the service."""
        return marker.path(self.state_dir, self.layout.service)


@dataclass
class Report:
    """What a stage found; ``verdict`` other than passed ends nothing by itself."""

    detail: str = ""
    verdict: Verdict = Verdict.PASSED


@dataclass(kw_only=True)
class Deployment:
    """One deployment.

    :ivar colour: where the release is to serve.
    :ivar previous_colour: what serves at the beginning; None: nothing was ever deployed.
    :ivar held_before: the release that ``colour`` holds at the beginning.
    :ivar switched_at: epoch seconds of the switch.
    """

    run: Run
    action: Action
    release: Release
    colour: str
    previous_colour: str | None
    previous: Release | None
    held_before: Release | None
    stages: list[StageResult] = field(default_factory=list)
    switched_at: float | None = None
    requests: Requests | None = None
    owns_colour: bool = False

    @contextmanager
    def stage(self, name: str, *, interruptible: bool = True) -> Iterator[Report]:
        """Time a stage, tell its progress, keep its result; a signal ends it when it may be interrupted.

        :raises OpsError: what the stage raised; ``INTERRUPTED`` for a signal.
        """
        run = self.run
        self.note(name)
        run.progress.started(name)
        report = Report()
        began = time.monotonic()
        try:
            with run.interruptions.allowed() if interruptible else contextlib.nullcontext():
                yield report
        except KeyboardInterrupt as signal:
            error = _interruption(name, signal)
            self.add(name, Verdict.UNKNOWN, time.monotonic() - began, error.message)
            raise error from signal
        except OpsError as problem:
            self.add(name, Verdict.FAILED, time.monotonic() - began, problem.message)
            raise
        except Exception as defect:
            run.log.error("stage_error", defect, stage=name)
            error = OpsError("INTERNAL", f"{name} ended with {type(defect).__name__}: {str(defect)[:300]}.")
            self.add(name, Verdict.UNKNOWN, time.monotonic() - began, error.message)
            raise error from defect
        self.add(name, report.verdict, time.monotonic() - began, report.detail)

    def skip(self, name: str, why: str) -> None:
        """Note a stage that this deployment does not need."""
        self.add(name, Verdict.NOT_RUN, 0.0, why)

    def add(self, name: str, verdict: Verdict, seconds: float, detail: str) -> None:
        """Keep the result of a stage."""
        self.stages.append(StageResult(name=name, verdict=verdict.value, seconds=seconds, detail=detail))
        self.run.progress.finished(name, verdict.value, seconds, detail)

    def own_colour(self, stage: str) -> None:
        """Note durably, before it happens, that the idle colour is no longer what it was."""
        self.owns_colour = True
        self.note(stage)

    def note(self, stage: str) -> None:
        """Write the marker. A full disk must not keep anybody from going back, so it is only said."""
        try:
            marker.write(self.run.marker, self.marker(stage))
        except (OpsError, OSError) as problem:
            self.run.log.error("marker_not_written", problem, stage=stage)

    def marker(self, stage: str) -> Marker:
        """What the next engine must know if this one is killed now."""
        return Marker(
            id=self.run.id,
            action=self.action,
            version=self.release.version,
            digest=self.release.digest,
            colour=self.colour,
            previous_colour=self.previous_colour,
            previous_version=self.previous.version if self.previous else None,
            previous_digest=self.previous.digest if self.previous else None,
            held_before=self.held_before.version if self.held_before else None,
            who=self.run.who,
            started_at=self.run.started_at,
            owns_colour=self.owns_colour,
            stage=stage,
        )

    def finish(self, verdict: Result, problem: OpsError | None = None, cause: str = "") -> Record:
        """Write the record, forget the marker."""
        record = record_of(
            self.marker("finished"),
            self.run.layout.service,
            verdict,
            cause=problem.message if problem else cause,
            code=problem.code if problem else None,
            stages=tuple(self.stages),
            requests=self.requests,
        )
        journal.append(self.run.journal, record)
        marker.remove(self.run.marker)
        self.run.log.info("release_finished", **summary(record))
        return record


def record_of(
    noted: Marker,
    service: str,
    verdict: Result,
    *,
    cause: str,
    code: str | None,
    stages: tuple[StageResult, ...] = (),
    requests: Requests | None = None,
) -> Record:
    """The record of a deployment that ends now."""
    return Record(
        id=noted.id,
        action=noted.action,
        service=service,
        version=noted.version,
        digest=noted.digest,
        previous_version=noted.previous_version,
        previous_digest=noted.previous_digest,
        colour=noted.colour,
        who=noted.who,
        host=socket.gethostname(),
        started_at=noted.started_at,
        finished_at=clock.now(),
        verdict=verdict,
        cause=cause,
        code=code,
        stages=stages,
        requests=requests,
    )


def summary(record: Record) -> dict[str, object]:
    """The facts of a record for a log line."""
    return {
        "releaseId": record.id,
        "service": record.service,
        "action": record.action.value,
        "version": record.version,
        "colour": record.colour,
        "verdict": record.verdict.value,
        "cause": record.cause,
    }


def new_id(moment: datetime) -> str:
    """``release-<UTC>-<6 hex>``."""
    return f"release-{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def whoami() -> str:
    """The person behind this process, as far as the host knows."""
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def new_run(
    config: Config,
    layout: Layout,
    *,
    who: str,
    log: Log,
    progress: Progress,
    prober: Prober,
    interruptions: Interruptions,
) -> Run:
    """What a command works with; the log's lines carry the run's id."""
    moment = clock.now()
    name = new_id(moment)
    return Run(
        id=name,
        layout=layout,
        state_dir=config.state_dir,
        who=who,
        log=Log(log.env, name, list(log.streams)),
        progress=progress,
        prober=prober,
        interruptions=interruptions,
        started_at=moment,
    )


def _interruption(stage: str, signal: KeyboardInterrupt) -> OpsError:
    how = signal.args[0] if isinstance(signal, Interrupted) else "SIGINT"
    return OpsError("INTERRUPTED", f"The deployment was interrupted in {stage} by {how}.", "Run it again.")
