# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops evidence verify|report``: for an auditor with the files and the public key alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ExitCode, OpsError
from ..evidence import ledger, verify
from ..evidence.format import LANGUAGES
from ..evidence.record import Check, Verdict
from . import show

if TYPE_CHECKING:
    from .main import Session

_EXIT_CODES = {
    Verdict.PASSED: ExitCode.PROVEN,
    Verdict.FAILED: ExitCode.FAILED,
    Verdict.UNKNOWN: ExitCode.COULD_NOT_RUN,
}
_WORDS = {
    Verdict.PASSED: "The evidence is genuine and whole.",
    Verdict.FAILED: "The evidence was altered or is not whole: do not rely on it.",
    Verdict.UNKNOWN: "Nothing is wrong, but the evidence is not proven genuine.",
}


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group ``evidence``."""
    from .main import common_options

    group = groups.add_parser("evidence", help="verify and read the evidence of drills")
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    parser = commands.add_parser(
        "verify",
        help="check signature, digests and ledger, offline",
        description="Checks the directory of one drill, or all drills when DIR holds the ledger.",
        epilog="Exit codes: 0 genuine and whole, 1 altered, 2 not signed, or no public key given.",
        parents=[common_options()],
    )
    parser.add_argument("dir", type=Path, metavar="DIR", help="directory of a drill, or of all drills")
    parser.add_argument(
        "--public-key", type=Path, metavar="FILE", help="trusted public keys in PEM, one after the other"
    )
    parser.add_argument(
        "--head",
        metavar="SHA256",
        help="digest of a line that was once the ledger's last: lines cut off at the end are then noticed",
    )
    parser.set_defaults(run=verify_command)
    parser = commands.add_parser(
        "report",
        help="print the report of a drill as Markdown or HTML",
        description="Renders the report again from evidence.json and the ledger beside the directory.",
        parents=[common_options()],
    )
    parser.add_argument("dir", type=Path, metavar="DIR", help="directory of a drill")
    parser.add_argument("--language", choices=LANGUAGES, default="pt-BR", help="default: pt-BR")
    parser.add_argument("--timezone", default="America/Sao_Paulo", help="default: America/Sao_Paulo")
    parser.add_argument("--html", action="store_true", help="the page instead of Markdown")
    parser.set_defaults(run=report_command)


def verify_command(session: Session, arguments: argparse.Namespace) -> ExitCode:
    """Check a drill's evidence, or a whole ledger."""
    keys = _public_keys(arguments.public_key)
    directory: Path = arguments.dir
    if not directory.is_dir():
        raise OpsError(
            "EVIDENCE_MISSING",
            f"{directory} is not a directory.",
            "Name the directory of a drill's evidence.",
        )
    ledger_path = directory / ledger.NAME
    if ledger_path.exists():
        checks = verify.verify_ledger(ledger_path, keys, arguments.head)
        checks += _all_drills(directory, keys)
    else:
        checks = verify.verify_directory(directory, keys)
        if arguments.head:
            beside = directory.resolve().parent / ledger.NAME
            checks += verify.verify_ledger(beside, keys, arguments.head)[-1:]
    verdict = verify.overall(checks)
    lines = [f"{show.MARKS[check.verdict.value]} {check.name:<18} {check.observed}" for check in checks]
    session.result(_as_data(verdict, checks), "\n".join([*lines, "", _WORDS[verdict]]))
    return _EXIT_CODES[verdict]


def report_command(session: Session, arguments: argparse.Namespace) -> ExitCode:
    """Print a report to standard output."""
    # Here, not above: every command loads this module, and only this one renders.
    from ..evidence import render
    from ..evidence.publish import context_of

    record = verify.record_in(arguments.dir)
    context = context_of(arguments.dir, record, arguments.timezone)
    if arguments.html:
        text = render.html(record, context, arguments.language)
    else:
        text = render.markdown(record, context, arguments.language)
    session.result({"drillId": record.drill_id, "report": text}, text.rstrip("\n"))
    return ExitCode.PROVEN


def _all_drills(root: Path, keys: bytes | None) -> list[Check]:
    """One check for each directory that is still there: what it is worth as a whole."""
    checks = []
    for path in sorted(root.iterdir()):
        if path.is_symlink() or path.name.startswith(".") or not path.is_dir():
            continue
        findings = verify.verify_directory(path, keys)
        bad = [one for one in findings if one.verdict is not Verdict.PASSED]
        observed = "; ".join(f"{one.name}: {one.observed}" for one in bad) or "genuine and whole"
        expected = "genuine and whole"
        checks.append(
            Check(name=path.name, verdict=verify.overall(findings), expected=expected, observed=observed)
        )
    return checks


def _as_data(verdict: Verdict, checks: list[Check]) -> dict[str, Any]:
    return {
        "verdict": verdict.value,
        "checks": [
            {
                "name": check.name,
                "verdict": check.verdict.value,
                "expected": check.expected,
                "observed": check.observed,
            }
            for check in checks
        ],
    }


def _public_keys(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise OpsError(
            "TRUSTED_KEYS_MISSING",
            f"The public key {path} cannot be read: {error.strerror}.",
            "Name the file that the drill host's owner gave you.",
        ) from error
