# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a statement back into a record, refusing what docs/schemas/evidence.schema.json refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from .. import clock
from ..errors import OpsError
from .record import (
    PREDICATE_TYPE,
    SCHEMA_VERSION,
    STATEMENT_TYPE,
    Check,
    DrillRecord,
    Objective,
    StageResult,
    Subject,
    Verdict,
    statement,
)

_Value = TypeVar("_Value")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DRILL_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
_STAGE_VERDICTS = {Verdict.PASSED, Verdict.FAILED, Verdict.UNKNOWN, Verdict.NOT_RUN}


def parse_statement(data: bytes) -> DrillRecord:
    """The record that the bytes of an ``evidence.json`` state.

    The verdict and the cause that stand in it must be those that follow from its stages.

    :raises OpsError: ``EVIDENCE_INVALID``; names the field.
    """
    try:
        loaded = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
        record = _record(loaded)
    except RecursionError:
        raise _invalid("evidence.json is nested too deep") from None
    except ValueError as error:
        raise _invalid(str(error)) from error
    stated = loaded["predicate"]
    for key, follows in (("verdict", record.verdict.value), ("cause", record.cause)):
        if stated[key] != follows:
            raise _invalid(f"predicate.{key} says {stated[key]!r}, but from its stages follows {follows!r}")
    for key in ("rto", "rpo"):
        if stated[key]["met"] is not statement(record)["predicate"][key]["met"]:
            raise _invalid(f"predicate.{key}.met does not follow from its seconds")
    return record


class _Table:
    """A JSON object whose keys are taken one by one; what is left over at the end of the block is unknown."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} is not an object")
        self._left = dict(value)
        self._where = where

    def take(self, key: str, read: Callable[[Any, str], _Value]) -> _Value:
        where = f"{self._where}.{key}"
        if key not in self._left:
            raise ValueError(f"{where} is missing")
        return read(self._left.pop(key), where)

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._left:
            raise ValueError(f"{self._where} has the unknown key {sorted(self._left)[0]!r}")


def _record(value: Any) -> DrillRecord:
    with _Table(value, "evidence.json") as top:
        top.take("_type", _constant(STATEMENT_TYPE))
        top.take("predicateType", _constant(PREDICATE_TYPE))
        subjects = top.take("subject", _list_of(_subject))
        return top.take("predicate", lambda value, where: _predicate(value, where, subjects))


def _predicate(value: Any, where: str, subjects: tuple[Subject, ...]) -> DrillRecord:
    with _Table(value, where) as table:
        table.take("schemaVersion", _constant(SCHEMA_VERSION))
        table.take("verdict", _text)
        table.take("cause", _text)
        with table.take("tool", _Table) as tool, table.take("rpo", _Table) as rpo:
            tool.take("name", _constant("pharma-ops"))
            return DrillRecord(
                drill_id=table.take("drillId", _matching(_DRILL_ID)),
                environment=table.take("environment", _text),
                host=table.take("host", _text),
                tool_version=tool.take("version", _text),
                scope=table.take("scope", _one_of("full", "dump", "recovery")),
                started_at=table.take("startedAt", _moment),
                finished_at=table.take("finishedAt", _moment),
                stages=table.take("stages", _list_of(_stage)),
                subjects=subjects,
                rto=table.take("rto", _objective),
                newest_change_at=rpo.take("newestChangeAt", _optional(_moment)),
                rpo_basis=rpo.take("basis", _optional(_text)),
                rpo=_measured(rpo),
                backup=table.take("backup", _object),
                release=table.take("release", _object),
                prev=table.take("prev", _optional(_matching(_SHA256))),
            )


def _subject(value: Any, where: str) -> Subject:
    with _Table(value, where) as table, table.take("digest", _Table) as digest:
        return Subject(name=table.take("name", _text), sha256=digest.take("sha256", _matching(_SHA256)))


def _objective(value: Any, where: str) -> Objective:
    with _Table(value, where) as table:
        return _measured(table)


def _measured(table: _Table) -> Objective:
    table.take("met", _optional(_flag))
    return Objective(
        seconds=table.take("seconds", _optional(_number)),
        objective_seconds=table.take("objectiveSeconds", _number),
    )


def _stage(value: Any, where: str) -> StageResult:
    with _Table(value, where) as table:
        return StageResult(
            name=table.take("name", _text),
            required=table.take("required", _flag),
            verdict=table.take("verdict", _verdict),
            seconds=table.take("seconds", _number),
            summary=table.take("summary", _text),
            facts=table.take("facts", _object),
            checks=table.take("checks", _list_of(_check)),
            error=table.take("error", _optional(_error)),
        )


def _check(value: Any, where: str) -> Check:
    with _Table(value, where) as table:
        return Check(
            name=table.take("name", _text),
            verdict=table.take("verdict", _verdict),
            expected=table.take("expected", _text),
            observed=table.take("observed", _text),
            detail=table.take("detail", _text),
        )


def _error(value: Any, where: str) -> dict[str, str]:
    with _Table(value, where) as table:
        return {key: table.take(key, _text) for key in ("code", "message", "action")}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} is not a string")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{where} is not a number of at least 0")
    return value


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{where} is neither true nor false")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not an object")
    return value


def _verdict(value: Any, where: str) -> Verdict:
    if value not in _STAGE_VERDICTS:
        raise ValueError(f"{where} is no verdict: {value!r}")
    return Verdict(value)


def _moment(value: Any, where: str) -> datetime:
    try:
        moment = clock.from_text(_text(value, where))
    except ValueError as error:
        raise ValueError(f"{where} is not a time: {value!r}") from error
    if clock.to_text(moment) != value:
        raise ValueError(f"{where} is not written in UTC with milliseconds: {value!r}")
    return moment


def _constant(wanted: object) -> Callable[[Any, str], None]:
    def read(value: Any, where: str) -> None:
        if value != wanted:
            raise ValueError(f"{where} is {value!r}, not {wanted!r}")

    return read


def _one_of(*words: str) -> Callable[[Any, str], str]:
    def read(value: Any, where: str) -> str:
        if value not in words:
            raise ValueError(f"{where} is none of {', '.join(words)}: {value!r}")
        return str(value)

    return read


def _matching(pattern: re.Pattern[str]) -> Callable[[Any, str], str]:
    def read(value: Any, where: str) -> str:
        if not pattern.fullmatch(_text(value, where)):
            raise ValueError(f"{where} is not of the form {pattern.pattern}: {value!r}")
        return str(value)

    return read


def _optional(read: Callable[[Any, str], _Value]) -> Callable[[Any, str], _Value | None]:
    return lambda value, where: None if value is None else read(value, where)


def _list_of(read: Callable[[Any, str], _Value]) -> Callable[[Any, str], tuple[_Value, ...]]:
    def read_all(value: Any, where: str) -> tuple[_Value, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{where} is not a list")
        return tuple(read(item, f"{where}[{number}]") for number, item in enumerate(value))

    return read_all


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("evidence.json has a key twice")
    return table


def _no_constant(name: str) -> None:
    raise ValueError(f"evidence.json has {name}, which JSON does not know")


def _invalid(message: str) -> OpsError:
    return OpsError(
        "EVIDENCE_INVALID",
        f"The evidence is not of the form it should have: {message}.",
        "It was altered, or made by another version: compare with the envelope's payload.",
    )
