# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a service's deployments: one line for each, the newest last (deployment.schema.json)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from .. import clock
from ..errors import ExitCode, OpsError
from ..files import sync_directory
from .gate import Requests


class Action(StrEnum):
    """What was asked for."""

    DEPLOY = "deploy"
    RENEW = "renew"
    ROLLBACK = "rollback"


class Result(StrEnum):
    """How a deployment ended."""

    DEPLOYED = "deployed"
    RENEWED = "renewed"
    ROLLED_BACK = "rolled_back"
    SWITCHED_BACK = "switched_back"
    REFUSED = "refused"

    @property
    def exit_code(self) -> ExitCode:
        """0 when what was asked for serves."""
        return ExitCode.FAILED if self in (Result.SWITCHED_BACK, Result.REFUSED) else ExitCode.PROVEN


DONE = {
    Action.DEPLOY: Result.DEPLOYED,
    Action.RENEW: Result.RENEWED,
    Action.ROLLBACK: Result.ROLLED_BACK,
}


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """One stage: ``passed``, ``failed``, ``unknown`` or ``not_run``, its time, what it found."""

    name: str
    verdict: str
    seconds: float
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """As the journal has it."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "seconds": round(self.seconds, 3),
            "detail": self.detail,
        }


@dataclass(frozen=True, kw_only=True)
class Record:
    """One deployment; ``colour`` is where the release was to serve, ``cause`` empty when nothing went wrong."""

    id: str
    action: Action
    service: str
    version: str
    digest: str
    previous_version: str | None
    previous_digest: str | None
    colour: str
    who: str
    host: str
    started_at: datetime
    finished_at: datetime
    verdict: Result
    cause: str
    code: str | None = None
    stages: tuple[StageResult, ...] = field(default_factory=tuple)
    requests: Requests | None = None

    def as_dict(self) -> dict[str, Any]:
        """One line of the journal."""
        return {
            "id": self.id,
            "action": self.action.value,
            "service": self.service,
            "version": self.version,
            "digest": self.digest,
            "previousVersion": self.previous_version,
            "previousDigest": self.previous_digest,
            "colour": self.colour,
            "who": self.who,
            "host": self.host,
            "startedAt": clock.to_text(self.started_at),
            "finishedAt": clock.to_text(self.finished_at),
            "stages": [stage.as_dict() for stage in self.stages],
            "verdict": self.verdict.value,
            "cause": self.cause,
            "code": self.code,
            "requests": self.requests.as_dict() if self.requests else None,
        }


def directory(state_dir: Path) -> Path:
    """Where the journals of all services lie."""
    return state_dir / "deployments"


def path(state_dir: Path, service: str) -> Path:
    """The journal of a service."""
    return directory(state_dir) / f"{service}.jsonl"


def append(journal: Path, record: Record) -> None:
    """Add a record, durably; what a power cut left of a line before it goes.

    :raises OpsError: ``JOURNAL_NOT_WRITTEN``.
    """
    data = json.dumps(record.as_dict(), ensure_ascii=False).encode() + b"\n"
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(journal, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "r+b") as stream:
            whole = stream.read().rfind(b"\n") + 1
            stream.truncate(whole)
            stream.seek(whole)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        sync_directory(journal.parent)
    except OSError as error:
        raise OpsError(
            "JOURNAL_NOT_WRITTEN",
            f"The record {record.id} ({record.verdict.value}) could not be added to {journal}: {error.strerror}.",
            "What serves is as the record says; check space and owner of the journal's directory.",
        ) from error


@dataclass(frozen=True)
class Past:
    """What a journal holds: its records, oldest first, and the numbers of lines that are none."""

    records: list[dict[str, Any]]
    unreadable: list[int]


def read(journal: Path) -> Past:
    """Read a journal. A damaged line must not keep anybody from going back: it is named, not fatal.

    :raises OpsError: ``JOURNAL_UNREADABLE``.
    """
    try:
        lines = journal.read_bytes().split(b"\n")
    except FileNotFoundError:
        return Past([], [])
    except OSError as error:
        raise OpsError(
            "JOURNAL_UNREADABLE", f"{journal} cannot be read: {error.strerror}.", "Run as root."
        ) from error
    # What stands behind the last end of a line was cut off by a power cut.
    found = [_record(line) for line in lines[:-1]]
    return Past(
        [record for record in found if record is not None],
        [number for number, record in enumerate(found, start=1) if record is None],
    )


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    known = isinstance(record, dict) and {"id", "version", "verdict"} <= record.keys()
    return record if known else None


def previous_version(records: Sequence[Mapping[str, Any]], active: str) -> str | None:
    """What was in service before the active version was deployed; None: it is not known.

    A roll back is no deployment: after one from 3 to 2, the version before is what 2 had replaced.
    """
    for record in reversed(records):
        before = record.get("previousVersion")
        if _deploys(record, active) and isinstance(before, str) and before != active:
            return before
    return None


def was_deployed(records: Sequence[Mapping[str, Any]], version: str) -> bool:
    """Whether the journal knows how a version came into service."""
    return any(_deploys(record, version) for record in records)


def _deploys(record: Mapping[str, Any], version: str) -> bool:
    return bool(record["version"] == version and record["verdict"] == Result.DEPLOYED)
