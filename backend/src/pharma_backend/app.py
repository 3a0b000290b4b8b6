# SPDX-License-Identifier: GPL-3.0-or-later
"""The application: its parts put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from . import keyring, metrics, problems
from .accounts import Accounts
from .api import auth, cash, health, sales
from .api.services import Services
from .database import Database
from .middleware import RequestMiddleware
from .readiness import Readiness
from .release import Release
from .settings import Settings
from .tokens import Tokens


def services(settings: Settings, release: Release, secrets: dict[str, str]) -> Services:
    """What handlers work with, from the secrets DATABASE_URL, JWT_SECRET and REFRESH_SECRET."""
    database = Database(secrets["DATABASE_URL"], settings)
    tokens = Tokens(
        keyring.parse("JWT_SECRET", secrets["JWT_SECRET"]),
        keyring.parse("REFRESH_SECRET", secrets["REFRESH_SECRET"]),
        settings.access_token_ttl,
    )
    return Services(
        settings=settings,
        release=release,
        database=database,
        tokens=tokens,
        accounts=Accounts(database, tokens, settings.refresh_token_ttl),
        readiness=Readiness(
            secrets["DATABASE_URL"],
            interval=settings.readiness_interval,
            timeout=settings.readiness_timeout,
        ),
    )


def create(shared: Services) -> RequestMiddleware:
    """The ASGI application."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await shared.database.open()
        await shared.readiness.start()
        try:
            yield
        finally:
            await shared.readiness.close()
            await shared.database.close()

    documented = shared.settings.env != "prod"
    app = FastAPI(
        title="Pharmacy backend",
        version=shared.release.version,
        openapi_url="/openapi.json" if documented else None,
        docs_url="/docs" if documented else None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.services = shared
    problems.install(app)
    for module in (health, auth, cash, sales):
        app.include_router(module.router)
    metrics.identify(shared.release, shared.settings.colour)
    return RequestMiddleware(app, release=shared.release.label, stopping=lambda: shared.readiness.stopping)
