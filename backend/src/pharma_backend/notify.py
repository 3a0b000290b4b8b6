# SPDX-License-Identifier: GPL-3.0-or-later
"""sd_notify(3): telling systemd that the service is ready, alive or stopping."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends datagrams to ``$NOTIFY_SOCKET``; without one every call does nothing."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        self.watchdog_seconds = _watchdog(environment)

    def send(self, *assignments: str) -> None:
        """Send assignments such as ``READY=1``; a receiver that is gone is no reason to stop serving."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            try:
                channel.sendto("\n".join(assignments).encode(), self._address)
            except OSError:
                return


def _watchdog(environment: Mapping[str, str]) -> float | None:
    micros = environment.get("WATCHDOG_USEC", "")
    owner = environment.get("WATCHDOG_PID", "")
    if not micros.isdecimal() or (owner and owner != str(os.getpid())):
        return None
    return int(micros) / 1_000_000 or None
