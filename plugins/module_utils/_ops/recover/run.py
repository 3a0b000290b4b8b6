# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole recovery: stages in order, teardown whatever happens, evidence since it was confirmed."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import __version__, clock, locks
from ..backup.catalogue import checked_database
from ..config import Config
from ..errors import ExitCode, OpsError
from ..evidence.publish import publish
from ..evidence.record import DrillRecord, Objective, Subject, Verdict
from ..interruptions import Interruptions
from ..log import Log
from ..progress import Progress
from ..restoring.recording import facts_of, prepared, signing_key
from ..restoring.runner import Report, Runner, Stage
from . import deciding, stages
from .context import Recovery, Request
from .undo import LOCK

SCOPE = "recovery"
_EXIT_CODES = {Verdict.PASSED: ExitCode.PROVEN, Verdict.FAILED: ExitCode.FAILED}
_UNINTERRUPTIBLE = frozenset({"set_aside"})


@dataclass(frozen=True, kw_only=True)
class RecoveryOutcome:
    """How a recovery ended.

    :ivar directory: of its evidence; None: it ended before it was confirmed, or only looked.
    """

    record: DrillRecord
    recovery: Recovery
    directory: Path | None
    dry_run: bool = False

    @property
    def cause(self) -> str:
        """One sentence: why the verdict is what it is."""
        if self.dry_run and self.record.verdict is Verdict.PASSED:
            return "The backup can be recovered on this host; nothing was touched."
        return self.record.cause

    @property
    def exit_code(self) -> ExitCode:
        """0 production is back and equal, 1 failed, 2 could not run."""
        return _EXIT_CODES.get(self.record.verdict, ExitCode.COULD_NOT_RUN)

    @property
    def touched(self) -> bool:
        """Whether the data directory was touched, so that there is something to undo."""
        noted = self.recovery.record
        return noted is not None and noted.step != "undone"

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the command and the module."""
        backup, noted, cluster = self.recovery.backup, self.recovery.record, self.recovery.cluster
        manifest = backup.manifest if backup else None
        release = manifest.release if manifest else None
        aside = noted.aside if noted else cluster and self.recovery.aside(cluster)
        return {
            "verdict": self.record.verdict.value,
            "cause": self.cause,
            "recovery_id": self.record.drill_id,
            "backup_id": manifest.id if manifest else None,
            "manifest_sha256": backup.manifest_sha256 if backup else None,
            "release": vars(release) if release else None,
            "migration_head": manifest.migration_head if manifest else None,
            "data_directory": str(cluster.data) if cluster else None,
            "set_aside": str(aside) if aside else None,
            "touched": self.touched,
            "rto_seconds": self.record.rto.seconds,
            "rpo_seconds": self.record.rpo.seconds,
            "evidence_dir": str(self.directory) if self.directory else None,
            "report_path": str(self.directory / "report.html") if self.directory else None,
            "stages": [
                {"name": stage.name, "verdict": stage.verdict.value, "seconds": round(stage.seconds, 3)}
                for stage in self.record.stages
            ],
        }


def new_recovery_id(moment: datetime) -> str:
    """``recovery-<UTC>-<6 hex>``."""
    return f"recovery-{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def run_recovery(
    config: Config, request: Request, *, dry_run: bool = False, log: Log, progress: Progress
) -> RecoveryOutcome:
    """Bring a database back from a set, and publish the evidence of it.

    :param dry_run: only choose the set and look at the host; nothing is touched and nothing published.
    :raises OpsError: it could not begin (``CONFIG_INVALID``, ``LOCK_HELD``, ``NOT_ROOT``) or its evidence
        could not be written. What goes wrong within a stage is in the record instead.
    """
    checked_database(request.database)
    if os.geteuid() != 0:
        raise OpsError(
            "NOT_ROOT", "Only root may set a data directory aside.", "Run it with sudo on the database host."
        )
    recovery_id = new_recovery_id(clock.now())
    own_log = Log(log.env, recovery_id, list(log.streams))
    log_path = config.state_dir / "recover" / f"{recovery_id}.log"
    interruptions = Interruptions()
    recovery = Recovery(
        recovery_id=recovery_id, config=config, request=request, log=own_log, progress=progress
    )
    runner = Runner(
        own_log,
        progress,
        interruptions,
        after_interruption="The stage teardown says whether anything is left; run it again, or undo it.",
    )
    with interruptions.handled(), _locked(config, request.database, recovery_id):
        if dry_run:
            return _look(recovery, runner)
        log_path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        with own_log.to_file(log_path):
            return _run(recovery, runner, log_path)


@contextmanager
def _locked(config: Config, database: str, recovery_id: str) -> Iterator[None]:
    """No other recovery, and no backup of a database that is about to be replaced."""
    with (
        locks.held(config.lock_dir, LOCK, recovery_id),
        locks.held(config.lock_dir, f"backup-{database}", recovery_id),
    ):
        yield


def _look(recovery: Recovery, runner: Runner) -> RecoveryOutcome:
    began = clock.now(), time.monotonic()
    runner.run(_stages(recovery)[:2])
    record = make_record(recovery, runner, *began)
    return RecoveryOutcome(record=record, recovery=recovery, directory=None, dry_run=True)


def _run(recovery: Recovery, runner: Runner, log_path: Path) -> RecoveryOutcome:
    began = clock.now(), time.monotonic()
    recovery.log.info("recovery_started", database=recovery.request.database)
    swept: list[str] = []
    all_stages = _stages(recovery)
    try:
        runner.run(all_stages[:3])
        if recovery.confirmed and recovery.cluster is not None:
            swept += stages.sweep(recovery.cluster.data, keep=recovery.recovery_id)
        runner.run(all_stages[3:])
    finally:
        runner.run(
            [
                Stage(
                    name="teardown",
                    action=lambda report: stages.teardown(recovery, report, swept),
                    always=True,
                )
            ]
        )
    if not recovery.confirmed:
        # Nothing was touched, so there is nothing to give evidence of.
        log_path.unlink(missing_ok=True)
        record = make_record(recovery, runner, *began)
        return RecoveryOutcome(record=record, recovery=recovery, directory=None)
    runner.run([Stage(name="evidence", action=lambda report: _evidence(recovery, report), always=True)])
    record = make_record(recovery, runner, *began)
    recovery.log.info("recovery_finished", verdict=record.verdict.value, cause=record.cause)
    directory = publish(
        record,
        evidence=recovery.config.evidence,
        log_path=log_path,
        signing_key=signing_key(recovery.config.evidence),
    )
    log_path.unlink(missing_ok=True)
    return RecoveryOutcome(record=record, recovery=recovery, directory=directory)


def _stages(recovery: Recovery) -> list[Stage]:
    """The stages before the teardown, in order."""
    actions: tuple[tuple[str, Callable[[Recovery, Report], None]], ...] = (
        ("select", deciding.select),
        ("preflight", deciding.preflight),
        ("confirm", deciding.confirm),
        ("fetch", stages.fetch),
        ("verify_artefacts", stages.verify_artefacts),
        ("decrypt", stages.decrypt),
        ("provision", stages.provision),
        ("restore", stages.restore),
        ("compare", stages.compare),
        ("stop", stages.stop),
        ("set_aside", stages.set_aside),
        ("settle", stages.settle),
    )

    def stage(name: str, action: Callable[[Recovery, Report], None]) -> Stage:
        return Stage(
            name=name,
            action=lambda report: action(recovery, report),
            interruptible=name not in _UNINTERRUPTIBLE,
        )

    return [stage(name, action) for name, action in actions]


def _evidence(recovery: Recovery, report: Report) -> None:
    """What must be so that the record can be written; without a key it is unsigned, and says so."""
    evidence = recovery.config.evidence
    signed = prepared(evidence, report)
    report.summary = (
        f"The record goes to {evidence.dir}, {'signed' if signed else 'UNSIGNED: there is no key'}."
    )


def make_record(recovery: Recovery, runner: Runner, began: datetime, monotonic: float) -> DrillRecord:
    """The record of a recovery that has ended."""
    backup, request = recovery.backup, recovery.request
    manifest = backup.manifest if backup else None
    newest = manifest.newest_change_at if manifest else None
    settled = runner.result("settle")
    back = settled is not None and settled.verdict is Verdict.PASSED
    return DrillRecord(
        drill_id=recovery.recovery_id,
        environment=recovery.config.environment,
        host=socket.gethostname(),
        tool_version=__version__,
        scope=SCOPE,
        started_at=began,
        finished_at=clock.now(),
        stages=tuple(runner.results),
        subjects=(
            (Subject(name=f"{backup.prefix}/manifest.json", sha256=backup.manifest_sha256),) if backup else ()
        ),
        rto=Objective(
            seconds=runner.ended_at["settle"] - monotonic if back else None,
            objective_seconds=request.rto_objective_seconds,
        ),
        rpo=Objective(
            seconds=max(0.0, (began - newest).total_seconds()) if newest else None,
            objective_seconds=request.rpo_objective_seconds,
        ),
        newest_change_at=newest,
        rpo_basis=manifest.newest_change_basis if manifest else None,
        backup=facts_of(backup) if backup else {},
    )
