# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the request being served; one object for each, found by a context variable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Any

UNMATCHED = "<unmatched>"
# A method is the client's text; one that is not known must not become a label or a log field.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(slots=True)
class RequestContext:
    """Facts for the canonical log line; times in seconds of the monotonic clock."""

    request_id: str
    scope: Mapping[str, Any] = field(default_factory=dict)
    store_id: str | None = None
    user_id: str | None = None
    trace_id: str | None = None
    rejected_request_id_length: int | None = None
    db_seconds: float = 0.0
    db_queries: int = 0
    error: BaseException | None = None
    finished: bool = False
    started: float = field(default_factory=time.perf_counter)

    @property
    def method(self) -> str:
        """The method, or ``OTHER``."""
        method = self.scope.get("method")
        return method if method in METHODS else "OTHER"

    @property
    def template(self) -> str:
        """The template of the route that matched (``/sales/{id}/pay``), never the raw path."""
        template = getattr(self.scope.get("route"), "path", None)
        return template if isinstance(template, str) else UNMATCHED


_current: ContextVar[RequestContext | None] = ContextVar("pharma_request", default=None)


def current() -> RequestContext | None:
    """The request being served, or None outside of one.

    A request that is finished is no longer served, even where its context lives on: what it left
    running, or the reading side of its connection, speaks for itself.
    """
    request = _current.get()
    return None if request is None or request.finished else request


@contextmanager
def outside_unless_serving() -> Iterator[None]:
    """Run the block outside of any request where the event loop itself is at work.

    Callbacks of a connection may run in the context of the request that last resumed its reading (asyncio
    keeps the context of whoever registers a reader), so the next one's bytes are read in the name of the last.
    """
    token = None if _serving() else _current.set(None)
    try:
        yield
    finally:
        if token is not None:
            _current.reset(token)


def _serving() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        # No loop in this thread: a worker of the request's, with a copy of its context.
        return True


enter = _current.set


def leave(token: Token[RequestContext | None]) -> None:
    """End the request that ``enter`` began."""
    request = _current.get()
    if request is not None:
        request.finished = True
    _current.reset(token)
