# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may call which route. A route about which nothing was decided keeps the service from starting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute, Route

from .api.services import Allowed

# Anybody may call these: probes, the scraper (who is checked by address), and those who are to log in.
PUBLIC = frozenset(
    {
        ("GET", "/health/live"),
        ("GET", "/health/ready"),
        ("GET", "/metrics"),
        ("POST", "/auth/login"),
        ("POST", "/auth/refresh"),
        # Outside of production only.
        ("GET", "/docs"),
        ("GET", "/docs/oauth2-redirect"),
        ("GET", "/openapi.json"),
    }
)


def decisions(routes: Sequence[BaseRoute]) -> dict[tuple[str, str], frozenset[str] | None]:
    """The roles that may call each (method, template); None for everybody.

    :raises RuntimeError: a route is neither public nor for certain roles, or is both.
    """
    found: dict[tuple[str, str], frozenset[str] | None] = {}
    for route in (context.original_route for context in iter_route_contexts(routes)):
        if not isinstance(route, Route):
            raise RuntimeError(f"nobody decided who may call {route!r}")
        roles = _roles(route)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            public = (method, route.path) in PUBLIC
            if public == (roles is not None):
                raise RuntimeError(f"nobody decided who may call {method} {route.path}, or twice")
            found[method, route.path] = roles
    return found


def _roles(route: Route) -> frozenset[str] | None:
    """What every check of the route allows; None without a check."""
    if not isinstance(route, APIRoute):
        return None
    checks = [call.roles for call in _calls(route.dependant) if isinstance(call, Allowed)]
    return frozenset.intersection(*checks) if checks else None


def _calls(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)
