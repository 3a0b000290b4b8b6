#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes what a lab keeps secret: ssh key, authority, certificates, passwords, signing keys and age keys.

    keys.py --state-dir DIR NAME=ADDRESS...

Everything is made once and kept; a host's certificate is made again when its address changed. Prints
``made: …`` for what was made and nothing when all was there.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pharma lab authority")])
LIFETIME = datetime.timedelta(days=365)
# A certificate that starts this very second is refused by a host whose clock is a little behind.
BACKDATE = datetime.timedelta(hours=1)


def write(path: Path, data: bytes, mode: int) -> None:
    """Write a file that never stands there half written or with wider access than `mode`."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(data)
    temporary.replace(path)


def private_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """PKCS #8, as `openssl genpkey` writes it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signing_pair() -> tuple[str, str]:
    """An Ed25519 key and its public half, both PEM."""
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private_pem(key).decode(), public.decode()


def age_pair() -> tuple[str, str]:
    """An age identity and its recipient, made by age itself."""
    made = subprocess.run(["age-keygen"], check=True, capture_output=True, text=True).stdout
    identity = next(line for line in made.splitlines() if line.startswith("AGE-SECRET-KEY-"))
    recipient = next(
        line.removeprefix("# public key: ") for line in made.splitlines() if line.startswith("# public key: ")
    )
    return identity, recipient


def certificate(
    subject: x509.Name, public_key: ec.EllipticCurvePublicKey, authority: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    """What all certificates of the lab have in common."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(CA_NAME)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False
        )
    )


def make_authority(pki: Path) -> list[str]:
    """The certificate authority of the lab."""
    if (pki / "ca.crt").exists():
        return []
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    signed = (
        certificate(CA_NAME, key.public_key(), key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    write(pki / "ca.key", private_pem(key), 0o600)
    write(pki / "ca.crt", signed.public_bytes(serialization.Encoding.PEM), 0o644)
    return ["authority"]


def has_certificate(path: Path, name: str, address: str) -> bool:
    """Whether the certificate there is for this name and address."""
    if not path.exists():
        return False
    found = x509.load_pem_x509_certificate(path.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    wanted = ipaddress.ip_address(address)
    return name in names.get_values_for_type(x509.DNSName) and wanted in names.get_values_for_type(
        x509.IPAddress
    )


def make_certificate(pki: Path, name: str, address: str) -> list[str]:
    """The certificate of a host, for its name and its address, as server and as client."""
    if has_certificate(pki / f"{name}.crt", name, address):
        return []
    authority = serialization.load_pem_private_key((pki / "ca.key").read_bytes(), password=None)
    if not isinstance(authority, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{pki / 'ca.key'} holds no elliptic-curve key; remove {pki} to make a new authority")
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName(
        [x509.DNSName(name), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(address))]
    )
    signed = (
        certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(), authority)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .sign(authority, hashes.SHA256())
    )
    write(pki / f"{name}.key", private_pem(key), 0o600)
    write(pki / f"{name}.crt", signed.public_bytes(serialization.Encoding.PEM), 0o644)
    return [f"certificate of {name}"]


def make_ssh_key(directory: Path) -> list[str]:
    """The key with which the controller reaches the hosts."""
    path = directory / "id_ed25519"
    if path.exists():
        return []
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "pharma-lab", "-f", str(path)], check=True
    )
    return ["ssh key"]


def s3_user() -> tuple[str, str]:
    """An access key and its secret, in the alphabet of S3."""
    return secrets.token_hex(10).upper(), secrets.token_urlsafe(30)


def makers(state: Path) -> dict[tuple[str, ...], Callable[[], tuple[str, ...]]]:
    """How each secret is made; those that belong together are made together."""

    def password() -> tuple[str]:
        return (secrets.token_urlsafe(32),)

    def escrow() -> tuple[str]:
        # The identity lies apart: nothing of a running system may ever read it.
        identity, recipient = age_pair()
        write(state / "escrow" / "identity.txt", f"{identity}\n".encode(), 0o600)
        return (recipient,)

    return {
        ("database_app_password",): password,
        # What rotations bring; a test that has rotated gives each the place of the other.
        ("database_app_password_next",): password,
        ("jwt_secret_next",): password,
        ("refresh_secret_next",): password,
        ("probe_password",): password,
        ("database_login", "database_login_next"): lambda: ("pharma_app", "pharma_app_alt"),
        ("database_migrator_password",): password,
        ("database_backup_password",): password,
        ("jwt_secret",): password,
        ("refresh_secret",): password,
        ("s3_writer_access_key", "s3_writer_secret_key"): s3_user,
        ("s3_reader_access_key", "s3_reader_secret_key"): s3_user,
        ("s3_pruner_access_key", "s3_pruner_secret_key"): s3_user,
        ("s3_admin_access_key", "s3_admin_secret_key"): s3_user,
        ("age_identity", "age_recipient"): age_pair,
        ("escrow_recipient",): escrow,
        ("backup_signing_key", "backup_signing_public_key"): signing_pair,
        # Of those who are told of failures, where a scenario has them.
        ("notify_mail_password",): password,
        ("notify_webhook_token",): password,
        ("notify_ping_token",): password,
        ("evidence_signing_key", "evidence_signing_public_key"): signing_pair,
    }


def make_secrets(state: Path) -> list[str]:
    """``secrets.json``: what is there is kept, what a newer version of the lab needs besides is added."""
    path = state / "secrets.json"
    values: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    missing = {names: make for names, make in makers(state).items() if not values.keys() >= set(names)}
    if not missing:
        return []
    for names, make in missing.items():
        values.update(zip(names, make(), strict=True))
    write(path, (json.dumps(values, indent=2, sort_keys=True) + "\n").encode(), 0o600)
    return [name for names in missing for name in names]


def main() -> int:
    """Read the command line, make what is missing, say what was made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--state-dir", required=True, type=Path)
    parser.add_argument("hosts", nargs="+", metavar="NAME=ADDRESS")
    arguments = parser.parse_args()

    os.umask(0o077)
    state: Path = arguments.state_dir
    for directory in (state, state / "pki", state / "ssh", state / "escrow"):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)

    made = make_ssh_key(state / "ssh") + make_authority(state / "pki")
    for host in arguments.hosts:
        name, _, address = host.partition("=")
        made += make_certificate(state / "pki", name, address)
    made += make_secrets(state)
    if made:
        print("made: " + ", ".join(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
