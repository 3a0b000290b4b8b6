# SPDX-License-Identifier: GPL-3.0-or-later
"""Every answer other than success: ``application/problem+json`` (RFC 9457) with a stable code."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from . import context, metrics
from .errors import Problem

_HTTP_CODES = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
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
            {"path": [str(part) for part in fault["loc"]], "reason": fault["type"]}
            for fault in error.errors()
        ],
    )
    _remember(problem)
    return respond(problem)


async def _http(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError("registered for HTTP exceptions only")
    code = _HTTP_CODES.get(error.status_code, f"HTTP_{error.status_code}")
    problem = Problem(
        code, error.status_code, code.replace("_", " ").capitalize(), headers=dict(error.headers or {})
    )
    _remember(problem)
    return respond(problem)


async def _internal(_request: Request, error: Exception) -> Response:
    _remember(error)
    return respond(
        Problem("INTERNAL", 500, "Something went wrong here", "Report it with the requestId of this answer.")
    )
