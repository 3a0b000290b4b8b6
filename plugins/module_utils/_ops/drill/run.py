# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole drill: stages in order, teardown and evidence whatever happens, one record."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import __version__, clock, locks
from ..backup.foreign import source as foreign_source
from ..config import Config
from ..errors import ExitCode, OpsError
from ..evidence import escrow
from ..evidence.publish import publish
from ..evidence.record import DrillRecord, Objective, Subject, Verdict
from ..files import sha256_of
from ..interruptions import Interruptions
from ..log import Log
from ..progress import Progress
from ..restoring.recording import facts_of, prepared, signing_key
from ..restoring.runner import Report, Runner, Stage
from . import acquire, application, archive, foreign, measures, preflight, proving, restoring, workspace
from .context import Drill, ForeignDrill
from .teardown import teardown
from .workspace import Workspace

LOCK = "drill"
_EXIT_CODES = {
    Verdict.PASSED: ExitCode.PROVEN,
    Verdict.LIMITED: ExitCode.PROVEN,
    Verdict.FAILED: ExitCode.FAILED,
}


@dataclass(frozen=True)
class DrillOutcome:
    """How a drill ended, and the directory of its evidence."""

    record: DrillRecord
    directory: Path

    @property
    def exit_code(self) -> ExitCode:
        """0 proven, 1 failed, 2 undecided."""
        return _EXIT_CODES.get(self.record.verdict, ExitCode.COULD_NOT_RUN)

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the command and the module."""
        record = self.record
        return {
            "verdict": record.verdict.value,
            "cause": record.cause,
            "drill_id": record.drill_id,
            "backup_id": record.backup.get("id"),
            "rto_seconds": _rounded(record.rto.seconds),
            "rpo_seconds": _rounded(record.rpo.seconds),
            "report_path": str(self.directory / "report.html"),
            "evidence_dir": str(self.directory),
            "stages": [
                {"name": stage.name, "verdict": stage.verdict.value, "seconds": round(stage.seconds, 3)}
                for stage in record.stages
            ],
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


@dataclass
class _Clock:
    """When the drill began, by the wall and by the monotonic clock."""

    wall: datetime = field(default_factory=clock.now)
    monotonic: float = field(default_factory=time.monotonic)


def new_drill_id(moment: datetime) -> str:
    """``drill-<UTC>-<6 hex>``."""
    return f"drill-{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def run_drill(
    config: Config,
    *,
    backup_id: str | None = None,
    dump_file: Path | None = None,
    release: str | None = None,
    identity: bytes | None = None,
    foreign_dump: tuple[str, str | None] | None = None,
    log: Log,
    progress: Progress,
) -> DrillOutcome:
    """Run one drill and publish its evidence.

    :param backup_id: the set to prove; None: the newest complete one.
    :param dump_file: prove a bare custom-format dump instead (a limited drill).
    :param release: version of the release to start, instead of the one that the manifest names.
    :param identity: content of an identity file, used instead of the host's.
    :param foreign_dump: a section ``[foreign.<name>]`` and the key or id of an object (None: the newest), to
        prove a dump made by others (a limited drill too).
    :raises OpsError: the drill could not begin (``CONFIG_INVALID``, ``LOCK_HELD``, ``DUMP_INVALID``,
        ``WORK_DIR_UNUSABLE``, ``LEFTOVERS``) or its evidence could not be written. What goes wrong
        within a stage is in the record instead.
    """
    if config.drill is None:
        raise OpsError(
            "CONFIG_INVALID",
            "The configuration has no section [drill].",
            "Run the role pharma.hardening.staging on this host.",
        )
    settings = config.drill
    asked = (
        ForeignDrill(
            name=foreign_dump[0], spec=foreign_source(config, foreign_dump[0]), wanted=foreign_dump[1]
        )
        if foreign_dump
        else None
    )
    found = archive.inspect(dump_file) if dump_file else None
    drill_id = new_drill_id(clock.now())
    user = settings.user if os.geteuid() == 0 else None
    workspace.prepare_base(settings.work_dir)
    place = Workspace(settings.work_dir, drill_id, user)
    own_log = Log(log.env, drill_id, list(log.streams))
    with locks.held(config.lock_dir, LOCK, drill_id), own_log.to_file(place.log):
        interruptions = Interruptions()
        with interruptions.handled():
            drill = Drill(
                drill_id=drill_id,
                config=config,
                settings=settings,
                workspace=place,
                log=own_log,
                progress=progress,
                backup_id=backup_id,
                dump_file=dump_file,
                release_version=release,
                identity=identity,
                foreign=asked,
                archive=found,
                dump=dump_file.resolve() if dump_file else None,
            )
            try:
                return _run(drill, Runner(own_log, progress, interruptions))
            finally:
                place.log.unlink(missing_ok=True)


def _run(drill: Drill, runner: Runner) -> DrillOutcome:
    began = _Clock()
    swept = workspace.sweep(drill.settings.work_dir, drill.user, keep=drill.drill_id)
    if swept:
        drill.log.warn("killed_drills_swept", drills=swept)
    drill.workspace.create()
    drill.log.info("drill_started", backupId=drill.backup_id or "newest", limited=drill.limited)
    try:
        runner.run(stages(drill))
    finally:
        runner.run(
            [Stage(name="teardown", action=lambda report: teardown(drill, report, swept), always=True)]
        )
    runner.run([Stage(name="evidence", action=lambda report: _evidence(drill, report), always=True)])
    record = make_record(drill, runner, began)
    drill.log.info("drill_finished", verdict=record.verdict.value, cause=record.cause)
    directory = publish(
        record,
        evidence=drill.config.evidence,
        log_path=drill.workspace.log,
        signing_key=signing_key(drill.config.evidence),
    )
    measures.publish(drill.config, record, drill.log)
    escrow.tell(drill.config, record, drill.log)
    return DrillOutcome(record, directory)


def stages(drill: Drill) -> list[Stage]:
    """The stages before the teardown, in order, with what a limited drill leaves out."""
    no_set = "A bare dump file has no manifest and no store." if drill.limited else ""
    no_set = "A dump made by others has no manifest." if drill.foreign else no_set
    no_release = "No release was given." if drill.limited and not drill.release_version else ""
    no_journey = no_release or (
        "No journey is configured." if drill.limited and drill.settings.journey_file is None else ""
    )

    def stage(name: str, action: Callable[[Drill, Report], None], skipped: str = "") -> Stage:
        return Stage(
            name=name, action=lambda report: action(drill, report), required=not skipped, skipped=skipped
        )

    arriving = [
        stage("select", acquire.select, no_set),
        stage("preflight", preflight.preflight),
        stage("fetch", acquire.fetch, no_set),
        stage("verify_artefacts", acquire.verify_artefacts, no_set),
        stage("decrypt", acquire.decrypt, no_set),
    ]
    if drill.foreign:
        # What the host must have is known only when the dump was read.
        arriving = [
            stage("select", foreign.select),
            stage("fetch", foreign.fetch),
            stage("verify_artefacts", acquire.verify_artefacts, no_set),
            stage("inspect", foreign.inspect),
            stage("preflight", preflight.preflight),
        ]
    return [
        *arriving,
        stage("provision", restoring.provision),
        stage("restore", restoring.restore),
        stage("compare", proving.compare_content, no_set),
        stage("integrity", proving.integrity),
        stage("negative_control", proving.negative_control),
        stage("app_start", application.app_start, no_release),
        stage("journey", application.journey, no_journey),
    ]


def _evidence(drill: Drill, report: Report) -> None:
    """What must be so that the record, which this stage is a part of, can be written and signed."""
    evidence = drill.config.evidence
    signed = prepared(evidence, report)
    if not drill.limited:
        report.check(
            "evidence is signed", True if signed else None, "signed", "signed" if signed else "no key"
        )
    report.summary = f"The record goes to {evidence.dir}, {'signed' if signed else 'unsigned'}."


def make_record(drill: Drill, runner: Runner, began: _Clock) -> DrillRecord:
    """The record of a drill that has ended."""
    manifest = drill.backup.manifest if drill.backup else None
    newest = manifest.newest_change_at if manifest else None
    basis: str | None = manifest.newest_change_basis if manifest else None
    if drill.foreign:
        newest = drill.foreign.created_at
        basis = foreign.BASIS if newest else None
    rpo = max(0.0, (began.wall - newest).total_seconds()) if newest else None
    return DrillRecord(
        drill_id=drill.drill_id,
        environment=drill.config.environment,
        host=socket.gethostname(),
        tool_version=__version__,
        scope="dump" if drill.limited else "full",
        started_at=began.wall,
        finished_at=clock.now(),
        stages=tuple(runner.results),
        subjects=_subjects(drill),
        rto=Objective(seconds=_rto(runner, began), objective_seconds=drill.settings.rto_objective_seconds),
        rpo=Objective(seconds=rpo, objective_seconds=drill.settings.rpo_objective_seconds),
        newest_change_at=newest,
        rpo_basis=basis,
        backup=facts_of(drill.backup) if drill.backup else _dump_facts(drill),
        release=(
            {"name": drill.release.name, "version": drill.release.version, "digest": drill.release.sha256}
            if drill.release and drill.application
            else {}
        ),
    )


def _rto(runner: Runner, began: _Clock) -> float | None:
    """Seconds to the end of the last proving stage, the journey in a full drill; None: not all passed."""
    proving_results = [result for result in runner.results if result.name not in ("teardown", "evidence")]
    required = [result for result in proving_results if result.required]
    if not required or any(result.verdict is not Verdict.PASSED for result in required):
        return None
    return runner.ended_at[required[-1].name] - began.monotonic


def _subjects(drill: Drill) -> tuple[Subject, ...]:
    found = []
    if drill.backup:
        name = f"{drill.backup.prefix}/manifest.json"
        found.append(Subject(name=name, sha256=drill.backup.manifest_sha256))
    if drill.foreign:
        found.extend(foreign.subject(drill.foreign))
    if drill.dump_file:
        found.append(Subject(name=drill.dump_file.name, sha256=sha256_of(drill.dump_file)))
    if drill.release and drill.application:
        name = f"{drill.release.name}-{drill.release.version}"
        found.append(Subject(name=name, sha256=drill.release.sha256))
    return tuple(found)


def _dump_facts(drill: Drill) -> dict[str, object]:
    if drill.foreign is not None:
        return foreign.facts(drill.foreign, drill.archive)
    if drill.archive is None or drill.dump_file is None:
        return {}
    return {
        "file": drill.dump_file.name,
        "database": drill.archive.dbname,
        "serverVersion": str(drill.archive.server_version // 10000),
        "created": drill.archive.created,
        "bytes": drill.dump_file.stat().st_size,
    }
