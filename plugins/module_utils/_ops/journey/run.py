# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks a journey against a running service, over TCP or a unix socket, and asks its database."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .. import _deps
from ..errors import OpsError
from . import template
from .spec import Assertion, Journey, SqlAssertion, Step

if TYPE_CHECKING:
    import httpx
    import psycopg

REQUEST_TIMEOUT_SECONDS = 30.0
_MAX_TEXT = 300
_MASK = "(secret)"
_SECRET_WORD = re.compile(r"token|secret|passw|senha|authorization|cookie|api_?key", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a journey looked at. ``met`` is None when an earlier failure kept it from running."""

    name: str
    met: bool | None
    expected: str
    observed: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a journey went; ``durations`` are milliseconds of each request that was answered."""

    findings: tuple[Finding, ...]
    durations: Mapping[str, float]

    @property
    def met(self) -> bool:
        """Whether everything was looked at and everything was as expected."""
        return bool(self.findings) and all(finding.met is True for finding in self.findings)


@dataclass
class _State:
    variables: dict[str, Any]
    secret_names: frozenset[str]
    findings: list[Finding] = field(default_factory=list)
    durations: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, met: bool | None, expected: object, observed: object) -> None:
        self.findings.append(
            Finding(name=name, met=met, expected=self.shown(expected), observed=self.shown(observed))
        )

    def shown(self, value: object, path: str = "") -> str:
        """A value as text for a result: short, without any secret; as JSON when it was found at a path."""
        if path and _SECRET_WORD.search(path):
            return _MASK
        text = value if isinstance(value, str) and not path else _literal(value)
        for name, secret in self.variables.items():
            hidden = name in self.secret_names or _SECRET_WORD.search(name)
            if hidden and not isinstance(secret, dict | list) and secret not in (None, ""):
                text = text.replace(template.as_text(secret), _MASK)
        return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"

    def failed_since(self, start: int) -> bool:
        return any(finding.met is False for finding in self.findings[start:])


def run(
    journey: Journey,
    *,
    base_url: str,
    socket: Path | None,
    given: Mapping[str, Any],
    connection: psycopg.Connection[Any] | None,
    on_step: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
) -> Outcome:
    """Send the steps in order, then ask the database. The first step that fails ends the journey.

    :param base_url: ``http://host``; with ``socket`` the host is only a name.
    :param given: values of ``username``, ``password`` and ``run_id``.
    :param connection: where the SQL assertions run, read only; None when the journey has none.
    :param on_step: told each step's name, its number from 1 and the number of steps.
    :raises OpsError: ``JOURNEY_NEEDS_DATABASE``.
    """
    if journey.sql and connection is None:
        raise OpsError(
            "JOURNEY_NEEDS_DATABASE", f"The journey {journey.name} asks the database.", "Give one."
        )
    httpx = _deps.load("httpx")
    state = _State({**journey.variables, **given}, journey.secrets)
    going = True
    total = len(journey.steps) + len(journey.sql)
    with httpx.Client(
        base_url=base_url,
        transport=httpx.HTTPTransport(uds=str(socket)) if socket else None,
        timeout=REQUEST_TIMEOUT_SECONDS,
        trust_env=False,
    ) as client:
        for number, step in enumerate(journey.steps, start=1):
            on_step(step.name, number, total)
            if going:
                going = _walk(step, client, state)
            else:
                state.add(step.name, None, f"status {step.status}", "an earlier step failed")
    for number, assertion in enumerate(journey.sql, start=len(journey.steps) + 1):
        on_step(assertion.name, number, total)
        if going and connection is not None:
            _ask(assertion, connection, state)
        else:
            state.add(assertion.name, None, f"{len(assertion.rows)} row(s)", "an earlier step failed")
    return Outcome(findings=tuple(state.findings), durations=state.durations)


