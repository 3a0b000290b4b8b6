# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops recover`` and ``pharma-ops recover undo``."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Config, Drill
from ..errors import ExitCode, OpsError
from ..progress import Silent
from . import show
from .identity import read_identity

if TYPE_CHECKING:
    from ..recover.context import Preview, Request
    from ..recover.record import Record
    from ..recover.run import RecoveryOutcome
    from .main import Session

MAX_JOBS = 8
_DEFAULTS = Drill()


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group ``recover``."""
    from .main import common_options

    text = "bring a database of this host back from a backup, and set the present data aside"
    parser = groups.add_parser(
        "recover", help=text, description=text.capitalize() + ".", parents=[common_options()]
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--backup", metavar="ID", help="the backup to restore")
    source.add_argument(
        "--newest", action="store_true", help="the newest complete backup (what is done by default)"
    )
    source.add_argument(
        "--proven", action="store_true", help="the newest backup that a drill in --ledger has proven"
    )
    parser.add_argument(
        "--ledger", type=Path, metavar="FILE", help="ledger.jsonl of the drills, for --proven"
    )
    parser.add_argument(
        "--evidence-keys", type=Path, metavar="FILE", help="public keys of the drills whose proofs count"
    )
    parser.add_argument("--database", metavar="NAME", help="the database to bring back")
    parser.add_argument(
        "--confirm", metavar="NAME", help="the database's name once more; asked for on a terminal without it"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="choose the backup, look at the host, end there"
    )
    parser.add_argument("--store", help="name of the store (default: the drill's)")
    parser.add_argument(
        "--identity",
        metavar="FILE",
        help="open the backup with this key alone, such as the escrow key (default: the drill's); - reads it "
        "from standard input, so that it lies on no disk",
    )
    parser.add_argument(
        "--signers", type=Path, metavar="FILE", help="public keys to trust (default: the drill's)"
    )
    parser.add_argument("--evidence", type=Path, metavar="DIR", help="where the evidence goes")
    parser.add_argument("--cluster", default="main", metavar="NAME", help="Debian's cluster (default: main)")
    parser.add_argument(
        "--others-too", action="store_true", help="other databases of the cluster may be set aside with it"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="parallel jobs (default: one for each core)")
    parser.set_defaults(run=run)
    commands = parser.add_subparsers(metavar="[undo]", required=False)
    undoing = commands.add_parser(
        "undo",
        parents=[common_options()],
        help="put the data directory back that a recovery has set aside",
        description="Put the data directory back that a recovery has set aside; nothing is removed.",
    )
    undoing.add_argument("--recovery", metavar="ID", help="which one (default: the newest)")
    undoing.add_argument("--confirm", metavar="NAME", help="the database's name; asked for without it")
    undoing.set_defaults(run=undo)


def run(session: Session, arguments: argparse.Namespace) -> ExitCode:
    """Recover a database."""
    # Here, not above: every command loads this module, and only this one needs the whole engine.
    from ..recover.run import run_recovery

    request = _request(session, arguments)
    outcome = run_recovery(
        _config(session, arguments),
        request,
        dry_run=arguments.dry_run,
        log=session.log,
        # Without a terminal the recovery's own log lines tell the same.
        progress=session.progress if session.terminal else Silent(),
    )
    session.result(outcome.as_dict(), text_of(outcome))
    return outcome.exit_code


def undo(session: Session, arguments: argparse.Namespace) -> ExitCode:
    """Undo a recovery."""
    from ..recover.undo import undo as undo_recovery

    def confirm(record: Record) -> str:
        return _typed(
            session,
            arguments.confirm,
            f"{record.data} goes aside, and {record.aside} (from before {record.recovery_id}) comes back.",
        )

    undone = undo_recovery(session.config, arguments.recovery, confirm)
    kept = f"What was there lies in {undone.kept}." if undone.kept else "Nothing was there."
    state = "runs" if undone.started else "is down, as it was before"
    session.result(
        undone.as_dict(),
        f"{undone.data} is again what it was before {undone.recovery_id}; the server {state}. {kept}",
    )
    return ExitCode.PROVEN


def _request(session: Session, arguments: argparse.Namespace) -> Request:
    from ..recover.context import Request

    drill = session.config.drill or _DEFAULTS
    database = arguments.database or drill.database
    if not database:
        raise OpsError("ARGUMENT_INVALID", "No database is named.", "Name it with --database.")
    if arguments.proven != (arguments.ledger is not None):
        raise OpsError(
            "ARGUMENT_INVALID",
            "--proven and --ledger belong together.",
            "Name the ledger of the drills: --proven --ledger FILE.",
        )
    identity = read_identity(arguments.identity)
    jobs = arguments.jobs if arguments.jobs is not None else min(os.cpu_count() or 1, MAX_JOBS)
    if jobs < 1:
        raise OpsError("ARGUMENT_INVALID", f"--jobs must be at least 1, not {jobs}.", "Correct it.")

    def confirm(preview: Preview) -> str:
        aside = f"It is set aside as {preview.aside}." if preview.aside else "There is none yet."
        return _typed(
            session,
            arguments.confirm,
            f"Backup {preview.backup_id} of {preview.database}, newest change {preview.newest_change_at}, "
            f"takes the place of the data in {preview.data} (cluster {preview.cluster}). {aside}\n"
            "What was written after that change is not in the backup.",
        )

    return Request(
        database=database,
        store=arguments.store or drill.store,
        identity=drill.identity_file if identity is None else identity,
        signers_file=arguments.signers or drill.trusted_signers_file,
        confirm=confirm,
        backup_id=arguments.backup,
        ledger=arguments.ledger,
        evidence_keys_file=arguments.evidence_keys,
        cluster=arguments.cluster,
        others_too=arguments.others_too,
        jobs=jobs,
        rto_objective_seconds=drill.rto_objective_seconds,
        rpo_objective_seconds=drill.rpo_objective_seconds,
    )


def _typed(session: Session, given: str | None, text: str) -> str:
    """The name that was given, or that a person types; empty where nobody can."""
    if given is not None or not sys.stdin.isatty():
        return given or ""
    show.close(session)
    sys.stderr.write(f"{text}\nType the name of the database to go on: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _config(session: Session, arguments: argparse.Namespace) -> Config:
    if arguments.evidence is None:
        return session.config
    evidence = dataclasses.replace(session.config.evidence, dir=arguments.evidence.absolute())
    return dataclasses.replace(session.config, evidence=evidence)


def text_of(outcome: RecoveryOutcome) -> str:
    """The result for a person: problems, what to do, where the old data are, and one last line."""
    record = outcome.record
    lines = [
        f"  {stage.name}: {check.name}: expected {check.expected}, observed {check.observed}"
        for stage in record.stages
        for check in stage.checks
        if check.verdict != "passed"
    ]
    lines += [f"Next: {stage.error['action']}" for stage in record.stages if stage.error][:1]
    result = outcome.as_dict()
    if release := result["release"]:
        lines.append(f"Release of the application: {release['name']} {release['version']}")
    if outcome.dry_run:
        lines += [stage.summary for stage in record.stages if stage.summary]
        lines.append(f"Would set aside: {result['set_aside'] or 'nothing, there is no data directory'}")
        lines.append(outcome.cause)
        return "\n".join(lines)
    lines.append(outcome.cause)
    if outcome.touched and result["set_aside"]:
        lines.append(f"The old data: {result['set_aside']}")
        lines.append(f"Back to them: pharma-ops recover undo --recovery {record.drill_id}")
    if not outcome.touched:
        lines.append(f"The data directory {result['data_directory'] or ''} was not touched.")
    rto, rpo = _seconds(record.rto.seconds), _seconds(record.rpo.seconds)
    lines.append(
        f"{record.verdict.value.upper()}  RTO {rto}  RPO {rpo}  {result['report_path'] or ''}".rstrip()
    )
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} s"
