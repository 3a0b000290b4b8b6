# SPDX-License-Identifier: GPL-3.0-or-later
"""Every route has a decision on who may call it, and every role meets it."""

from __future__ import annotations

from typing import Annotated

import httpx
import pytest
from api_harness import problem
from backend_harness import Service
from fastapi import Depends, FastAPI

from pharma_backend import access, app, release, settings
from pharma_backend.api.services import Allowed, Operator
from pharma_backend.middleware import RequestMiddleware

EVERYBODY = None
SELLERS, ALL = frozenset({"manager", "cashier"}), frozenset({"admin", "manager", "cashier"})
# Written down a second time, on purpose: a change of who may do what is a change of this table.
DECIDED = {
    ("GET", "/health/live"): EVERYBODY,
    ("GET", "/health/ready"): EVERYBODY,
    ("GET", "/metrics"): EVERYBODY,
    ("POST", "/auth/login"): EVERYBODY,
    ("POST", "/auth/refresh"): EVERYBODY,
    ("POST", "/cash/open"): SELLERS,
    ("POST", "/cash/close"): SELLERS,
    ("POST", "/sales"): SELLERS,
    ("POST", "/sales/{id}/pay"): SELLERS,
    ("POST", "/sales/{id}/cancel"): SELLERS,
    ("GET", "/sales/{id}"): ALL,
    ("GET", "/products"): ALL,
}
ROLES = {"admin": "caio", "manager": "ana", "cashier": "bia"}
SECRETS = {"DATABASE_URL": "host=/nonexistent", "JWT_SECRET": "j" * 32, "REFRESH_SECRET": "r" * 32}


def api(env: str) -> FastAPI:
    """The application itself, out of its layers."""
    chosen = settings.Settings.model_validate({"env": env})
    layer: object = app.create(app.services(chosen, release.identify(), SECRETS))
    assert isinstance(layer, RequestMiddleware)
    while not isinstance(layer, FastAPI):
        layer = layer._app  # type: ignore[attr-defined]
    return layer


def test_the_routes_of_production_are_those_that_were_decided() -> None:
    assert access.decisions(api("prod").routes) == DECIDED


def test_there_is_no_documentation_in_production() -> None:
    more = access.decisions(api("lab").routes).keys() - DECIDED.keys()
    assert more == {("GET", "/docs"), ("GET", "/docs/oauth2-redirect"), ("GET", "/openapi.json")}
    assert api("prod").openapi_url is None


@pytest.mark.parametrize(("method", "template"), sorted(DECIDED))
def test_each_role_meets_the_decision(service: Service, method: str, template: str) -> None:
    path = template.replace("{id}", "9223372036854775807")
    body = {} if method == "POST" else None

    def ask(headers: dict[str, str]) -> httpx.Response:
        return service.client.request(method, path, json=body, headers=headers)

    allowed = DECIDED[method, template]
    nobody = ask({})
    if allowed is EVERYBODY:
        assert nobody.status_code not in (401, 403)
        return
    problem(nobody, 401, "AUTH_REQUIRED")
    assert nobody.headers["www-authenticate"] == "Bearer"
    problem(ask({"Authorization": "Basic YTpi"}), 401, "AUTH_REQUIRED")
    problem(ask({"Authorization": "Bearer x"}), 401, "AUTH_TOKEN_INVALID")
    for role, username in ROLES.items():
        reply = ask(service.headers(username))
        if role in allowed:
            assert reply.status_code not in (401, 403), (role, reply.text)
        else:
            problem(reply, 403, "AUTH_FORBIDDEN")


def test_a_route_without_a_decision_keeps_the_service_from_starting() -> None:
    forgotten = api("prod")

    @forgotten.get("/forgotten")
    async def route() -> None: ...

    with pytest.raises(RuntimeError, match="GET /forgotten"):
        access.decisions(forgotten.routes)


def test_a_mounted_application_has_no_decision() -> None:
    mounted = api("prod")
    mounted.mount("/other", FastAPI())
    with pytest.raises(RuntimeError, match="/other"):
        access.decisions(mounted.routes)


def test_a_public_route_that_checks_roles_is_decided_twice() -> None:
    twice = FastAPI(openapi_url=None)

    @twice.get("/metrics")
    async def route(user: Operator) -> None: ...

    with pytest.raises(RuntimeError, match="twice"):
        access.decisions(twice.routes)


def test_two_checks_of_a_route_allow_what_both_allow() -> None:
    both = FastAPI(openapi_url=None)
    admins = Allowed("admin", "manager")

    @both.get("/both", dependencies=[Depends(admins)])
    async def route(user: Annotated[object, Depends(Allowed("manager", "cashier"))]) -> None: ...

    assert access.decisions(both.routes) == {("GET", "/both"): frozenset({"manager"})}