def _walk(step: Step, client: httpx.Client, state: _State) -> bool:
    httpx = _deps.load("httpx")
    start = len(state.findings)
    label = f"{step.name}: {step.method} {step.path}"
    arguments: dict[str, Any] = {"headers": _header_values(step.headers, state.variables)}
    if step.has_json:
        arguments["json"] = template.fill(step.json, state.variables)
    path = _path(step.path, state.variables)
    began = time.monotonic()
    try:
        reply = client.request(step.method, path, **arguments)
    except httpx.HTTPError as error:
        state.add(label, False, f"status {step.status}", f"no answer: {type(error).__name__}: {error}")
        return False
    state.durations[step.name] = round((time.monotonic() - began) * 1000, 1)
    body = _body(reply)
    # Captured first, so that a token is known as a secret before any check shows the reply.
    missing = _capture(step, body, state)
    matching = reply.status_code == step.status
    why = "" if matching else f" {state.shown(_masked(body))}"
    state.add(label, matching, f"status {step.status}", f"status {reply.status_code}{why}")
    if not matching:
        return False
    for name, value in _header_values(step.reply_headers, state.variables).items():
        observed = reply.headers.get(name)
        state.add(f"{step.name}: header {name}", observed == value, value, observed)
    for assertion in step.assertions:
        _assert(step, assertion, body, state)
    for name in missing:
        state.add(f"{step.name}: capture {name}", False, f"a value at {step.capture[name]}", "nothing there")
    return not state.failed_since(start)


def _capture(step: Step, body: Any, state: _State) -> list[str]:
    jmespath = _deps.load("jmespath")
    missing = []
    for name, expression in step.capture.items():
        value = jmespath.search(expression, body)
        if value is None:
            missing.append(name)
        else:
            state.variables[name] = value
    return missing


def _assert(step: Step, assertion: Assertion, body: Any, state: _State) -> None:
    jmespath = _deps.load("jmespath")
    name = f"{step.name}: {assertion.path}"
    try:
        observed = jmespath.search(assertion.path, body)
    except jmespath.exceptions.JMESPathError as error:
        state.add(name, False, assertion.operator, f"cannot be evaluated: {error}")
        return
    value = (
        template.fill(assertion.value, state.variables) if assertion.operator == "equals" else assertion.value
    )
    if assertion.operator == "equals":
        met = _same(value, observed)
        expected = state.shown(value, assertion.path)
    elif assertion.operator == "matches":
        met = isinstance(observed, str) and re.search(value, observed) is not None
        expected = f"matches {value}"
    else:
        met = (observed is not None) == value
        expected = "present" if value else "absent"
    state.add(name, met, expected, state.shown(observed, assertion.path))


def _ask(assertion: SqlAssertion, connection: psycopg.Connection[Any], state: _State) -> None:
    psycopg = _deps.load("psycopg")
    expected = [
        [_comparable(value) for value in template.fill(row, state.variables)] for row in assertion.rows
    ]
    try:
        with connection.transaction():
            connection.execute("set transaction read only")
            rows = connection.execute(assertion.query, state.variables).fetchall()
    except psycopg.Error as error:
        state.add(assertion.name, False, expected, f"the query failed: {str(error).strip()}")
        return
    observed = [[_comparable(value) for value in row] for row in rows]
    state.add(assertion.name, _same(expected, observed), expected, observed)


def _path(path: str, variables: Mapping[str, Any]) -> str:
    def encode(text: str) -> str:
        return quote(text, safe="")

    filled = template.fill(path, variables, encode)
    return filled if isinstance(filled, str) else template.as_text(filled)


def _header_values(headers: Mapping[str, str], variables: Mapping[str, Any]) -> dict[str, str]:
    return {name: template.as_text(template.fill(value, variables)) for name, value in headers.items()}


def _body(reply: httpx.Response) -> Any:
    try:
        return reply.json()
    except ValueError:
        return None


def _masked(value: Any) -> Any:
    """A JSON value without what its key calls a secret."""
    if isinstance(value, dict):
        return {
            key: _MASK
            if _SECRET_WORD.search(str(key)) and not isinstance(item, dict | list)
            else _masked(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return value


def _literal(value: Any) -> str:
    return json.dumps(_masked(value), default=str, ensure_ascii=False)


def _same(left: Any, right: Any) -> bool:
    """Equality of JSON values in which true is not 1 and "1" is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if _is_sequence(left) and _is_sequence(right):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _comparable(value: Any) -> Any:
    """A database value or an expected one: NULL and booleans as they are, all else as text."""
    return value if value is None or isinstance(value, bool) else str(value)
