# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the jobs of this host run, as systemd and cron know it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from .. import process
from .facts import Timer

SECONDS = 30.0
CRON = Path("/etc/cron.d")
_NAME = re.compile(r"^pharma-(?P<job>backup|seen|drill|prune|secrets)(?:[@-].*)?\.timer$")
_CRON_NAME = re.compile(r"^pharma-(?P<job>backup|seen|drill|prune|secrets)(?:[@-].*)?$")
_PROPERTIES = "Id,LoadState,ActiveState,NextElapseUSecRealtime,LastTriggerUSec,Result"


def timers(cron_dir: Path = CRON) -> tuple[Timer, ...]:
    """The timers of our jobs on this host, and what cron starts.

    :raises OpsError: ``PROGRAM_MISSING``, ``COMMAND_FAILED``, ``COMMAND_TIMEOUT``.
    """
    shown = process.run(
        [
            *("systemctl", "show", "--timestamp=utc", f"--property={_PROPERTIES}"),
            *("--", "pharma-*.timer", "pharma-*.service"),
        ],
        timeout=SECONDS,
    )
    return parse(shown.stdout.decode("utf-8", "replace")) + cron(cron_dir)


def parse(text: str) -> tuple[Timer, ...]:
    """What ``systemctl show`` printed of timers and of the services that they start."""
    blocks = [_block(block.splitlines()) for block in text.split("\n\n")]
    known = {block["Id"]: block for block in blocks if block.get("LoadState") == "loaded" and "Id" in block}
    found = []
    for name, block in sorted(known.items()):
        matched = _NAME.match(name)
        if matched:
            service = known.get(name.removesuffix(".timer") + ".service", {})
            found.append(
                Timer(
                    job=matched["job"],
                    unit=name,
                    active=block.get("ActiveState") == "active",
                    next_at=_moment(block.get("NextElapseUSecRealtime", "")),
                    last_at=_moment(block.get("LastTriggerUSec", "")),
                    result=service.get("Result", ""),
                )
            )
    return tuple(found)


def cron(directory: Path) -> tuple[Timer, ...]:
    """The files of cron that start our jobs."""
    try:
        names: Iterable[str] = sorted(entry.name for entry in directory.iterdir())
    except OSError:
        return ()
    found = ((name, _CRON_NAME.match(name)) for name in names)
    return tuple(
        Timer(job=matched["job"], unit=str(directory / name), active=True, cron=True)
        for name, matched in found
        if matched
    )


def _block(lines: Iterable[str]) -> Mapping[str, str]:
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _moment(text: str) -> datetime | None:
    """A time as systemd writes it: ``Wed 2026-11-25 13:12:28 UTC``; anything else is none."""
    try:
        return datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    except ValueError:
        return None
