# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops.errors import OpsError
from pharma_ops.sealing import age
from pharma_ops.sealing.recipients import parse_recipient


def keygen() -> tuple[bytes, str]:
    """An identity and its recipient, made by age itself."""
    identity = subprocess.run(["age-keygen"], capture_output=True, check=True).stdout
    recipient = subprocess.run(["age-keygen", "-y"], input=identity, capture_output=True, check=True).stdout
    return identity, recipient.decode().strip()


IDENTITY, PUBLIC = keygen()
ESCROW, ESCROW_PUBLIC = keygen()
STRANGER, _ = keygen()
RECIPIENTS = (parse_recipient(PUBLIC), parse_recipient(ESCROW_PUBLIC))


@pytest.mark.parametrize("identity", [IDENTITY, ESCROW])
def test_every_recipient_can_decrypt(tmp_path: Path, identity: bytes) -> None:
    chunks = [bytes([n]) * 300_000 for n in range(20)]
    source = tmp_path / "x.age"
    source.write_bytes(b"".join(age.encrypt_stream(RECIPIENTS, iter(chunks))))
    plain = b"".join(chunks)
    assert plain[:1000] not in source.read_bytes()
    done: list[int] = []
    result = age.decrypt_file(identity, source, tmp_path / "x", progress=done.append)
    assert (tmp_path / "x").read_bytes() == plain
    assert (result.bytes, result.sha256) == (len(plain), hashlib.sha256(plain).hexdigest())
    assert done[-1] == len(plain)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_age_itself_decrypts_it(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(IDENTITY)
    sealed = age.encrypt(RECIPIENTS, b"by hand")
    run = subprocess.run(["age", "-d", "-i", key], input=sealed, capture_output=True, check=True)
    assert run.stdout == b"by hand"


def test_a_failing_producer_never_looks_complete(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 200_000
        raise RuntimeError("the dump died")

    got = bytearray()
    with pytest.raises(RuntimeError, match="the dump died"):
        for chunk in age.encrypt_stream(RECIPIENTS, broken()):
            got += chunk
    source = tmp_path / "x.age"
    source.write_bytes(got)
    with pytest.raises(OpsError):
        age.decrypt_file(IDENTITY, source, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_consumer_that_leaves_early_ends_everything() -> None:
    stopped = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            stopped.set()

    stream = age.encrypt_stream(RECIPIENTS, endless())
    next(stream)
    stream.close()
    assert threading.active_count() < 10
    assert not [t for t in threading.enumerate() if t.name == "encrypt-feeder"]


def test_a_broken_age_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "age"
    fake.write_text("#!/bin/sh\nhead -c 10\necho out of memory >&2\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(OpsError, match="out of memory") as caught:
        list(age.encrypt_stream(RECIPIENTS, iter([b"x" * 100_000] * 50)))
    assert caught.value.code == "ENCRYPTION_FAILED"


@pytest.mark.parametrize(
    ("identity", "code"),
    [(STRANGER, "IDENTITY_WRONG"), (b"AGE-SECRET-KEY-1XX\n", "IDENTITY_INVALID"), (b"", "IDENTITY_INVALID")],
)
def test_a_wrong_identity_is_named(tmp_path: Path, identity: bytes, code: str) -> None:
    source, key = tmp_path / "x.age", tmp_path / "key"
    source.write_bytes(age.encrypt(RECIPIENTS, b"x"))
    key.write_bytes(identity)
    for given_as in (identity, key):
        with pytest.raises(OpsError) as caught:
            age.decrypt_file(given_as, source, tmp_path / "x")
        assert caught.value.code == code
    assert str(key) in caught.value.message
    with pytest.raises(OpsError) as caught:
        age.decrypt_file(tmp_path / "none", source, tmp_path / "x")
    assert caught.value.code == "IDENTITY_MISSING"


@pytest.mark.parametrize("damage", ["cut", "flipped", "header", "empty", "garbage"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    sealed = bytearray(age.encrypt(RECIPIENTS, b"x" * 200_000))
    if damage == "cut":
        del sealed[-70_000:]
    elif damage == "flipped":
        sealed[-100_000] ^= 1
    elif damage == "header":
        sealed[sealed.index(b"---") - 10] ^= 1
    else:
        sealed = bytearray(b"PGDMP" * 100 if damage == "garbage" else b"")
    source = tmp_path / "x.age"
    source.write_bytes(sealed)
    with pytest.raises(OpsError) as caught:
        age.decrypt_file(IDENTITY, source, tmp_path / "x")
    assert caught.value.code == "CIPHERTEXT_DAMAGED"
    assert [path.name for path in tmp_path.iterdir()] == ["x.age"]


def test_reads_a_recipients_file(tmp_path: Path) -> None:
    path = tmp_path / "recipients.txt"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ops@x", "-f", tmp_path / "id"], check=True
    )
    ssh = (tmp_path / "id.pub").read_text()
    path.write_text(f"# staging\n{PUBLIC}\n\n  {ESCROW_PUBLIC}  \n{ssh}{PUBLIC}\n")
    found = age.load_recipients(path)
    assert [one.text for one in found] == [PUBLIC, ESCROW_PUBLIC, " ".join(ssh.split()[:2])]
    assert found[0].fingerprint == hashlib.sha256(PUBLIC.encode()).hexdigest()[:16]
    source = tmp_path / "x.age"
    source.write_bytes(age.encrypt(found, b"x"))
    assert age.decrypt_file(tmp_path / "id", source, tmp_path / "x").bytes == 1


@given(st.integers(4, 61), st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l"))
def test_one_altered_letter_is_found(position: int, letter: str) -> None:
    if PUBLIC[position] == letter:
        return
    with pytest.raises(ValueError, match="checksum"):
        parse_recipient(PUBLIC[:position] + letter + PUBLIC[position + 1 :])


@pytest.mark.parametrize(
    "line",
    [PUBLIC[:-1], PUBLIC.upper(), PUBLIC + "x", "ops@example", "ssh-rsa AAAA", "ssh-ed25519 AAAA", "age1"],
    # Not the keys themselves, which are new in each process of a run.
    ids=["short", "upper case", "long", "address", "ssh-rsa", "ssh-ed25519", "prefix alone"],
)
def test_a_garbled_recipient_is_named_by_file_and_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "recipients.txt"
    path.write_text(f"# who\n{PUBLIC}\n{line}\n")
    with pytest.raises(OpsError, match=f"{path}, line 3") as caught:
        age.load_recipients(path)
    assert caught.value.code == "RECIPIENT_INVALID"


def test_a_secret_key_among_recipients_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "recipients.txt"
    path.write_bytes(IDENTITY)
    secret = IDENTITY.decode().splitlines()[-1]
    with pytest.raises(OpsError, match="secret key") as caught:
        age.load_recipients(path)
    assert secret not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"# nobody\n\n", b"\xff\xfe", None])
def test_nobody_to_encrypt_for_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "recipients.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OpsError) as caught:
        age.load_recipients(path)
    assert caught.value.code == "RECIPIENTS_MISSING"
