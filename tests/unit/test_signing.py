# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops.errors import OpsError
from pharma_ops.sealing import signing

PRIVATE, PUBLIC = signing.generate()
_, OTHER = signing.generate()


def openssl(*words: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *words], input=data, capture_output=True, check=False)


@given(st.binary(max_size=2000))
def test_verifies_what_it_signed(data: bytes) -> None:
    signature = signing.sign(PRIVATE, data)
    assert len(signature) == signing.SIGNATURE_BYTES
    assert signing.verify(OTHER + PUBLIC, data, signature) == signing.key_id(PUBLIC)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_one_altered_bit_is_found(data: bytes, draw: st.DataObject) -> None:
    signature = signing.sign(PRIVATE, data)
    bit = draw.draw(st.integers(0, (len(data) + 64) * 8 - 1))
    both = bytearray(data + signature)
    both[bit // 8] ^= 1 << bit % 8
    with pytest.raises(OpsError) as caught:
        signing.verify(PUBLIC, bytes(both[: len(data)]), bytes(both[len(data) :]))
    assert caught.value.code == "SIGNATURE_INVALID"


def test_a_stranger_is_refused() -> None:
    with pytest.raises(OpsError) as caught:
        signing.verify(OTHER, b"data", signing.sign(PRIVATE, b"data"))
    assert caught.value.code == "SIGNATURE_INVALID"
    assert signing.key_id(OTHER) in caught.value.message


def test_openssl_agrees(tmp_path: Path) -> None:
    key, public, data, signature = (tmp_path / name for name in ("key", "pub", "data", "sig"))
    key.write_bytes(PRIVATE)
    public.write_bytes(PUBLIC)
    data.write_bytes(b"what was signed")
    signature.write_bytes(signing.sign(PRIVATE, data.read_bytes()))
    check = ("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", data, "-sigfile", signature)
    assert openssl(*check).returncode == 0
    data.write_bytes(b"what was forged")
    assert openssl(*check).returncode != 0
    made = openssl("pkeyutl", "-sign", "-inkey", key, "-rawin", "-in", data).stdout
    assert made or openssl("version").stdout.startswith(b"OpenSSL 1")
    signature.write_bytes(b"")
    assert (
        openssl("pkeyutl", "-sign", "-inkey", key, "-rawin", "-in", data, "-out", signature).returncode == 0
    )
    assert signing.verify(PUBLIC, b"what was forged", signature.read_bytes()) == signing.key_id(PUBLIC)


def test_the_key_id_is_that_of_openssl(tmp_path: Path) -> None:
    der = openssl("pkey", "-pubin", "-outform", "DER", data=PUBLIC).stdout
    assert signing.key_id(PUBLIC) == hashlib.sha256(der).hexdigest()[:16]
    assert openssl("pkey", "-pubout", data=PRIVATE).stdout == signing.public_of(PRIVATE) == PUBLIC


@pytest.mark.parametrize("kind", ["rsa", "garbage", "public"])
def test_what_is_no_signing_key_is_refused(kind: str) -> None:
    pem = {
        "rsa": openssl("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:1024").stdout,
        "garbage": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "public": PUBLIC,
    }[kind]
    with pytest.raises(OpsError) as caught:
        signing.sign(pem, b"")
    assert caught.value.code == "SIGNING_KEY_INVALID"


@pytest.mark.parametrize("kind", ["empty", "private", "ec"])
def test_what_is_no_trusted_key_is_refused(kind: str) -> None:
    curve = openssl("genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256").stdout
    pem = {
        "empty": b"",
        "private": PRIVATE,
        "ec": PUBLIC + openssl("pkey", "-pubout", data=curve).stdout,
    }[kind]
    with pytest.raises(OpsError) as caught:
        signing.verify(pem, b"", b"")
    assert caught.value.code == "TRUSTED_KEYS_INVALID"
