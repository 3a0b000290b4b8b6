# SPDX-License-Identifier: GPL-3.0-or-later
"""What handlers work with, and who is asking."""

import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

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


Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


class Allowed:
    """A dependency: the authenticated user, who has one of the roles.

    It raises ``AUTH_REQUIRED``, ``AUTH_TOKEN_INVALID``, ``AUTH_TOKEN_EXPIRED`` or ``AUTH_FORBIDDEN``.
    """

    def __init__(self, *roles: str) -> None:
        self.roles = frozenset(roles)

    # A coroutine, so that it runs in the request's own context and not in a worker thread's copy.
    async def __call__(self, credentials: Credentials, shared: ServicesDep) -> Principal:
        if credentials is None:
            raise Problem(
                "AUTH_REQUIRED", 401, "An access token is required", headers={"WWW-Authenticate": "Bearer"}
            )
        principal = shared.tokens.principal(credentials.credentials.strip())
        remember(principal)
        if principal.role not in self.roles:
            raise Problem("AUTH_FORBIDDEN", 403, "The user's role does not allow this")
        return principal


Operator = Annotated[Principal, Depends(Allowed("manager", "cashier"))]
AnyUser = Annotated[Principal, Depends(Allowed("admin", "manager", "cashier"))]
