# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service manager: what a unit does, starting and stopping it, which colour starts at boot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import process
from ..errors import OpsError

# A service may finish what it serves for TimeoutStopSec; a migration may take as long as its unit allows.
_STOP_SECONDS = 180.0
_QUICK_SECONDS = 60.0
_LINES = 3
_LINE_LENGTH = 300


@dataclass(frozen=True, kw_only=True)
class State:
    """What systemd says of a unit.

    :ivar active: ``ActiveState``; ``sub`` is the finer ``SubState``.
    :ivar pid: 0 when it has no process.
    :ivar waiting: a start or a stop is asked for and has not begun.
    """

    active: str
    sub: str
    pid: int
    restarts: int
    waiting: bool = False

    @property
    def running(self) -> bool:
        """Whether the unit is up (for a service that notifies: it has said that it is ready)."""
        return self.active == "active"

    @property
    def dead(self) -> bool:
        """Whether the unit has ended, also when systemd will start it once more."""
        ended = self.active in ("inactive", "failed") and not self.waiting
        return ended or self.sub == "auto-restart"

    def same_process(self, other: State) -> bool:
        """Whether no process of the service has ended between the two."""
        return (self.pid, self.restarts) == (other.pid, other.restarts)


def require_systemd() -> None:
    """Check that there is a service manager.

    :raises OpsError: ``SYSTEMD_MISSING``.
    """
    if not Path("/run/systemd/system").is_dir():
        raise OpsError(
            "SYSTEMD_MISSING",
            "systemd does not run on this machine, and a colour is one of its units.",
            "Run the command on the host of the service.",
        )


def state(unit: str) -> State:
    """What a unit does now."""
    done = process.run(
        ["systemctl", "show", "--property=ActiveState,SubState,MainPID,NRestarts,Job", unit],
        timeout=_QUICK_SECONDS,
    )
    return parse(done.stdout.decode())


def parse(text: str) -> State:
    """The state in the output of ``systemctl show``; a socket has neither process nor restarts."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return State(
        active=values.get("ActiveState", "inactive"),
        sub=values.get("SubState", "dead"),
        pid=int(values.get("MainPID") or 0),
        restarts=int(values.get("NRestarts") or 0),
        waiting=bool(values.get("Job")),
    )


def start(unit: str) -> None:
    """Begin to start a unit, and return without waiting for it."""
    process.run(["systemctl", "reset-failed", unit], timeout=_QUICK_SECONDS, check=False)
    _do("start", "--no-block", unit)


def start_socket(unit: str) -> None:
    """Open a socket; nothing happens when it is open."""
    if not state(unit).running:
        _do("start", unit)


def stop(unit: str) -> None:
    """Stop a unit and wait until it has finished what it serves."""
    try:
        _do("stop", unit, timeout=_STOP_SECONDS)
    except OpsError:
        # A start that was asked for just before may reach systemd after the stop, and cancels it.
        _do("stop", unit, timeout=_STOP_SECONDS)
    process.run(["systemctl", "reset-failed", unit], timeout=_QUICK_SECONDS, check=False)


def run_to_end(unit: str, *, code: str, action: str) -> None:
    """Start a oneshot unit and wait for its end.

    :raises OpsError: ``code``; the message has the unit's last lines.
    """
    process.run(["systemctl", "reset-failed", unit], timeout=_QUICK_SECONDS, check=False)
    done = process.run(["systemctl", "start", unit], check=False)
    if done.returncode != 0:
        raise OpsError(code, f"{unit} failed. {last_words(unit)}", action)


def enable_only(wanted: str, other: str) -> None:
    """Have one unit started at boot and the other not.

    Without a reload of all units, which takes a second on a busy host: only the next boot reads it.
    """
    if not enabled(wanted):
        _do("enable", "--no-reload", wanted)
    if enabled(other):
        _do("disable", "--no-reload", other)


def last_words(unit: str) -> str:
    """The last lines that a unit wrote, for the message of its failure."""
    done = process.run(
        ["journalctl", "--unit", unit, "--lines", str(_LINES), "--output", "cat", "--no-pager", "--quiet"],
        timeout=_QUICK_SECONDS,
        check=False,
    )
    lines = [line[:_LINE_LENGTH] for line in done.stdout.decode("utf-8", "replace").splitlines()]
    return f"Its last lines: {' | '.join(lines)}" if lines else "It wrote no line."


def enabled(unit: str) -> bool:
    """Whether a unit is started at boot."""
    done = process.run(["systemctl", "is-enabled", unit], timeout=_QUICK_SECONDS, check=False)
    return done.stdout.decode().strip() == "enabled"


def _do(verb: str, *words: str, timeout: float = _QUICK_SECONDS) -> None:
    process.run(
        ["systemctl", verb, *words],
        timeout=timeout,
        code="UNIT_NOT_CHANGED",
        action=f"Run systemctl {verb} {words[-1]} by hand, and systemctl status {words[-1]}.",
    )
