# SPDX-License-Identifier: GPL-3.0-or-later
"""Key rings: what they refuse, and that a rotation logs nobody out."""

from __future__ import annotations

import hashlib
import hmac
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from backend_harness import Cli, Service, start_service

from pharma_backend import keyring
from pharma_backend.errors import CommandError, Problem
from pharma_backend.tokens import Principal, Tokens

OLD, NEW, OTHER = "o" * 48, "n" * 48, "x" * 48
SOMEBODY = Principal(7, 1, "manager")


def ring(*secrets: str) -> keyring.KeyRing:
    return keyring.parse("JWT_SECRET", "\n".join(secrets))


def tokens(*secrets: str) -> Tokens:
    return Tokens(ring(*secrets), ring(*secrets), 60)


def test_the_id_of_a_key_can_be_computed_by_others() -> None:
    expected = hmac.new(OLD.encode(), b"pharma-backend kid", hashlib.sha256).hexdigest()[:16]
    assert ring(OLD).current.kid == expected


def test_the_first_line_signs_and_blank_lines_do_not_count() -> None:
    read = keyring.parse("JWT_SECRET", f"\n  {NEW}  \r\n\r\n{OLD}\n")
    assert [key.secret for key in read] == [NEW.encode(), OLD.encode()]
    assert (read.current.secret, len(read)) == (NEW.encode(), 2)
    assert NEW not in repr(read.current)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "SECRET_MISSING"),
        (" \n \n", "SECRET_MISSING"),
        (f"{OLD}\nhunter2-hunter2", "SECRET_TOO_SHORT"),
        (f"{OLD}\n{NEW}\n{OLD}", "SECRET_DUPLICATE"),
    ],
)
def test_a_bad_ring_is_refused_without_being_shown(text: str, code: str) -> None:
    with pytest.raises(CommandError) as refused:
        keyring.parse("REFRESH_SECRET", text)
    assert refused.value.code == code
    assert "REFRESH_SECRET" in refused.value.message
    assert not any(word in str(refused.value) for word in (OLD, NEW, "hunter2"))


def test_an_access_token_names_its_key() -> None:
    token = tokens(NEW, OLD).access(SOMEBODY)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT", "kid": ring(NEW).current.kid}
    assert tokens(OLD, NEW).principal(token) == SOMEBODY


def forged(secret: str, header: dict[str, Any], algorithm: str = "HS256", **changed: object) -> str:
    now = int(time.time())
    claims = {"iss": "pharma-backend", "sub": "7", "store": 1, "role": "admin", "iat": now, "exp": now + 60}
    claims |= changed
    return jwt.encode(claims, secret or None, algorithm=algorithm, headers=header)  # type: ignore[arg-type]


def test_tokens_that_are_not_valid() -> None:
    kid = ring(OLD).current.kid
    checker = tokens(OLD)
    assert checker.principal(forged(OLD, {"kid": kid})).role == "admin"
    wrong = {
        "no key id": forged(OLD, {}),
        "a key that is not in the ring": forged(OTHER, {"kid": ring(OTHER).current.kid}),
        "the id of a key that did not sign": forged(OTHER, {"kid": kid}),
        "another algorithm": forged(OLD * 2, {"kid": kid}, "HS512"),
        "no algorithm": forged("", {"kid": kid}, "none"),
        "another issuer": forged(OLD, {"kid": kid}, iss="somebody"),
        "no store": forged(OLD, {"kid": kid}, store="x"),
        "no token": "eyJ.x.y",
        "nothing": "",
        "not ASCII": "é.é.é",
    }
    for name, token in wrong.items():
        with pytest.raises(Problem) as refused:
            checker.principal(token)
        assert refused.value.code == "AUTH_TOKEN_INVALID", name
    with pytest.raises(Problem) as expired:
        checker.principal(forged(OLD, {"kid": kid}, exp=int(time.time()) - 1))
    assert expired.value.code == "AUTH_TOKEN_EXPIRED"


def test_a_refresh_token_names_its_key() -> None:
    made = tokens(NEW, OLD).new_refresh()
    assert made.token.split(".")[0] == made.kid == ring(NEW).current.kid
    assert tokens(OLD, NEW).refresh_hash(made.token) == made.digest
    assert made.token not in repr(made)
    for token in (made.token, made.token.partition(".")[2], made.kid, "", ".", "é.x"):
        with pytest.raises(Problem) as refused:
            tokens(OLD).refresh_hash(token)
        assert refused.value.code == "AUTH_REFRESH_INVALID"


def reads(running: Service, pair: dict[str, str]) -> int:
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    return running.client.get("/products?limit=1", headers=headers).status_code


def refresh(running: Service, pair: dict[str, str]) -> httpx.Response:
    return running.client.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]})


def test_a_rotation_logs_nobody_out(pharmacy: Cli, tmp_path: Path) -> None:
    """Tokens of every phase are good in the next one; those of the first are not in the last."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "DATABASE_URL").write_text((pharmacy.credentials / "DATABASE_URL").read_text())
    cli = Cli(credentials, pharmacy.environment)
    sessions: list[dict[str, str]] = []
    for number, phase in enumerate([(OLD,), (OLD, NEW), (NEW, OLD), (NEW,)]):
        for name in ("JWT_SECRET", "REFRESH_SECRET"):
            (credentials / name).write_text("\n".join(name + secret for secret in phase) + "\n")
        home = tmp_path / str(number)
        home.mkdir()
        running = start_service(cli, home)
        try:
            if not sessions:
                left_alone = running.login("ana")
                sessions.append(running.login("ana"))
            assert reads(running, sessions[-1]) == 200, phase
            answer = refresh(running, sessions[-1])
            assert answer.status_code == 200, (phase, answer.text)
            sessions.append(answer.json())
            assert reads(running, sessions[-1]) == 200, phase
            if phase == (NEW,):
                assert reads(running, sessions[0]) == 401
                assert refresh(running, left_alone).json()["code"] == "AUTH_REFRESH_INVALID"
        finally:
            assert running.stop() == 0
