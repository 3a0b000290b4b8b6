# SPDX-License-Identifier: GPL-3.0-or-later
"""The outermost layer: request id, canonical log line, metrics. Plain ASGI, no response is buffered."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import context, log, metrics, problems, requestid
from .errors import Problem

CLIENT_CLOSED = 499


class RequestMiddleware:
    """Wraps the whole application, its error handling included.

    :param release: stands in every canonical line.
    :param stopping: True once a stop has begun; connections are then asked to close.
    """

    def __init__(self, app: ASGIApp, *, release: str, stopping: Callable[[], bool]) -> None:
        self._app = app
        self._release = release
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif len(contextvars.copy_context()) == 0:
            await self._serve(scope, receive, send)
        else:
            # The server's reading side may run in the context of an earlier request (see context.py), and
            # what other libraries keep in theirs must not be passed on from one client to another.
            empty = contextvars.Context()
            await asyncio.create_task(self._serve(scope, receive, send), context=empty)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _enter(scope)
        token = context.enter(request)
        metrics.IN_PROGRESS.inc()
        status = 0

        async def reply(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                headers.append((b"x-request-id", request.request_id.encode("ascii")))
                if self._stopping():
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, reply)
        except Exception as error:  # noqa: BLE001 - the last line of defence; it is logged below
            # Starlette has already answered 500 through problems.py when it could.
            request.error = request.error or error
            if status == 0:
                await problems.respond(Problem("INTERNAL", 500, "Something went wrong here"))(
                    scope, receive, reply
                )
        except BaseException as error:
            request.error = request.error or error
            status = status or CLIENT_CLOSED
            raise
        finally:
            self._complete(request, status or 500)
            metrics.IN_PROGRESS.dec()
            context.leave(token)

    def _complete(self, request: context.RequestContext, status: int) -> None:
        seconds = time.perf_counter() - request.started
        method, template = request.method, request.template
        metrics.REQUESTS.labels(method, template, str(status)).inc()
        metrics.DURATION.labels(method, template).observe(seconds)
        facts: dict[str, object] = {
            "status": status,
            "durationMs": round(seconds * 1000, 2),
            "dbTimeMs": round(request.db_seconds * 1000, 2),
            "dbQueries": request.db_queries,
            "release": self._release,
        }
        if request.trace_id is not None:
            facts["traceId"] = request.trace_id
        if request.rejected_request_id_length is not None:
            facts["rejectedRequestIdLength"] = request.rejected_request_id_length
        if status >= 500 or (request.error is not None and not isinstance(request.error, Problem)):
            log.error("request_completed", request.error, **facts)
        elif status >= 400:
            log.warn("request_completed", request.error, **facts)
        else:
            log.info("request_completed", **facts)


def _enter(scope: Scope) -> context.RequestContext:
    raw_ids: list[bytes] = []
    traceparents: list[bytes] = []
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            raw_ids.append(value)
        elif name == b"traceparent":
            traceparents.append(value)
    # Two ids are no id: joined, as HTTP does, they cannot match.
    request_id, rejected = requestid.accept(b", ".join(raw_ids) if raw_ids else None)
    return context.RequestContext(
        request_id=request_id,
        scope=scope,
        rejected_request_id_length=rejected,
        trace_id=requestid.trace_id(traceparents[0]) if len(traceparents) == 1 else None,
    )
