# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that work in the directory of a run: found, and ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

_KILL_SECONDS = 10.0


def processes_of(directory: Path) -> dict[int, str]:
    """Processes, other than this one, whose command line or working directory is within ``directory``."""
    # "…/drill-1.log" is not within "…/drill-1".
    needle = re.compile(re.escape(os.fsencode(directory)) + rb"(?![\w.-])")
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            cwd = os.fsencode((entry / "cwd").readlink())
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and (needle.search(command) or needle.match(cwd)):
            found[int(entry.name)] = command.replace(b"\0", b" ").decode("utf-8", "replace").strip()[:200]
    return found


def end_processes(directory: Path) -> None:
    """End every process of :func:`processes_of`: SIGTERM, then SIGKILL."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes_of(directory):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, kind)
        deadline = time.monotonic() + _KILL_SECONDS / 2
        while processes_of(directory) and time.monotonic() < deadline:
            time.sleep(0.05)
