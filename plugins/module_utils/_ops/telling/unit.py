# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a unit failed, from what systemd and the journal know of its last run."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .. import process
from ..errors import OpsError

SECONDS = 30.0
LINES = 1000
START = "start"
"""The stage of an error that came before the first step began."""
_PROPERTIES = (
    "Result",
    "ExecMainStatus",
    "ExecMainCode",
    "InvocationID",
    "ExecMainStartTimestampMonotonic",
    "ExecMainStartTimestamp",
)
_PLAIN_ERROR = re.compile(r"^([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*): (.+)$")
# What goes wrong beside a job's work and seldom makes it fail.
_ASIDE = frozenset(
    {
        "escrow_metric_not_written",
        "metrics_not_written",
        "notification_failed",
        "ping_failed",
        "record_damaged",
        "record_not_written",
    }
)
_UNIT = re.compile(r"^pharma-(?P<job>[a-z]+)(?:@.*)?\.service$")
_JOBS = frozenset({"backup", "seen", "drill", "prune", "secrets", "verify"})
_NAME = re.compile(r"^[A-Za-z0-9:_.\\@-]+\.[a-z]+$")
# How a unit ended when its program could not say why itself.
_RESULTS = {
    "timeout": (
        "JOB_TIMEOUT",
        "The job took longer than its unit allows and was stopped.",
        "See with journalctl where the time went; raise the maximal duration when the work has grown.",
    ),
    "oom-kill": (
        "JOB_OUT_OF_MEMORY",
        "The kernel ended the job because it used more memory than its unit allows.",
        "See what else grew on the host; raise MemoryMax of the unit when the work has grown.",
    ),
    "signal": ("JOB_KILLED", "The job was ended by a signal.", "Find out with journalctl who sent it."),
    "core-dump": ("JOB_KILLED", "The job crashed.", "Look at it with coredumpctl, and report it."),
    "resources": (
        "JOB_NOT_STARTED",
        "systemd could not start the job.",
        "Read what systemd says with systemctl status.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What systemd says of the last run of a unit.

    :ivar result: ``exit-code``, ``timeout``, ``oom-kill`` …; empty: not known.
    :ivar status: exit status or number of the signal.
    """

    unit: str
    result: str = ""
    status: str = ""
    invocation: str = ""
    started_at: datetime | None = None

    @property
    def words(self) -> str:
        """``exit-code (1)``."""
        return f"{self.result} ({self.status})" if self.result and self.status else self.result


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What the lines of a run say of its failure; empty where they say nothing."""

    code: str = ""
    message: str = ""
    action: str = ""
    stage: str = ""
    run_id: str = ""
    lines: tuple[str, ...] = ()


def job_of(unit: str) -> str:
    """The job behind a unit: ``backup`` for ``pharma-backup@pharma.service``; else the unit's own name."""
    found = _UNIT.match(unit)
    return found["job"] if found and found["job"] in _JOBS else unit


def checked(unit: str) -> str:
    """A unit's name, so that it is no option of systemctl.

    :raises OpsError: ``ARGUMENT_INVALID``.
    """
    if not _NAME.match(unit) or unit.startswith("-") or len(unit) > 256:
        raise OpsError(
            "ARGUMENT_INVALID",
            f"{unit!r} is not the name of a unit.",
            "Name it as systemctl does: pharma-backup.service.",
        )
    return unit


def ended(unit: str) -> Ended:
    """Ask systemd how the last run of a unit ended.

    :raises OpsError: ``COMMAND_FAILED``, ``COMMAND_TIMEOUT``, ``PROGRAM_MISSING``.
    """
    # Times in one form, whatever the host's language and zone.
    shown = process.run(
        ["systemctl", "show", "--timestamp=utc", f"--property={','.join(_PROPERTIES)}", "--", checked(unit)],
        timeout=SECONDS,
    )
    return parse_show(unit, shown.stdout.decode("utf-8", "replace"))


def parse_show(unit: str, text: str) -> Ended:
    """What ``systemctl show --timestamp=utc`` printed."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return Ended(
        unit=unit,
        result=values.get("Result", ""),
        status=values.get("ExecMainStatus", ""),
        invocation=values.get("InvocationID", ""),
        started_at=_moment(values.get("ExecMainStartTimestamp", "")),
    )


def journal(run: Ended, invocation: str = "") -> list[str]:
    """The last lines that a run wrote, and those that systemd wrote about it.

    The journal does not always know the run of a process that ended at once, but its unit; so the lines of
    the unit since the beginning of the run count as well, unless it has begun another one since.

    :param invocation: the run that failed, when it is not the unit's last.
    :raises OpsError: ``COMMAND_FAILED``, ``COMMAND_TIMEOUT``, ``PROGRAM_MISSING``.
    """
    wanted = invocation or run.invocation
    if not re.fullmatch(r"[0-9a-f]{32}", wanted):
        return []
    words = [f"_SYSTEMD_INVOCATION_ID={wanted}", "+", f"INVOCATION_ID={wanted}"]
    if wanted == run.invocation and run.started_at is not None:
        words = [f"--since=@{int(run.started_at.timestamp())}", *words, "+", f"_SYSTEMD_UNIT={run.unit}"]
    return _lines(*words)


def journal_of_cron(unit: str) -> list[str]:
    """The last lines of a job that cron starts: it has no unit, but its lines have the name of one.

    :raises OpsError: as :func:`journal`.
    """
    name = unit.partition("@")[0].removesuffix(".service")
    return _lines("--since=-1d", f"--identifier={name}")


def _lines(*words: str) -> list[str]:
    shown = process.run(
        ["journalctl", "--no-pager", "--quiet", "--output=cat", f"--lines={LINES}", *words], timeout=SECONDS
    )
    return shown.stdout.decode("utf-8", "replace").splitlines()


def cause_of(lines: Sequence[str], result: str = "") -> Cause:
    """Why a run failed: how systemd ended it, else the last error it logged, else the last it printed.

    The stage is the one that the error names, else the last that began.

    :param lines: of the journal, oldest first; JSON lines of ours among others.
    :param result: ``Result`` of the unit.
    """
    parsed = [_json(line) for line in lines]
    logged = [line for line in parsed if line is not None]
    found = _logged(logged)
    if result in _RESULTS:
        code, message, action = _RESULTS[result]
        return Cause(code=code, message=message, action=action, stage=_stage(logged), run_id=_run(logged))
    if found is None:
        found = _printed([line for line, known in zip(lines, parsed, strict=True) if known is None])
    if found is None:
        plain = [line for line in lines if line.strip()]
        return Cause(stage=_stage(logged), run_id=_run(logged), lines=tuple(plain[-5:]))
    return Cause(
        code=found.code,
        message=found.message,
        action=found.action,
        stage=found.stage or _stage(logged) or START,
        run_id=_run(logged),
    )


def _logged(lines: Sequence[Mapping[str, Any]]) -> Cause | None:
    """The last error among our own lines; how a drill ended says more than what failed on the way."""
    every = [line for line in lines if _is_error(line)]
    errors = [line for line in every if line["msg"] not in _ASIDE] or every
    last = _of_error(errors[-1]) if errors else None
    if last is not None and errors[-1]["msg"] == "backup_partial":
        # The backup went on without the store; what it was doing at the end is not where it failed.
        begun = next(
            (number for number, line in enumerate(lines) if line["msg"] == "store_failed"), len(lines)
        )
        last = dataclasses.replace(last, stage=_stage(lines[:begun]) or START)
    for line in reversed(lines):
        if line["msg"] == "drill_finished" and line["meta"].get("verdict") not in ("passed", "limited"):
            first = _of_error(errors[0]) if errors else Cause()
            stage, _colon, message = str(line["meta"].get("cause", "")).partition(": ")
            known = bool(message) and re.fullmatch(r"[a-z_]+", stage) is not None
            return Cause(
                code=first.code,
                message=message if known else str(line["meta"].get("cause", "")),
                action=first.action
                or "Open the report: docs/runbooks/drill.md says what to do for each stage.",
                stage=stage if known else "verdict",
            )
    return last


def _is_error(line: Mapping[str, Any]) -> bool:
    error = line.get("error")
    return (
        line.get("level") in ("error", "fatal")
        and isinstance(error, dict)
        and isinstance(error.get("code"), str)
    )


def _of_error(line: Mapping[str, Any]) -> Cause:
    error, meta = line["error"], line["meta"]
    action = str(meta.get("action", ""))
    message = str(error.get("message", "")).removesuffix(action).strip() if action else str(error["message"])
    stage = str(meta.get("stage") or meta.get("step") or "")
    return Cause(code=error["code"], message=message, action=action, stage=stage)


def _printed(lines: Sequence[str]) -> Cause | None:
    """The error that a command printed: ``CODE: sentence``, then ``Next: step``."""
    for number in range(len(lines) - 1, -1, -1):
        found = _PLAIN_ERROR.match(lines[number])
        if found:
            after = lines[number + 1] if number + 1 < len(lines) else ""
            action = after.removeprefix("Next: ") if after.startswith("Next: ") else ""
            return Cause(code=found[1], message=found[2], action=action)
    return None


def _stage(lines: Sequence[Mapping[str, Any]]) -> str:
    for line in reversed(lines):
        if line["msg"] in ("step_started", "stage_started"):
            return str(line["meta"].get("stage") or line["meta"].get("step") or "")
    return ""


def _run(lines: Sequence[Mapping[str, Any]]) -> str:
    return str(lines[-1].get("requestId", "")) if lines else ""


def _json(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        data = json.loads(line)
    except ValueError:
        return None
    if not isinstance(data, dict) or not isinstance(data.get("msg"), str):
        return None
    return data if isinstance(data.get("meta"), dict) else None


def _moment(text: str) -> datetime | None:
    """A time as systemd writes it: ``Wed 2026-11-25 13:12:28 UTC``."""
    try:
        return datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    except ValueError:
        return None
