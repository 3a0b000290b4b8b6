# SPDX-License-Identifier: GPL-3.0-or-later
"""Wall time, CPU time and peak memory of a command and of everything it starts.

The server's own processes are not children of the command, so they are not counted.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Measured:
    """One run. ``peak_bytes`` is the largest sum of the proportional set sizes of the process tree."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    stdout: str


class CommandError(Exception):
    """The command ended with another exit status than was expected; carries its last words."""


def run(
    argv: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None, expect: int = 0
) -> Measured:
    """Run a command to its end.

    :raises CommandError: its exit status is not ``expect``.
    """
    before = os.times()
    began = time.monotonic()
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        peak = _Peak(child.pid)
        peak.start()
        stdout, stderr = child.communicate()
    seconds = time.monotonic() - began
    peak.stop()
    after = os.times()
    if child.returncode != expect:
        words = f"{stdout[-4000:]}\n{stderr[-4000:]}".strip()
        raise CommandError(f"{' '.join(argv)} ended with {child.returncode}, not {expect}:\n{words}")
    cpu = (after.children_user + after.children_system) - (before.children_user + before.children_system)
    return Measured(seconds, cpu, peak.bytes, stdout)


class _Peak(threading.Thread):
    """Polls the memory of a process and of its descendants until it is stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._pid = pid
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            self.bytes = max(self.bytes, sum(memory_of(pid) for pid in tree(self._pid)))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def tree(root: int, proc: Path = Path("/proc")) -> list[int]:
    """A process and its descendants; a throw-away server that a drill starts is none of our own."""
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if name not in {"postgres", "pg_ctl"}:
            children.setdefault(int(rest.split()[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def memory_of(pid: int, proc: Path = Path("/proc")) -> int:
    """The proportional set size of a process in bytes; 0 when it has ended."""
    try:
        for line in (proc / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
