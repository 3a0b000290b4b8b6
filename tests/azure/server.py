# SPDX-License-Identifier: GPL-3.0-or-later
"""Azurite as a child of the tests: over https, with a certificate and an account of its own."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import ipaddress
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

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

START_SECONDS = 60
SAS_VERSION = "2021-12-02"


@dataclass(frozen=True)
class Azurite:
    """A running server."""

    port: int
    account: str
    key: str
    ca_file: Path
    process: subprocess.Popen[bytes]

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


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Azurite of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "azurite.crt", directory / "azurite.key"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_file, key_file


@contextlib.contextmanager
def running(program: Path, directory: Path, again: Azurite | None = None) -> Iterator[Azurite]:
    """Start Azurite on a free port of the loopback; everything it keeps lies in ``directory``.

    :param again: a server of that directory that has ended and is to come back with its port and key.
    """
    certificate_file, key_file = directory / "azurite.crt", directory / "azurite.key"
    if again is None:
        certificate_file, key_file = certificate(directory)
    account = "pharmatests"
    key = again.key if again else base64.b64encode(secrets.token_bytes(64)).decode()
    port = again.port if again else free_port()
    with (directory / "azurite.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *("node", str(program), "--blobHost", "127.0.0.1", "--blobPort", str(port)),
                *("--location", str(directory), "--cert", str(certificate_file), "--key", str(key_file)),
                "--disableTelemetry",
            ],
            env={"PATH": os.environ["PATH"], "HOME": str(directory), "AZURITE_ACCOUNTS": f"{account}:{key}"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(port, certificate_file, process, directory / "azurite.log")
        yield Azurite(port, account, key, certificate_file, process)
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
