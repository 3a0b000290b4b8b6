# SPDX-License-Identifier: GPL-3.0-or-later
"""Access tokens (JWT, HS256, short) and refresh tokens (random, kept only as a keyed hash)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

import jwt

from .errors import Problem

ISSUER = "pharma-backend"
ALGORITHM = "HS256"


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

    def __init__(self, jwt_secret: str, refresh_secret: str, access_ttl: int) -> None:
        self._jwt_secret = jwt_secret
        self._refresh_secret = refresh_secret.encode()
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
        return jwt.encode(claims, self._jwt_secret, algorithm=ALGORITHM)

    def principal(self, token: str) -> Principal:
        """Who an access token speaks for.

        :raises Problem: ``AUTH_TOKEN_EXPIRED`` or ``AUTH_TOKEN_INVALID``.
        """
        try:
            claims = jwt.decode(
                token,
                self._jwt_secret,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                options={"require": ["exp", "iat", "sub"]},
            )
            return Principal(int(claims["sub"]), int(claims["store"]), str(claims["role"]))
        except jwt.ExpiredSignatureError as error:
            raise _unauthorized("AUTH_TOKEN_EXPIRED", "The access token has expired") from error
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError) as error:
            raise _unauthorized("AUTH_TOKEN_INVALID", "The access token is not valid") from error

    def new_refresh(self) -> tuple[str, bytes]:
        """A new refresh token and the hash of it that is stored."""
        token = secrets.token_urlsafe(32)
        return token, self.refresh_hash(token)

    def refresh_hash(self, token: str) -> bytes:
        """HMAC-SHA256 of a refresh token: 32 bytes, useless to whoever reads the table."""
        return hmac.new(self._refresh_secret, token.encode(), hashlib.sha256).digest()


def _unauthorized(code: str, title: str) -> Problem:
    return Problem(code, 401, title, headers={"WWW-Authenticate": "Bearer"})
