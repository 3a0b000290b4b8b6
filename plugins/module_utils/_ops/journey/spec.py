# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A journey as data: HTTP steps and what they must have left in the database.

The format is docs/schemas/journey.schema.json; docs/journey.md explains it. All that can be wrong
with a file is found while it is read, before the first request is sent: unknown keys, expressions
that do not compile, and a variable that is used before a step has captured it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import _deps
from ..errors import OpsError
from . import template

GIVEN_VARIABLES = frozenset({"username", "password", "run_id"})
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_SQL_PARAMETER = re.compile(r"%\(([A-Za-z_][A-Za-z0-9_]*)\)s")


@dataclass(frozen=True, kw_only=True)
class Assertion:
    """One JMESPath expression on a reply; one of ``equals``, ``matches`` and ``present`` is set.

    :ivar operator: ``equals``, ``matches`` or ``present``.
    """

    path: str
    operator: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class Step:
    """One request and what its reply must be; ``capture`` maps a variable to a JMESPath expression."""

    name: str
    method: str
    path: str
    headers: Mapping[str, str]
    json: Any
    has_json: bool
    status: int
    reply_headers: Mapping[str, str]
    assertions: tuple[Assertion, ...]
    capture: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class SqlAssertion:
    """A query on the restored database and the rows that it must return, in order."""

    name: str
    query: str
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Journey:
    """A parsed journey. ``secrets`` names variables whose values never stand in a result."""

    name: str
    variables: Mapping[str, Any]
    secrets: frozenset[str]
    steps: tuple[Step, ...]
    sql: tuple[SqlAssertion, ...]


