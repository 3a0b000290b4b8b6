# SPDX-License-Identifier: GPL-3.0-or-later
"""Access tokens (JWT, HS256, short) and refresh tokens (random, kept only as a keyed hash).

Both name the key they were made with: access tokens by ``kid`` in the JOSE header, refresh tokens by
what stands before the point (``<kid>.<random>``). A token whose key is not in the ring is not valid.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field

import jwt

from .errors import Problem
from .keyring import Key, KeyRing

ISSUER = "pharma-backend"
ALGORITHM = "HS256"
_BEARER = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends the request."""

    user_id: int
    store_id: int
    role: str


class Tokens:
    """Issues and checks tokens.

    :param access_ttl: life of an access token in seconds.
    """

    def __init__(self, access_keys: KeyRing, refresh_keys: KeyRing, access_ttl: int) -> None:
        self._access_keys = access_keys
        self._refresh_keys = refresh_keys
        self.access_ttl = access_ttl

    def access(self, principal: Principal) -> str:
        """A signed access token."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": str(principal.user_id),
            "store": principal.store_id,
            "role": principal.role,
            "iat": now,
            "exp": now + self.access_ttl,
            "jti": secrets.token_hex(8),
        }
        key = self._access_keys.current
        return jwt.encode(claims, key.secret, algorithm=ALGORITHM, headers={"kid": key.kid})

    def principal(self, token: str) -> Principal:
        """Who an access token speaks for.

        :raises Problem: ``AUTH_TOKEN_EXPIRED`` or ``AUTH_TOKEN_INVALID``, also for an unknown key.
        """
        try:
            key = self._access_keys.find(jwt.get_unverified_header(token)["kid"])
            if key is None:
                raise jwt.InvalidKeyError("no key of that id")
            claims = jwt.decode(
                token,
                key.secret,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                options={"require": ["exp", "iat", "sub"]},
            )
            return Principal(int(claims["sub"]), int(claims["store"]), str(claims["role"]))
        except jwt.ExpiredSignatureError as error:
            raise Problem(
                "AUTH_TOKEN_EXPIRED", 401, "The access token has expired", headers=_BEARER
            ) from error
        except (jwt.PyJWTError, KeyError, ValueError, TypeError) as error:
            raise Problem(
                "AUTH_TOKEN_INVALID", 401, "The access token is not valid", headers=_BEARER
            ) from error

    def new_refresh(self) -> RefreshToken:
        """A new refresh token with what is stored of it."""
        key = self._refresh_keys.current
        token = f"{key.kid}.{secrets.token_urlsafe(32)}"
        return RefreshToken(token, key.kid, _digest(key, token))

    def refresh_hash(self, token: str) -> bytes:
        """HMAC-SHA256 of a refresh token: 32 bytes, useless to whoever reads the table.

        :raises Problem: ``AUTH_REFRESH_INVALID`` when no key of the ring made it.
        """
        kid, point, _random = token.partition(".")
        key = self._refresh_keys.find(kid) if point else None
        if key is None:
            raise refresh_invalid()
        return _digest(key, token)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token: what the client gets, and the id of the key and the hash that are stored."""

    token: str = field(repr=False)
    kid: str
    digest: bytes


def refresh_invalid() -> Problem:
    """The answer to a refresh token that is unknown, expired, revoked or of a retired key."""
    return Problem("AUTH_REFRESH_INVALID", 401, "The refresh token is not valid", "Log in again.")


def _digest(key: Key, token: str) -> bytes:
    return hmac.new(key.secret, token.encode(), hashlib.sha256).digest()
