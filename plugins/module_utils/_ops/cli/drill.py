# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops drill run``."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import DEFAULT_PATH, Config, Drill
from ..errors import ExitCode, OpsError
from ..evidence.record import DrillRecord, Verdict
from ..progress import Silent
from .identity import read_identity

if TYPE_CHECKING:
    from ..drill.run import DrillOutcome
    from .main import Session

MAX_JOBS = 8
# Not /tmp, which is memory on Debian 13.
BARE_DUMP_BASE = "/var/tmp/pharma-ops"  # noqa: S108 - its owner is checked


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group ``drill``."""
    from .main import common_options

    group = groups.add_parser("drill", help="prove that a backup can be restored and used")
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    text = "restore a backup on this host, prove it, remove it, and publish the evidence"
    run_parser = commands.add_parser(
        "run", help=text, description=text.capitalize() + ".", parents=[common_options()]
    )
    source = run_parser.add_mutually_exclusive_group()
    source.add_argument(
        "--backup", metavar="ID", help="the backup to prove (default: the newest complete one)"
    )
    source.add_argument(
        "--dump",
        type=Path,
        metavar="FILE",
        help="prove a bare pg_dump custom-format file; needs no configuration, store or manifest",
    )
    source.add_argument(
        "--foreign",
        metavar="NAME",
        help="prove the newest dump made by others of the section [foreign.NAME]",
    )
    run_parser.add_argument(
        "--object", metavar="KEY", help="with --foreign: this object (key or id) instead of the newest"
    )
    run_parser.add_argument(
        "--release", metavar="VERSION", help="start this release instead of the one that the manifest names"
    )
    run_parser.add_argument(
        "--identity",
        metavar="FILE",
        help="open the backup with this key alone, such as the escrow key, instead of the host's; - reads it "
        "from standard input, so that it lies on no disk",
    )
    run_parser.add_argument(
        "--evidence",
        type=Path,
        metavar="DIR",
        help="where the evidence goes (default: evidence.dir of the configuration; with --dump ./evidence)",
    )
    run_parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="where the copy is restored (default: drill.work_dir)"
    )
    run_parser.add_argument("--jobs", type=int, metavar="N", help="parallel jobs (default: drill.jobs)")
    run_parser.set_defaults(run=run, job="drill")


def run(session: Session, arguments: argparse.Namespace) -> ExitCode:
    """Run a drill."""
    # Here, not above: every command loads this module, and only this one needs the whole engine.
    from ..drill.run import run_drill

    if arguments.jobs is not None and arguments.jobs < 1:
        raise OpsError("ARGUMENT_INVALID", f"--jobs must be at least 1, not {arguments.jobs}.", "Correct it.")
    if arguments.object is not None and arguments.foreign is None:
        raise OpsError("ARGUMENT_INVALID", "--object needs --foreign.", "Name the section of the dumps too.")
    identity = read_identity(arguments.identity, dump=arguments.dump is not None)
    config = _with_options(_config(session, arguments), arguments)
    # With a bare dump there may be no file to read; the session's log asks for it later.
    vars(session)["config"] = config
    outcome = run_drill(
        config,
        backup_id=arguments.backup,
        dump_file=arguments.dump,
        release=arguments.release,
        identity=identity,
        foreign_dump=(arguments.foreign, arguments.object) if arguments.foreign else None,
        log=session.log,
        # Without a terminal the drill's own log lines tell the same.
        progress=session.progress if session.terminal else Silent(),
    )
    session.result(outcome.as_dict(), text_of(outcome))
    return outcome.exit_code


def _config(session: Session, arguments: argparse.Namespace) -> Config:
    """The host's configuration; a bare dump needs none, unless one is named."""
    if arguments.dump is None or session.config_path != DEFAULT_PATH or DEFAULT_PATH.exists():
        return session.config
    base = Path(f"{BARE_DUMP_BASE}-{os.geteuid()}")
    jobs = min(os.cpu_count() or 1, MAX_JOBS)
    return Config(environment="lab", state_dir=base, lock_dir=base, drill=Drill(work_dir=base, jobs=jobs))


def _with_options(config: Config, arguments: argparse.Namespace) -> Config:
    drill = config.drill or Drill()
    if arguments.work_dir is not None:
        drill = dataclasses.replace(drill, work_dir=arguments.work_dir.absolute())
    if arguments.jobs is not None:
        drill = dataclasses.replace(drill, jobs=arguments.jobs)
    evidence = config.evidence
    directory = arguments.evidence or (Path("evidence") if arguments.dump else None)
    if directory is not None:
        evidence = dataclasses.replace(evidence, dir=directory.absolute())
    wanted = drill if config.drill is not None or arguments.dump is not None else None
    return dataclasses.replace(config, drill=wanted, evidence=evidence)


def text_of(outcome: DrillOutcome) -> str:
    """The result for a person: problems, cause, and one last line that says it all."""
    record = outcome.record
    lines = [
        f"  {stage.name}: {check.name}: expected {check.expected}, observed {check.observed}"
        for stage in record.stages
        for check in stage.checks
        if check.verdict is not Verdict.PASSED
    ]
    if error := _first_error(record):
        lines.append(f"Next: {error}")
    lines.append(record.cause)
    rto, rpo = _seconds(record.rto.seconds), _seconds(record.rpo.seconds)
    report = outcome.directory / "report.html"
    lines.append(f"{record.verdict.value.upper()}  RTO {rto}  RPO {rpo}  {report}")
    return "\n".join(lines)


def _first_error(record: DrillRecord) -> str:
    return next((stage.error["action"] for stage in record.stages if stage.error), "")


def _seconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} s"
