# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an escrow key was last proven to open the backups of a database, as the evidence tells."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from ..config import Config
from ..errors import OpsError
from ..log import Log
from ..metrics import Gauge, publish
from . import ledger
from .parse import parse_statement
from .publish import STATEMENT
from .record import DrillRecord, Verdict

JOB = "escrow"
METRIC = "pharma_escrow_last_proven_timestamp_seconds"


def proven_in(record: DrillRecord) -> bool:
    """Whether an escrow key opened a backup set in this drill and the plaintext was right.

    What became of the later stages says nothing of the key.
    """
    return record.scope == "full" and any(
        stage.name == "decrypt" and stage.verdict is Verdict.PASSED and stage.facts.get("keyRole") == "escrow"
        for stage in record.stages
    )


def newest(records: Iterable[DrillRecord]) -> dict[str, datetime]:
    """By database, when the newest drill ended in which an escrow key was proven."""
    found: dict[str, datetime] = {}
    for record in records:
        database = str(record.backup.get("database") or "")
        if database and proven_in(record):
            found[database] = max(record.finished_at, found.get(database, record.finished_at))
    return found


def last_proven(evidence_dir: Path) -> dict[str, datetime]:
    """:func:`newest` of the drills in a ledger whose evidence is there as the ledger says it was.

    :raises OpsError: ``LEDGER_BROKEN``.
    """
    return newest(_records(evidence_dir))


def _records(evidence_dir: Path) -> Iterator[DrillRecord]:
    for line in ledger.read(evidence_dir / ledger.NAME):
        try:
            data = (evidence_dir / line.entry.drill_id / STATEMENT).read_bytes()
            if hashlib.sha256(data).hexdigest() == line.entry.files.get(STATEMENT):
                yield parse_statement(data)
        except (OSError, OpsError):
            # Evidence that was moved away or altered proves nothing, and hides nothing else.
            continue


def tell(config: Config, record: DrillRecord, log: Log) -> None:
    """Write the metric after a drill that proved an escrow key; after any other one it stays as it is.

    A metric that cannot be written does not take the drill's verdict away: it is logged.
    """
    if not proven_in(record):
        return
    try:
        samples = tuple(
            ({"database": database}, moment.timestamp())
            for database, moment in sorted(last_proven(config.evidence.dir).items())
        )
        text = "When a drill last opened a backup of this database with an escrow key."
        publish(config.metrics_dir, JOB, [Gauge(METRIC, text, samples)])
    except (OpsError, OSError) as error:
        log.error("escrow_metric_not_written", error)
