# SPDX-License-Identifier: GPL-3.0-or-later
"""A journey is refused whole before anything is sent, or read whole."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops.errors import OpsError
from pharma_ops.journey import spec, template

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schemas/journey.schema.json").read_text())

JOURNEY: dict[str, Any] = {
    "name": "pharmacy",
    "variables": {"quantity": 2},
    "secrets": ["token"],
    "steps": [
        {
            "name": "Log in",
            "request": {
                "method": "POST",
                "path": "/auth/login",
                "headers": {"X-Request-Id": "{{run_id}}-login"},
                "json": {"username": "{{username}}", "password": "{{password}}"},
            },
            "expect": {
                "status": 200,
                "headers": {"X-Request-Id": "{{run_id}}-login"},
                "json": [
                    {"path": "token_type", "equals": "bearer"},
                    {"path": "access_token", "matches": "^ey"},
                    {"path": "user.id", "present": True},
                ],
            },
            "capture": {"token": "access_token"},
        },
        {
            "name": "Sell",
            "request": {
                "method": "POST",
                "path": "/sales",
                "headers": {"Authorization": "Bearer {{token}}"},
                "json": {"items": [{"quantity": "{{quantity}}"}]},
            },
            "expect": {"status": 201},
            "capture": {"sale_id": "id"},
        },
    ],
    "sql": [{"name": "Paid", "query": "select status from s where id = %(sale_id)s", "expect": [["paid"]]}],
}


def changed(*path: Any, to: Any) -> dict[str, Any]:
    journey = copy.deepcopy(JOURNEY)
    place: Any = journey
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return journey


def test_a_journey_is_read() -> None:
    journey = spec.parse(JOURNEY)
    assert [step.name for step in journey.steps] == ["Log in", "Sell"]
    assert journey.secrets == {"token", "password"}
    assert journey.steps[0].assertions[2].operator == "present"
    assert journey.sql[0].rows == (("paid",),)
    jsonschema.validate(JOURNEY, SCHEMA)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (changed("step", to=[]), "unknown key 'step'"),
        (changed("steps", to=[]), "steps must be a list with an entry"),
        (changed("steps", 0, "request", "body", to={}), "unknown key 'body'"),
        (changed("steps", 0, "request", "method", to="FETCH"), "must be one of"),
        (changed("steps", 0, "request", "path", to="auth"), "must begin with /"),
        (changed("steps", 0, "expect", to={}), "status is missing"),
        (changed("steps", 0, "expect", "status", to=True), "must be a number"),
        (changed("steps", 0, "expect", "json", 0, to={"path": "a"}), "exactly one of"),
        (changed("steps", 0, "expect", "json", 0, "matches", to="x"), "exactly one of"),
        (changed("variables", to={"password": "x"}), "belongs to the runner"),
        (changed("steps", 0, "capture", to={"username": "id"}), "belongs to the runner"),
        (changed("sql", 0, "expect", to=[[1.5]]), "quote decimal numbers"),
    ],
)
def test_both_the_schema_and_the_parser_refuse(broken: dict[str, Any], words: str) -> None:
    with pytest.raises(OpsError, match=words.replace("(", r"\(")) as caught:
        spec.parse(broken)
    assert caught.value.code == "JOURNEY_INVALID"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (
            changed("steps", 0, "request", "headers", to={"A": "{{token}}"}),
            "Log in: nothing has set .* 'token'",
        ),
        (changed("steps", 1, "request", "path", to="/sales/{{sale_id}}"), "nothing has set .* 'sale_id'"),
        (changed("steps", 0, "expect", "json", 0, "equals", to="{{nobody}}"), "'nobody'"),
        (changed("steps", 0, "request", "path", to="/{{ a b }}"), "double braces"),
        (changed("sql", 0, "query", to="select %(nobody)s"), "'nobody'"),
        (changed("sql", 0, "query", to="select 1 where 'a' like 'a%'"), "percent sign"),
        (changed("secrets", to=["tokn"]), "'tokn'"),
        (changed("steps", 0, "capture", to={"token": "a["}), "not a JMESPath"),
        (
            changed("steps", 0, "expect", "json", 0, to={"path": "a", "matches": "("}),
            "not a regular expression",
        ),
    ],
)
def test_what_only_the_parser_can_see_is_refused(broken: dict[str, Any], words: str) -> None:
    with pytest.raises(OpsError, match=words) as caught:
        spec.parse(broken)
    assert caught.value.code == "JOURNEY_INVALID"


def test_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journey.yaml"
    with pytest.raises(OpsError, match=str(path)) as caught:
        spec.load(path)
    assert caught.value.code == "JOURNEY_MISSING"
    for text in ("name: [", "name: x\n"):
        path.write_text(text)
        with pytest.raises(OpsError, match=str(path)) as caught:
            spec.load(path)
        assert caught.value.code == "JOURNEY_INVALID"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet=st.characters(exclude_characters="{}")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
variable_names = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,8}\Z")


@given(json_values)
def test_a_value_without_placeholders_stays_as_it_is(value: Any) -> None:
    assert template.names_in(value) == frozenset()
    assert template.fill(value, {}) == value


@given(variable_names, json_values)
def test_a_lone_placeholder_keeps_the_type(name: str, value: Any) -> None:
    assert template.names_in([{"a": f"{{{{ {name} }}}}"}]) == {name}
    filled = template.fill([f"{{{{{name}}}}}"], {name: value})
    assert filled == [value]
    assert type(filled[0]) is type(value)


@given(variable_names, st.text(), st.text(alphabet="ab/"), st.text(alphabet="ab/", min_size=1))
def test_within_a_text_the_variable_is_text_and_is_not_read_again(
    name: str, value: str, before: str, after: str
) -> None:
    assert template.fill(f"{before}{{{{{name}}}}}{after}", {name: value}) == before + value + after
