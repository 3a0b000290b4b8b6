# SPDX-License-Identifier: GPL-3.0-or-later
"""The application: its parts put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from . import access, heartbeat, keyring, metrics, problems, sweep
from .accounts import Accounts
from .api import answers, auth, cash, health, sales
from .api.services import Services
from .database import Database
from .headers import HeadersMiddleware
from .limits import Limits, LimitsMiddleware
from .middleware import RequestMiddleware
from .readiness import Readiness
from .release import Release
from .settings import Settings
from .throttle import Policy, Throttle
from .tokens import Tokens


def services(settings: Settings, release: Release, secrets: dict[str, str]) -> Services:
    """What handlers work with, from the secrets DATABASE_URL, JWT_SECRET and REFRESH_SECRET."""
    database = Database(secrets["DATABASE_URL"], settings)
    refresh_keys = keyring.parse("REFRESH_SECRET", secrets["REFRESH_SECRET"])
    tokens = Tokens(
        keyring.parse("JWT_SECRET", secrets["JWT_SECRET"]), refresh_keys, settings.access_token_ttl
    )
    # A rotation makes other subjects of the same people, so it forgets what was counted: once, harmlessly.
    throttle = Throttle(
        refresh_keys.current.secret,
        person=Policy(settings.login_free_attempts, longest=15 * 60),
        address=Policy(settings.login_free_attempts_address, longest=60),
    )
    return Services(
        settings=settings,
        release=release,
        database=database,
        tokens=tokens,
        accounts=Accounts(
            database,
            tokens,
            throttle,
            refresh_ttl=settings.refresh_token_ttl,
            refresh_grace=settings.refresh_grace,
        ),
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
            async with (
                heartbeat.beating(
                    release=shared.release.label,
                    ready=lambda: shared.readiness.ok,
                    uptime=lambda: shared.uptime_seconds,
                    interval=shared.settings.heartbeat_seconds,
                ),
                sweep.sweeping(shared.database, shared.settings.sweep_seconds),
            ):
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
    answers.install(app)
    for module in (health, auth, cash, sales):
        app.include_router(module.router)
    access.decisions(app.routes)
    metrics.identify(shared.release, shared.settings.colour)
    limits = Limits(
        body_bytes=shared.settings.body_bytes,
        body_seconds=shared.settings.body_timeout,
        request_seconds=shared.settings.request_timeout,
    )
    inner = HeadersMiddleware(LimitsMiddleware(app, limits))
    return RequestMiddleware(inner, release=shared.release.label, stopping=lambda: shared.readiness.stopping)
