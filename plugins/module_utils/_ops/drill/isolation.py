# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transient systemd units without any network: how programs of a release run on restored data.

A restored copy holds real customers; what runs on it must not mail, charge or report to anyone. So
there is no way here to start a program of the release other than in a unit with
``PrivateNetwork=yes``, and no fallback where systemd is missing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import process
from ..errors import OpsError

_TIMEOUT_SECONDS = 60
_HARDENING = (
    "PrivateNetwork=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectProc=invisible",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectControlGroups=yes",
    "NoNewPrivileges=yes",
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=yes",
    "LockPersonality=yes",
    "CapabilityBoundingSet=",
    "UMask=0077",
    # The host's own sockets are files, which a private network does not hide.
    "InaccessiblePaths=-/run/postgresql -/run/dbus -/run/docker.sock -/run/podman -/run/mysqld -/run/redis",
)


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """What a unit may see of a drill.

    :ivar unit_prefix: units are called ``<prefix>-<purpose>``.
    :ivar hidden: directory that looks empty to the unit, but for ``writable`` and ``readable``.
    :ivar credentials: name to file; the unit reads them in ``$CREDENTIALS_DIRECTORY``.
    :ivar log: file that takes the output of services.
    """

    unit_prefix: str
    user: str
    hidden: Path
    writable: Path
    readable: tuple[Path, ...]
    log: Path
    credentials: Mapping[str, Path] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    max_seconds: int = 3600

    def words(self, purpose: str) -> list[str]:
        """The words of systemd-run, up to the program."""
        properties = [
            *_HARDENING,
            f"User={self.user}",
            f"TemporaryFileSystem={self.hidden}:ro",
            f"BindPaths={self.writable}",
            *(f"BindReadOnlyPaths={path}" for path in self.readable),
            f"WorkingDirectory={self.writable}",
            f"RuntimeMaxSec={self.max_seconds}",
            # Nothing of the copy is kept, so there is nothing that a graceful stop could save.
            "KillSignal=SIGKILL",
            *(f"LoadCredential={name}:{path}" for name, path in self.credentials.items()),
        ]
        return [
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={unit_name(self.unit_prefix, purpose)}",
            *(f"--property={item}" for item in properties),
            *(f"--setenv={name}={value}" for name, value in self.environment.items()),
        ]


def unit_name(prefix: str, purpose: str) -> str:
    """The full name of a unit of a drill."""
    return f"{prefix}-{purpose}.service"


def unavailable() -> str:
    """Why isolated units cannot be started on this host; empty when they can."""
    if not Path("/run/systemd/system").is_dir():
        return "systemd does not run on this machine"
    if os.geteuid() != 0:
        return "only root can start isolated units"
    return ""


def start(sandbox: Sandbox, purpose: str, argv: Sequence[str]) -> str:
    """Start a service and return its unit's name as soon as its program was executed.

    :raises OpsError: ``APPLICATION_DID_NOT_START``, ``ISOLATION_UNAVAILABLE``.
    """
    _require()
    words = sandbox.words(purpose)
    process.run(
        [
            *words,
            "--property=Type=exec",
            f"--property=StandardOutput=append:{sandbox.log}",
            f"--property=StandardError=append:{sandbox.log}",
            "--",
            *argv,
        ],
        timeout=_TIMEOUT_SECONDS,
        code="APPLICATION_DID_NOT_START",
        action="Run the release's start command by hand on this host.",
    )
    return unit_name(sandbox.unit_prefix, purpose)


def run(
    sandbox: Sandbox, purpose: str, argv: Sequence[str], *, stdin: bytes, code: str, action: str
) -> process.Completed:
    """Run a command to its end in a unit; what it needs to know secretly comes on its standard input.

    :raises OpsError: ``code``, ``COMMAND_TIMEOUT``, ``ISOLATION_UNAVAILABLE``.
    """
    _require()
    return process.run(
        [*sandbox.words(purpose), "--wait", "--pipe", "--", *argv],
        input=stdin,
        timeout=_TIMEOUT_SECONDS,
        code=code,
        action=action,
    )


def stop(unit: str) -> None:
    """Stop a unit and forget that it failed; nothing happens when there is none."""
    process.run(["systemctl", "stop", unit], timeout=_TIMEOUT_SECONDS, check=False)
    process.run(["systemctl", "reset-failed", unit], timeout=_TIMEOUT_SECONDS, check=False)


def units(prefix: str) -> list[str]:
    """The names of the loaded units that begin with ``prefix``; none without systemd."""
    if not Path("/run/systemd/system").is_dir():
        return []
    done = process.run(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", f"{prefix}*"],
        timeout=_TIMEOUT_SECONDS,
    )
    return [line.split()[0] for line in done.stdout.decode().splitlines() if line.strip()]


def main_pid(unit: str) -> int | None:
    """The process of a running service, None when it does not run."""
    done = process.run(["systemctl", "show", "--property=MainPID", "--value", unit], timeout=_TIMEOUT_SECONDS)
    pid = int(done.stdout.decode().strip() or 0)
    return pid or None


def interfaces(pid: int) -> list[str]:
    """The network interfaces that a process sees, read from the kernel and not from the unit's settings."""
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return sorted(line.split(":")[0].strip() for line in lines)


def shares_our_network(pid: int) -> bool | None:
    """Whether a process is in the same network namespace as this one; None: it cannot be told."""
    try:
        return Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink()
    except PermissionError:
        # Root in a container may not read that link. Each namespace lists its own unix sockets.
        theirs, ours = _unix_sockets(str(pid)), _unix_sockets("self")
        return bool(theirs & ours) if theirs and ours else None


def _unix_sockets(process_id: str) -> set[str]:
    """Inodes of the unix sockets in a process's network namespace."""
    lines = Path(f"/proc/{process_id}/net/unix").read_text(errors="replace").splitlines()[1:]
    return {line.split()[6] for line in lines}


def _require() -> None:
    if reason := unavailable():
        raise OpsError(
            "ISOLATION_UNAVAILABLE",
            f"The release is not started, because {reason}.",
            "Run the drill as root on a host with systemd.",
        )
