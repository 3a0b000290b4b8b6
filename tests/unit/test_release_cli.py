# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of releases: which service is meant, what a person reads, how they exit."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pharma_ops import config
from pharma_ops.cli.main import build_parser
from pharma_ops.cli.release import text_of
from pharma_ops.errors import OpsError
from pharma_ops.release.gate import Requests
from pharma_ops.release.journal import Action, Record, Result, StageResult
from pharma_ops.release.run import Outcome

MOMENT = datetime(2026, 11, 23, 3, 4, 5, tzinfo=UTC)
RECORD = Record(
    id="release-20261123T030405Z-abcdef",
    action=Action.DEPLOY,
    service="shop",
    version="2.0.0",
    digest="ab" * 32,
    previous_version="1.0.0",
    previous_digest="cd" * 32,
    colour="green",
    who="ana",
    host="app1",
    started_at=MOMENT,
    finished_at=MOMENT + timedelta(seconds=12.5),
    verdict=Result.DEPLOYED,
    cause="",
    stages=(StageResult(name="switch", verdict="passed", seconds=0.01234, detail="green serves."),),
    requests=Requests(total=100, errors5xx=1, p95_seconds=0.05),
)


def outcome(record: Record | None, repaired: Record | None = None) -> Outcome:
    return Outcome(version="2.0.0", colour="green", record=record, repaired=repaired)


@pytest.fixture(scope="module")
def schema(root: Path) -> Draft202012Validator:
    return Draft202012Validator(json.loads((root / "docs/schemas/deployment.schema.json").read_text()))


def test_a_record_is_of_its_schema(schema: Draft202012Validator) -> None:
    schema.validate(RECORD.as_dict())
    refused = dataclasses.replace(RECORD, verdict=Result.REFUSED, cause="It was not ready.", code="X_Y")
    schema.validate(refused.as_dict())
    for wrong in (
        {"cause": ""},
        {"code": None},
        {"colour": "red"},
        {"stages": [{"name": "party"}]},
        {"extra": 1},
    ):
        assert list(schema.iter_errors(refused.as_dict() | wrong)), wrong


@pytest.mark.parametrize(
    ("verdict", "cause", "status"),
    [
        (Result.DEPLOYED, "", 0),
        (Result.RENEWED, "", 0),
        (Result.ROLLED_BACK, "", 0),
        (Result.DEPLOYED, "its gate failed, and there was nothing to go back to", 1),
        (Result.SWITCHED_BACK, "x", 1),
        (Result.REFUSED, "x", 1),
    ],
)
def test_exit_codes(verdict: Result, cause: str, status: int) -> None:
    assert outcome(dataclasses.replace(RECORD, verdict=verdict, cause=cause)).exit_code == status
    assert outcome(None).exit_code == 0


def test_what_a_person_reads() -> None:
    text = text_of(outcome(RECORD))
    assert "DEPLOYED  shop 2.0.0 on green  12.5 s" in text
    assert "100 requests, 1 failed with 5xx, p95 0.05 s" in text
    assert "nothing was to do" in text_of(outcome(None))
    killed = dataclasses.replace(RECORD, verdict=Result.REFUSED, cause="The engine was killed in start.")
    text = text_of(outcome(RECORD, killed))
    assert text.index("killed in start") < text.index("DEPLOYED")


def test_the_commands() -> None:
    parser = build_parser()
    parsed = parser.parse_args(["release", "deploy", "1.0", "--service", "shop", "--who", "ana", "--json"])
    assert (parsed.version, parsed.service, parsed.who, parsed.json) == ("1.0", "shop", "ana", True)
    assert parser.parse_args(["release", "rollback"]).version is None
    for words in (["deploy"], ["renew", "1.0"], ["restart"]):
        with pytest.raises(SystemExit):
            parser.parse_args(["release", *words])


def parsed(*services: str, **values: Any) -> config.Config:
    one = {"unit": "u@{colour}.service", "socket_unit": "u@{colour}.socket"} | values
    return config.parse({"environment": "lab", "releases": dict.fromkeys(services, one)})


def test_which_service_is_meant() -> None:
    assert parsed("shop").release(None)[0] == "shop"
    assert parsed("shop", "till").release("till")[0] == "till"
    for services, name, code, words in (
        ((), None, "CONFIG_INVALID", "no service"),
        (("shop", "till"), None, "ARGUMENT_INVALID", "shop, till"),
        (("shop",), "till", "CONFIG_INVALID", "there are: shop"),
    ):
        with pytest.raises(OpsError, match=words) as refused:
            parsed(*services).release(name)
        assert refused.value.code == code


def test_a_whole_number_is_a_limit_too() -> None:
    _, settings = parsed("shop", watch_max_p95_seconds=2).release(None)
    assert settings.watch_max_p95_seconds == 2.0
    for wrong in (True, "2"):
        with pytest.raises(OpsError, match="float"):
            parsed("shop", watch_max_p95_seconds=wrong)
