# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing what is of no use any more: old idempotency keys, attempts to log in, refresh tokens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psycopg

from . import log
from .database import Database
from .errors import Problem
from .idempotency import KEEP_SECONDS
from .throttle import FORGET_SECONDS

# At most so many rows in one transaction, so that none takes long.
BATCH = 5000


async def sweep(database: Database) -> dict[str, int]:
    """Remove one batch of each kind; how many rows there were.

    An expired refresh token is of no use, not even for finding out that it was stolen.

    :raises Problem: the database cannot be used.
    """
    async with database.transaction() as tx:
        facts = {"batch": BATCH, "keep": KEEP_SECONDS, "forget": FORGET_SECONDS}
        keys = await tx.execute(
            """
            delete from pharmacy.idempotency_keys where ctid = any (array(
              select ctid from pharmacy.idempotency_keys
               where created_at < now() - make_interval(secs => %(keep)s) limit %(batch)s for update skip locked))
            """,
            facts,
        )
        attempts = await tx.execute(
            """
            delete from pharmacy.login_attempts where ctid = any (array(
              select ctid from pharmacy.login_attempts
               where last_at < now() - make_interval(secs => %(forget)s) limit %(batch)s for update skip locked))
            """,
            facts,
        )
        tokens = await tx.execute(
            """
            delete from pharmacy.refresh_tokens where ctid = any (array(
              select ctid from pharmacy.refresh_tokens
               where expires_at < now() limit %(batch)s for update skip locked))
            """,
            facts,
        )
    return {"idempotencyKeys": keys, "loginAttempts": attempts, "refreshTokens": tokens}


@asynccontextmanager
async def sweeping(database: Database, interval: float) -> AsyncIterator[None]:
    """Sweep every ``interval`` seconds, at times that differ between processes, until the block ends."""
    task = asyncio.create_task(_run(database, interval), name="sweep")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _run(database: Database, interval: float) -> None:
    while True:
        await asyncio.sleep(interval * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        try:
            removed = await sweep(database)
        except (Problem, psycopg.Error) as error:
            log.warn("sweep_failed", error)
            continue
        if any(removed.values()):
            log.info("swept", **removed)