def load(path: Path) -> Journey:
    """Read and check a journey.

    :raises OpsError: ``JOURNEY_MISSING`` or ``JOURNEY_INVALID``; names the file and the place in it.
    """
    yaml = _deps.load("yaml")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OpsError(
            "JOURNEY_MISSING",
            f"The journey {path} cannot be read: {error}.",
            "Name the journey of the application in drill.journey_file.",
        ) from error
    try:
        return parse(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise _invalid(f"{path} is not YAML: {error}") from error
    except OpsError as error:
        raise OpsError(error.code, f"{path}: {error.message}", error.action) from error


def parse(data: Any) -> Journey:
    """Build a :class:`Journey` from parsed YAML.

    :raises OpsError: ``JOURNEY_INVALID``.
    """
    top = _table(data, "the journey", required={"name", "steps"}, optional={"variables", "secrets", "sql"})
    variables = _table(top.get("variables", {}), "variables", free=True)
    for name in variables:
        if not template.NAME.fullmatch(name) or name in GIVEN_VARIABLES:
            raise _invalid(f"variables: {name!r} is not a name or belongs to the runner")
    known = set(variables) | GIVEN_VARIABLES
    steps = []
    for index, item in enumerate(_list(top["steps"], "steps", at_least=1)):
        step = _step(item, f"steps[{index}]")
        _check_names(_names_of_step(step), known, step.name)
        known |= set(step.capture)
        steps.append(step)
    sql = tuple(_sql(item, f"sql[{index}]") for index, item in enumerate(_list(top.get("sql", []), "sql")))
    for assertion in sql:
        wanted = set(_SQL_PARAMETER.findall(assertion.query)) | template.names_in(assertion.rows)
        _check_names(wanted, known, assertion.name)
    secrets = {_text(name, "secrets") for name in _list(top.get("secrets", []), "secrets")}
    _check_names(secrets, known, "secrets")
    return Journey(
        name=_text(top["name"], "name"),
        variables=variables,
        secrets=frozenset(secrets | {"password"}),
        steps=tuple(steps),
        sql=sql,
    )


def _step(data: Any, where: str) -> Step:
    step = _table(data, where, required={"name", "request", "expect"}, optional={"capture"})
    name = _text(step["name"], f"{where}.name")
    request = _table(
        step["request"], f"{where}.request", required={"method", "path"}, optional={"headers", "json"}
    )
    expect = _table(step["expect"], f"{where}.expect", required={"status"}, optional={"headers", "json"})
    if request["method"] not in METHODS:
        raise _invalid(f"{where}.request.method must be one of {', '.join(METHODS)}")
    path = _text(request["path"], f"{where}.request.path")
    if not path.startswith("/"):
        raise _invalid(f"{where}.request.path must begin with /")
    status = expect["status"]
    if not isinstance(status, int) or isinstance(status, bool) or not 100 <= status <= 599:
        raise _invalid(f"{where}.expect.status must be a number from 100 to 599")
    capture = _texts(step.get("capture", {}), f"{where}.capture")
    for variable, expression in capture.items():
        if not template.NAME.fullmatch(variable) or variable in GIVEN_VARIABLES:
            raise _invalid(f"{where}.capture: {variable!r} is not a name or belongs to the runner")
        _compile_jmespath(expression, f"{where}.capture.{variable}")
    return Step(
        name=name,
        method=request["method"],
        path=path,
        headers=_texts(request.get("headers", {}), f"{where}.request.headers"),
        json=request.get("json"),
        has_json="json" in request,
        status=status,
        reply_headers=_texts(expect.get("headers", {}), f"{where}.expect.headers"),
        assertions=tuple(
            _assertion(item, f"{where}.expect.json[{index}]")
            for index, item in enumerate(_list(expect.get("json", []), f"{where}.expect.json"))
        ),
        capture=capture,
    )


def _assertion(data: Any, where: str) -> Assertion:
    table = _table(data, where, required={"path"}, optional={"equals", "matches", "present"})
    operators = [key for key in ("equals", "matches", "present") if key in table]
    if len(operators) != 1:
        raise _invalid(f"{where} needs exactly one of equals, matches and present")
    operator = operators[0]
    value = table[operator]
    path = _text(table["path"], f"{where}.path")
    _compile_jmespath(path, f"{where}.path")
    if operator == "matches":
        try:
            re.compile(_text(value, f"{where}.matches"))
        except re.error as error:
            raise _invalid(f"{where}.matches is not a regular expression: {error}") from error
    if operator == "present" and not isinstance(value, bool):
        raise _invalid(f"{where}.present must be true or false")
    return Assertion(path=path, operator=operator, value=value)


def _sql(data: Any, where: str) -> SqlAssertion:
    table = _table(data, where, required={"name", "query", "expect"})
    query = _text(table["query"], f"{where}.query")
    if "%" in _SQL_PARAMETER.sub("", query).replace("%%", ""):
        raise _invalid(f"{where}.query: a percent sign is %% or begins %(variable)s")
    rows = []
    for row in _list(table["expect"], f"{where}.expect"):
        values = _list(row, f"{where}.expect: each row")
        if any(isinstance(value, float | list | dict) for value in values):
            raise _invalid(f"{where}.expect: quote decimal numbers, they are compared as text")
        rows.append(tuple(values))
    return SqlAssertion(name=_text(table["name"], f"{where}.name"), query=query, rows=tuple(rows))


def _names_of_step(step: Step) -> frozenset[str]:
    expected = [item.value for item in step.assertions if item.operator == "equals"]
    return template.names_in([step.path, step.headers, step.json, step.reply_headers, expected])


def _check_names(wanted: Iterable[str], known: Iterable[str], where: str) -> None:
    if missing := sorted(set(wanted) - set(known)):
        raise _invalid(f"{where}: nothing has set the variable {missing[0]!r} by then")


def _compile_jmespath(expression: str, where: str) -> None:
    jmespath = _deps.load("jmespath")
    try:
        jmespath.compile(expression)
    except jmespath.exceptions.JMESPathError as error:
        raise _invalid(f"{where} is not a JMESPath expression: {error}") from error


def _table(
    data: Any,
    where: str,
    *,
    required: Set[str] = frozenset(),
    optional: Set[str] = frozenset(),
    free: bool = False,
) -> dict[str, Any]:
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise _invalid(f"{where} must be a table")
    if not free:
        if unknown := sorted(set(data) - required - optional):
            raise _invalid(f"{where}: unknown key {unknown[0]!r}")
        if missing := sorted(required - set(data)):
            raise _invalid(f"{where}: {missing[0]} is missing")
    return data


def _list(data: Any, where: str, at_least: int = 0) -> list[Any]:
    if not isinstance(data, list) or len(data) < at_least:
        raise _invalid(f"{where} must be a list" + (" with an entry" if at_least else ""))
    return data


def _text(data: Any, where: str) -> str:
    if not isinstance(data, str) or not data:
        raise _invalid(f"{where} must be a text")
    return data


def _texts(data: Any, where: str) -> dict[str, str]:
    table = _table(data, where, free=True)
    return {key: _text(value, f"{where}.{key}") for key, value in table.items()}


def _invalid(message: str) -> OpsError:
    return OpsError("JOURNEY_INVALID", f"{message}.", "Correct the journey (docs/journey.md) and run again.")
