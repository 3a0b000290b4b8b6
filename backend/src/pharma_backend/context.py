# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the request being served; one object for each, found by a context variable."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
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
    """The request being served, or None outside of one."""
    return _current.get()


enter = _current.set
leave = _current.reset
