# SPDX-License-Identifier: GPL-3.0-or-later
"""Every answer other than success: ``application/problem+json`` (RFC 9457) with a stable code."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from psycopg.errors import NumericValueOutOfRange
from starlette.exceptions import HTTPException

from . import context, metrics
from .errors import Problem

_HTTP_CODES = {400: "BODY_UNREADABLE", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}
MAX_FAULTS = 20


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(NumericValueOutOfRange, _out_of_range)
    app.add_exception_handler(Exception, _internal)


def respond(problem: Problem) -> Response:
    """The problem as a response."""
    request = context.current()
    document: dict[str, Any] = {
        "type": f"urn:pharma:problem:{problem.code.lower().replace('_', '-')}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "requestId": request.request_id if request else "",
    }
    if problem.detail:
        document["detail"] = problem.detail
    document |= problem.facts
    metrics.PROBLEMS.labels(problem.code).inc()
    return Response(
        orjson.dumps(document),
        status_code=problem.status,
        headers=problem.headers,
        media_type="application/problem+json",
    )


def refuse(problem: Problem) -> Response:
    """The problem as a response of what stands before the handlers; the request's line names it too."""
    _remember(problem)
    return respond(problem)


def _remember(error: BaseException) -> None:
    request = context.current()
    if request is not None and request.error is None:
        request.error = error


async def _problem(_request: Request, error: Exception) -> Response:
    _remember(error)
    if not isinstance(error, Problem):
        raise TypeError("registered for problems only")
    return respond(error)


async def _validation(_request: Request, error: Exception) -> Response:
    """Say where the input is wrong and why, without repeating the input."""
    if not isinstance(error, RequestValidationError):
        raise TypeError("registered for validation errors only")
    problem = Problem(
        "VALIDATION_FAILED",
        422,
        "The request is not valid",
        "See errors for the places.",
        errors=[
            {"path": _place(fault["loc"], fault["type"]), "reason": fault["type"]}
            for fault in error.errors()[:MAX_FAULTS]
        ],
    )
    return refuse(problem)


def _place(path: tuple[int | str, ...], reason: str) -> list[str]:
    """Where a fault is. The name of a key that is too many is the client's text, and is left out."""
    return [str(part) for part in (path[:-1] if reason == "extra_forbidden" else path)]


async def _http(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError("registered for HTTP exceptions only")
    code = _HTTP_CODES.get(error.status_code, "HTTP_ERROR")
    problem = Problem(
        code, error.status_code, code.replace("_", " ").capitalize(), headers=dict(error.headers or {})
    )
    return refuse(problem)


async def _out_of_range(_request: Request, error: Exception) -> Response:
    """A sum that ``numeric(12,2)`` does not hold; the transaction was rolled back."""
    problem = Problem(
        "AMOUNT_OUT_OF_RANGE", 409, "An amount would be too large", "Nothing was changed; sell in parts."
    )
    problem.__cause__ = error
    return refuse(problem)


async def _internal(_request: Request, error: Exception) -> Response:
    _remember(error)
    return respond(
        Problem("INTERNAL", 500, "Something went wrong here", "Report it with the requestId of this answer.")
    )
