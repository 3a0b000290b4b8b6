# SPDX-License-Identifier: GPL-3.0-or-later
"""What handlers work with, and who is asking."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from .. import context
from ..accounts import Accounts
from ..database import Database
from ..errors import Problem
from ..readiness import Readiness
from ..release import Release
from ..settings import Settings
from ..tokens import Principal, Tokens


@dataclass(frozen=True)
class Services:
    """Everything that one process shares between requests."""

    settings: Settings
    release: Release
    database: Database
    tokens: Tokens
    accounts: Accounts
    readiness: Readiness
    started: float = field(default_factory=time.monotonic)

    @property
    def uptime_seconds(self) -> int:
        """Whole seconds since the process began to serve."""
        return int(time.monotonic() - self.started)


def services(request: Request) -> Services:
    """The services of the application that serves the request."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]


def remember(principal: Principal) -> None:
    """Put user and store into the lines of this request."""
    request = context.current()
    if request is not None:
        request.user_id = str(principal.user_id)
        request.store_id = str(principal.store_id)


def allowed(*roles: str) -> Callable[..., Coroutine[Any, Any, Principal]]:
    """A dependency: the authenticated user, who has one of the roles.

    It raises ``AUTH_REQUIRED``, ``AUTH_TOKEN_INVALID``, ``AUTH_TOKEN_EXPIRED`` or ``AUTH_FORBIDDEN``.
    """

    # A coroutine, so that it runs in the request's own context and not in a worker thread's copy.
    async def authenticate(request: Request, shared: ServicesDep) -> Principal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Problem(
                "AUTH_REQUIRED", 401, "An access token is required", headers={"WWW-Authenticate": "Bearer"}
            )
        principal = shared.tokens.principal(token.strip())
        remember(principal)
        if principal.role not in roles:
            raise Problem("AUTH_FORBIDDEN", 403, "The user's role does not allow this")
        return principal

    return authenticate


Operator = Annotated[Principal, Depends(allowed("manager", "cashier"))]
AnyUser = Annotated[Principal, Depends(allowed("admin", "manager", "cashier"))]
