# SPDX-License-Identifier: GPL-3.0-or-later
"""The pool, and transactions that carry the request id into the database's own log."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from . import context, log, metrics, requestid
from .errors import Problem
from .reach import Connection, Patience
from .settings import Settings

Row = DictRow
# How much longer than its statement_timeout a server may take to say so. After that it hangs.
HANG_SECONDS = 2.0

# SQLSTATE of what another try may well get through: deadlock, serialization, lock and statement timeouts.
_BUSY = frozenset({"40001", "40P01", "55P03", "57014"})


def unreachable(*, committing: bool = False) -> Problem:
    """The answer while the database cannot be used.

    :param committing: the connection was lost when the transaction was to be committed.
    """
    return Problem(
        "DB_UNREACHABLE",
        503,
        "The database cannot be reached",
        "It is not known whether the change was kept: look before trying again."
        if committing
        else "Nothing was changed; try again.",
        headers={"Retry-After": "2"},
    )


def busy() -> Problem:
    """The answer when the database gave up waiting."""
    return Problem(
        "DB_BUSY",
        503,
        "The database is busy",
        "Nothing was changed; try again.",
        headers={"Retry-After": "1"},
    )


class Transaction:
    """One transaction; counts its statements and their time into the request's context.

    :param patience: seconds after which a server that has not answered a statement hangs.
    """

    def __init__(self, connection: Connection, patience: float) -> None:
        self._connection = connection
        self._patience = patience

    async def execute(
        self, query: LiteralString | sql.Composed, parameters: Mapping[str, Any] | None = None
    ) -> int:
        """Run a statement; the number of rows it touched."""
        return (await self._run(query, parameters)).rowcount

    async def row(self, query: LiteralString, parameters: Mapping[str, Any] | None = None) -> Row | None:
        """The first row, or None."""
        return await (await self._run(query, parameters)).fetchone()

    async def one(self, query: LiteralString, parameters: Mapping[str, Any] | None = None) -> Row:
        """The row of a statement that always returns one."""
        row = await self.row(query, parameters)
        if row is None:
            raise LookupError("a statement that returns a row returned none")
        return row

    async def rows(self, query: LiteralString, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """All rows."""
        return await (await self._run(query, parameters)).fetchall()

    async def many(self, query: LiteralString, rows: list[dict[str, Any]]) -> None:
        """Run a statement for each of some rows, in one round trip."""
        started = time.perf_counter()
        try:
            with Patience(self._connection, self._patience):
                async with self._connection.cursor() as cursor:
                    await cursor.executemany(query, rows)
        finally:
            _count(time.perf_counter() - started)

    async def _run(
        self, query: LiteralString | sql.Composed, parameters: Mapping[str, Any] | None
    ) -> psycopg.AsyncCursor[DictRow]:
        started = time.perf_counter()
        try:
            with Patience(self._connection, self._patience):
                return await self._connection.execute(query, parameters)
        finally:
            _count(time.perf_counter() - started)


class Database:
    """The application's pool. Opening it needs no database: connections are made in the background."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._settings = settings
        self._patience = settings.statement_timeout + HANG_SECONDS
        self.pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            min_size=settings.pool_min_size,
            max_size=max(settings.pool_max_size, settings.pool_min_size),
            timeout=settings.pool_timeout,
            max_lifetime=1800,
            reconnect_timeout=4,  # bounds the back-off, so that the pool is back seconds after the database
            open=False,
            name="pharma",
            connection_class=Connection,
            configure=self._configure,
            kwargs={
                "autocommit": True,
                "row_factory": dict_row,
                "application_name": log.SERVICE,
                "client_encoding": "UTF8",
                "connect_timeout": settings.connect_timeout,
            },
        )

    async def open(self) -> None:
        """Start filling the pool, without waiting for a connection."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self.pool.close(timeout=5)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction: committed at the end of the block, rolled back when it raises.

        :raises Problem: ``DB_UNREACHABLE`` or ``DB_BUSY``.
        """
        connection = await self._begin()
        committing = False
        try:
            try:
                yield Transaction(connection, self._patience)
                committing = True
                await self._end(connection, "commit")
            except BaseException:
                await self._roll_back(connection)
                raise
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            metrics.DB_ERRORS.labels(_kind(error)).inc()
            if error.sqlstate in _BUSY:
                raise busy() from error
            if _is_unreachable(error, connection):
                metrics.CONNECTION_ERRORS.labels(connection.loss).inc()
                raise unreachable(committing=committing) from error
            raise
        finally:
            await self.pool.putconn(connection)

    async def _begin(self) -> Connection:
        """A connection with an open transaction; dead ones that the pool still held are passed over.

        ``begin`` and the application name travel in one round trip. Trying again is safe here and
        only here: nothing has been done yet. A server that hangs is not tried again: it has taken its time.
        """
        request = context.current()
        name = requestid.application_name(request.request_id if request else log.SERVICE)
        begin = sql.SQL("begin; set local application_name = {}").format(sql.Literal(name))
        failure: Exception | None = None
        for _ in range(self.pool.max_size + 1):
            started = time.perf_counter()
            try:
                connection = await self._connection()
            except (PoolTimeout, PoolClosed) as error:
                failure = failure or error
                break
            try:
                with Patience(connection, self._settings.pool_timeout):
                    await connection.execute(begin)
            except psycopg.OperationalError as error:
                failure = error
                metrics.CONNECTION_ERRORS.labels(connection.loss).inc()
                await connection.close()
                await self.pool.putconn(connection)
                if connection.hung:
                    break
            except BaseException:
                await self.pool.putconn(connection)
                raise
            else:
                return connection
            finally:
                _count(time.perf_counter() - started)
        metrics.DB_ERRORS.labels("unreachable").inc()
        raise unreachable() from failure

    async def _connection(self) -> Connection:
        with metrics.POOL_WAIT.time():
            try:
                return await self.pool.getconn()
            except PoolTimeout:
                metrics.CONNECTION_ERRORS.labels(metrics.POOL_TIMEOUT).inc()
                raise

    async def _end(self, connection: Connection, statement: LiteralString) -> None:
        started = time.perf_counter()
        with Patience(connection, self._patience):
            await connection.execute(statement)
        _count(time.perf_counter() - started)

    async def _roll_back(self, connection: Connection) -> None:
        """Leave no open transaction; where that fails the connection is closed, which does it too."""
        try:
            await self._end(connection, "rollback")
        except psycopg.Error:
            await connection.close()

    async def _configure(self, connection: Connection) -> None:
        limits = {
            "statement_timeout": self._settings.statement_timeout,
            "lock_timeout": self._settings.lock_timeout,
            "idle_in_transaction_session_timeout": self._settings.statement_timeout * 2,
        }
        with Patience(connection, self._settings.connect_timeout):
            await connection.execute(
                """
                select set_config(name, value, false)
                  from unnest(%(names)s::text[], %(values)s::text[]) as s (name, value)
                """,
                {
                    "names": [*limits, "search_path", "timezone"],
                    "values": [
                        *(f"{int(seconds * 1000)}ms" for seconds in limits.values()),
                        "pg_catalog",
                        "UTC",
                    ],
                },
            )


def _count(seconds: float) -> None:
    request = context.current()
    if request is not None:
        request.db_seconds += seconds
        request.db_queries += 1


def _is_unreachable(error: psycopg.Error, connection: Connection) -> bool:
    return connection.broken or connection.closed or (error.sqlstate or "08")[:2] in ("08", "53", "57")


def _kind(error: psycopg.Error) -> str:
    return error.sqlstate or "connection"
