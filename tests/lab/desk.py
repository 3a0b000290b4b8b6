# SPDX-License-Identifier: GPL-3.0-or-later
"""Those who are told of failures: a webhook, a mail relay and a dead man's switch on the loopback of the lab's hosts.

They run in the process of the tests (tests/receivers.py); ssh carries two ports of each host's loopback to them, so
that a host reaches them as it would a relay and a server of its own, over TLS that it verifies.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import receivers

# The addresses that molecule/backup/vars.yml gives to the role ops.
WEB_PORT = 8443
MAIL_PORT = 8025


class Desk:
    """What arrived, and the ways on which it can.

    :ivar web: webhooks and pings.
    :ivar relay: mails.
    """

    def __init__(self, web: receivers.WebReceiver, relay: receivers.MailReceiver, ssh_config: Path) -> None:
        self.web = web
        self.relay = relay
        self._ssh_config = ssh_config
        self._ways: dict[str, subprocess.Popen[bytes]] = {}

    def listen(self, host: str) -> None:
        """Open the way from a host, once more when it was away."""
        self.leave(host)
        forwards = ((WEB_PORT, self.web.port), (MAIL_PORT, self.relay.port))
        words = [
            word
            for there, here in forwards
            for word in ("-R", f"{receivers.ADDRESS}:{there}:{receivers.ADDRESS}:{here}")
        ]
        options = ["-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes"]
        way = subprocess.Popen(
            ["ssh", "-F", str(self._ssh_config), *options, *words, host, "echo open; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._ways[host] = way
        assert way.stdout
        assert way.stdout.readline() == b"open\n", f"{host} does not forward ports to the receivers"

    def leave(self, host: str) -> None:
        """Close the way from a host, alive or not."""
        way = self._ways.pop(host, None)
        if way is not None:
            with way:
                way.kill()

    def close(self) -> None:
        """Close all ways."""
        for host in list(self._ways):
            self.leave(host)

    def clear(self) -> None:
        """Forget what has arrived so far."""
        self.web.requests.clear()
        self.relay.mails.clear()

    def pings(self, host: str, token: str) -> list[str]:
        """The signals that the switch of a host's backups has heard, in order: ``start``, ``success``, ``fail``."""
        own = f"/ping/{host}/{token}"
        heard = [
            request.path.removeprefix(own) for request in self.web.requests if request.path.startswith(own)
        ]
        return [signal.removeprefix("/") or "success" for signal in heard]

    def hooks(self, token: str) -> list[bytes]:
        """The bodies that the webhook got."""
        return [request.body for request in self.web.requests if request.path == f"/hook/{token}"]


@contextlib.contextmanager
def opened(state_dir: Path, root: Path, password: str) -> Iterator[Desk]:
    """The receivers while the block runs, with a certificate of the lab's authority."""
    keys = [
        sys.executable,
        str(root / "lab/keys.py"),
        "--state-dir",
        str(state_dir),
        f"desk={receivers.ADDRESS}",
    ]
    subprocess.run(keys, check=True, capture_output=True)
    identity = receivers.Identity(state_dir / "pki/desk.crt", state_dir / "pki/desk.key")
    with receivers.web(identity) as web, receivers.relay(identity, password=password) as relay:
        desk = Desk(web, relay, state_dir / "ssh" / "config")
        try:
            yield desk
        finally:
            desk.close()
