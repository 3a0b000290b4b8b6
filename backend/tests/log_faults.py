# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-backend`` with routes that go wrong in ways that the product's do not; tests start it.

``LOG_FAULT=startup`` lets it fail before it serves, ``lifespan`` while it starts to, ``access`` switches
uvicorn's own access log on.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import warnings
from typing import Any

import uvicorn
from fastapi import FastAPI

from pharma_backend import app, cli, server

SECRET = "postgresql://app:hunter2-hunter2@db1/pharma"
FAULT = os.environ.get("LOG_FAULT", "")
_tasks: list[Any] = []


def fail() -> None:
    password = "hunter2-local"  # noqa: F841 - it must be a local of the frame
    raise RuntimeError(f"cannot use {SECRET}")


async def fail_later() -> None:
    fail()


class Unwilling:
    """Fails when it is collected."""

    def __del__(self) -> None:
        fail()


def add_routes(application: FastAPI) -> None:
    @application.get("/boom/thread")
    async def thread() -> None:
        running = threading.Thread(target=fail)
        running.start()
        await asyncio.to_thread(running.join)

    @application.get("/boom/task")
    async def task() -> None:
        _tasks.append(asyncio.create_task(fail_later()))
        await asyncio.sleep(0)
        _tasks.clear()
        gc.collect()

    @application.get("/boom/finalizer")
    async def finalizer() -> None:
        Unwilling()

    @application.get("/boom/warning")
    async def warning() -> None:
        warnings.warn(f"{SECRET} is deprecated", DeprecationWarning, stacklevel=1)

    @application.get("/boom/request")
    async def request() -> None:
        fail()

    @application.get("/boom/after")
    async def after() -> Any:
        from starlette.responses import StreamingResponse

        async def body() -> Any:
            yield b"half"
            fail()

        return StreamingResponse(body())


def main() -> int:
    build, configure = app.create, uvicorn.Config.__init__

    def create(shared: Any) -> Any:
        if FAULT == "startup":
            fail()
        wrapped = build(shared)
        inner: Any = wrapped
        while not isinstance(inner, FastAPI):
            inner = inner._app
        if FAULT == "lifespan":
            shared.database.open = fail_later
        add_routes(inner)
        return wrapped

    def configured(self: uvicorn.Config, *arguments: Any, **options: Any) -> None:
        configure(self, *arguments, **options | {"access_log": FAULT == "access"})

    server.app.create = create  # type: ignore[assignment]
    uvicorn.Config.__init__ = configured  # type: ignore[method-assign]
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
