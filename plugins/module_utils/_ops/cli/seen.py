# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops backup seen``: reads the newest sets back and says when each store was last seen whole."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import clock
from ..backup.seen import JOB, Record, exit_code, read_back
from ..errors import ExitCode, OpsError
from . import show

if TYPE_CHECKING:
    from .main import Session

WORK_DIR = "/var/tmp"  # noqa: S108 - only to make a private directory in it
_MARKS = {"whole": "✓", "damaged": "✗", "missing": "✗", "unknown": "?"}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the group ``backup``."""
    from .main import common_options

    text = "read the newest sets back from every store, check digests and signatures, publish when"
    parser = commands.add_parser(
        "seen",
        help=text,
        description=f"{text[:1].upper()}{text[1:]} each was last seen whole.",
        epilog="Exit codes: 0 all were seen whole, 1 one is damaged or missing, 2 one could not be looked at.",
        parents=[common_options()],
    )
    parser.set_defaults(run=run, job=JOB)


def run(session: Session, _arguments: argparse.Namespace) -> ExitCode:
    """Read everything back."""
    signers = _signers(session)
    with tempfile.TemporaryDirectory(prefix="pharma-ops-", dir=WORK_DIR) as work_dir:
        records = read_back(session.config, signers, Path(work_dir), session.log, session.progress)
    session.result({"seen": [record.as_dict() for record in records]}, text_of(records))
    return exit_code(records)


def text_of(records: Sequence[Record]) -> str:
    """The records for a person, what is wrong first."""
    lines = []
    for record in sorted(records, key=lambda one: one.verdict == "whole"):
        seen = record.last_seen
        lines.append(f"{_MARKS[record.verdict]} {record.database} in {record.description}: {record.verdict}")
        if record.error:
            lines += [
                f"  {record.error['code']}: {record.error['message']}",
                f"  Next: {record.error['action']}",
            ]
        if seen:
            lines.append(
                f"  last seen whole {clock.to_text(seen.at)}: {seen.backup_id}, {show.size(seen.bytes)}, "
                f"changes up to {clock.to_text(seen.newest_change_at)}, signed by {seen.signer}"
            )
        else:
            lines.append("  never seen whole")
    return "\n".join(lines)


def _signers(session: Session) -> bytes:
    seen, drill = session.config.seen, session.config.drill
    path = (seen.trusted_signers_file if seen else None) or (drill.trusted_signers_file if drill else None)
    if path is None:
        raise OpsError(
            "TRUSTED_KEYS_MISSING",
            "No trusted signing key is configured on this host.",
            "Run the role pharma.hardening.staging, or set trusted_signers_file in [seen].",
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise OpsError(
            "TRUSTED_KEYS_MISSING",
            f"The trusted keys {path} cannot be read: {error.strerror}.",
            "Run the role pharma.hardening.staging on this host.",
        ) from error
