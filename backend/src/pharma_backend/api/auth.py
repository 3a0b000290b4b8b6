# SPDX-License-Identifier: GPL-3.0-or-later
"""``/auth``: login and refresh."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, SecretStr

from .. import log
from ..accounts import Session
from ..passwords import MAX_CHARACTERS
from ..throttle import client_address
from .answers import BODY, DATABASE, problems
from .services import ServicesDep, remember

router = APIRouter()

Secret = Annotated[SecretStr, Field(min_length=1, max_length=MAX_CHARACTERS)]


class Login(BaseModel):
    """Credentials."""

    username: Annotated[str, Field(min_length=1, max_length=64)]
    password: Secret


class Refresh(BaseModel):
    """A refresh token."""

    refresh_token: Secret


class TokenPair(BaseModel):
    """What both endpoints answer; ``expires_in`` in seconds."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the type of it, not a token
    expires_in: int

    @classmethod
    def of(cls, session: Session) -> "TokenPair":
        """The session as it is sent."""
        return cls(
            access_token=session.access_token,
            refresh_token=session.refresh_token,
            expires_in=session.expires_in,
        )


@router.post(
    "/auth/login", responses=problems(*BODY, *DATABASE, "AUTH_INVALID_CREDENTIALS", "AUTH_THROTTLED")
)
async def login(body: Login, request: Request, shared: ServicesDep) -> TokenPair:
    """Check a user's password."""
    principal, session = await shared.accounts.login(
        body.username, body.password.get_secret_value(), client_address(request.scope)
    )
    remember(principal)
    log.info("login_succeeded", role=principal.role)
    return TokenPair.of(session)


@router.post(
    "/auth/refresh", responses=problems(*BODY, *DATABASE, "AUTH_REFRESH_INVALID", "AUTH_REFRESH_REUSED")
)
async def refresh(body: Refresh, shared: ServicesDep) -> TokenPair:
    """Exchange a refresh token, which is good once, for a new pair."""
    principal, session = await shared.accounts.refresh(body.refresh_token.get_secret_value())
    remember(principal)
    log.info("token_refreshed")
    return TokenPair.of(session)
