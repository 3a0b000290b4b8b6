# SPDX-License-Identifier: GPL-3.0-or-later
"""What the routes answer besides success, as the OpenAPI document says it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

Answers = dict[int | str, dict[str, Any]]

# Code to status; docs/errors.md has cause and action of each, and a test compares all three.
STATUS = {
    "AMOUNT_OUT_OF_RANGE": 409,
    "AUTH_FORBIDDEN": 403,
    "AUTH_INVALID_CREDENTIALS": 401,
    "AUTH_REFRESH_INVALID": 401,
    "AUTH_REFRESH_REUSED": 401,
    "AUTH_REQUIRED": 401,
    "AUTH_THROTTLED": 429,
    "AUTH_TOKEN_EXPIRED": 401,
    "AUTH_TOKEN_INVALID": 401,
    "BODY_TOO_SLOW": 408,
    "BODY_UNREADABLE": 400,
    "CASH_ALREADY_CLOSED": 409,
    "CASH_ALREADY_OPEN": 409,
    "CASH_HAS_OPEN_SALES": 409,
    "CASH_NOT_OPEN": 409,
    "CASH_TOTALS_MISMATCH": 409,
    "CLIENT_GONE": 499,
    "CUSTOMER_UNKNOWN": 404,
    "DB_BUSY": 503,
    "DB_UNREACHABLE": 503,
    "IDEMPOTENCY_IN_PROGRESS": 409,
    "IDEMPOTENCY_KEY_REUSED": 422,
    "INTERNAL": 500,
    "METHOD_NOT_ALLOWED": 405,
    "METRICS_FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "PAYLOAD_TOO_LARGE": 413,
    "PAYMENT_TOTAL_MISMATCH": 409,
    "PRODUCT_UNKNOWN": 404,
    "REQUEST_MALFORMED": 400,
    "REQUEST_TIMED_OUT": 503,
    "SALE_ALREADY_PAID": 409,
    "SALE_CANCELLED": 409,
    "SALE_OF_OTHER_SESSION": 409,
    "SALE_UNKNOWN": 404,
    "STOCK_INSUFFICIENT": 409,
    "VALIDATION_FAILED": 422,
}
BODY = ("BODY_UNREADABLE", "BODY_TOO_SLOW", "PAYLOAD_TOO_LARGE", "VALIDATION_FAILED")
DATABASE = ("DB_UNREACHABLE", "DB_BUSY", "REQUEST_TIMED_OUT")
USER = ("AUTH_REQUIRED", "AUTH_TOKEN_EXPIRED", "AUTH_TOKEN_INVALID", "AUTH_FORBIDDEN")
CHANGE = (*USER, *BODY, *DATABASE, "IDEMPOTENCY_IN_PROGRESS", "IDEMPOTENCY_KEY_REUSED")

PROBLEM: dict[str, Any] = {
    "title": "Problem",
    "description": "RFC 9457 problem details with a stable code.",
    "type": "object",
    "required": ["type", "title", "status", "code", "requestId"],
    "properties": {
        "type": {"type": "string", "pattern": "^urn:pharma:problem:[a-z0-9-]+$"},
        "title": {"type": "string", "minLength": 1},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "code": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$"},
        "requestId": {"type": "string", "pattern": "^[A-Za-z0-9._-]{8,128}$"},
    },
}
READY = {
    "title": "Readiness",
    "type": "object",
    "additionalProperties": False,
    "required": ["status", "db", "uptimeSec", "checkedAgoMs", "release"],
    "properties": {
        "status": {"enum": ["ok", "fail"]},
        "db": {"enum": ["ok", "fail"]},
        "uptimeSec": {"type": "integer", "minimum": 0},
        "checkedAgoMs": {"type": "integer", "minimum": 0},
        "release": {"type": "string"},
    },
}
LIVE = {
    "title": "Liveness",
    "type": "object",
    "additionalProperties": False,
    "required": ["status", "uptimeSec"],
    "properties": {"status": {"const": "ok"}, "uptimeSec": {"type": "integer", "minimum": 0}},
}


def problems(*codes: str) -> Answers:
    """The problems that a route answers with, by status; anything else is a defect.

    :raises KeyError: a code that is not in :data:`STATUS`.
    """
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in codes:
        by_status[STATUS[code]].append(code)
    return {
        status: {
            "description": ", ".join(found),
            "content": {
                "application/problem+json": {
                    "schema": {
                        "allOf": [
                            {"$ref": "#/components/schemas/Problem"},
                            {"properties": {"code": {"enum": found}, "status": {"const": status}}},
                        ]
                    }
                }
            },
        }
        for status, found in sorted(by_status.items())
    }


def document(status: int, description: str, schema: dict[str, Any]) -> Answers:
    """A JSON answer that is made by hand."""
    return {status: {"description": description, "content": {"application/json": {"schema": schema}}}}


def install(app: FastAPI) -> None:
    """Let the OpenAPI document of the application hold the form of problems."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            schema.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]
