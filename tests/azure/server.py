# SPDX-License-Identifier: GPL-3.0-or-later
"""Azurite as a child of the tests: over https, with a certificate and an account of its own."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import os
import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from receivers import Identity, make_identity

START_SECONDS = 60
SAS_VERSION = "2021-12-02"


@dataclass(frozen=True)
class Azurite:
    """A running server."""

    port: int
    account: str
    key: str
    identity: Identity
    process: subprocess.Popen[bytes]

    @property
    def ca_file(self) -> Path:
        return self.identity.certificate

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.port}/{self.account}"

    def sas(
        self,
        container: str,
        permissions: str,
        expires: datetime.timedelta = datetime.timedelta(hours=1),
        key: str = "",
        policy: str = "",
    ) -> str:
        """A service SAS for a container, as "Create a service SAS" in Microsoft's documentation makes it.

        :param policy: stored access policy of the container that says the permissions and the end instead.
        """
        end = "" if policy else moment(expires)
        resource = f"/blob/{self.account}/{container}"
        fields = (permissions, "", end, resource, policy, "", "https,http", SAS_VERSION, "c", *[""] * 7)
        digest = hmac.new(base64.b64decode(key or self.key), "\n".join(fields).encode(), hashlib.sha256)
        signature = base64.b64encode(digest.digest()).decode()
        parts = {
            "sv": SAS_VERSION,
            "se": end,
            "sr": "c",
            "sp": permissions,
            "si": policy,
            "spr": "https,http",
            "sig": signature,
        }
        return "&".join(f"{name}={quote(value, safe='')}" for name, value in parts.items() if value)


def moment(ahead: datetime.timedelta) -> str:
    """A time from now, as SAS tokens and policies have it."""
    return (datetime.datetime.now(datetime.UTC) + ahead).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextlib.contextmanager
def running(program: Path, directory: Path, again: Azurite | None = None) -> Iterator[Azurite]:
    """Start Azurite on a free port of the loopback; everything it keeps lies in ``directory``.

    :param again: a server of that directory that has ended and is to come back with its port and key.
    """
    identity = again.identity if again else make_identity(directory)
    account = "pharmatests"
    key = again.key if again else base64.b64encode(secrets.token_bytes(64)).decode()
    port = again.port if again else free_port()
    with (directory / "azurite.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *("node", str(program), "--blobHost", "127.0.0.1", "--blobPort", str(port)),
                *(
                    "--location",
                    str(directory),
                    "--cert",
                    str(identity.certificate),
                    "--key",
                    str(identity.key),
                ),
                "--disableTelemetry",
            ],
            env={"PATH": os.environ["PATH"], "HOME": str(directory), "AZURITE_ACCOUNTS": f"{account}:{key}"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(port, identity.certificate, process, directory / "azurite.log")
        yield Azurite(port, account, key, identity, process)
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, ca_file: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    context = ssl.create_default_context(cafile=str(ca_file))
    for _ in range(START_SECONDS * 10):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as raw:
            context.wrap_socket(raw, server_hostname="127.0.0.1").close()
            return
        time.sleep(0.1)
    raise AssertionError(f"Azurite did not start:\n{log.read_text()}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
