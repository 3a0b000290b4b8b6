# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing two contents: equal ones are equal, every change is named."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pharma_ops.postgres.compare import ABSENT, compare
from pharma_ops.postgres.content import Content, SequenceRange, TableContent
from pharma_ops.postgres.largeobjects import LargeObjects
from pharma_ops.postgres.sequences import Position, between

VIEW = TableContent(kind="materialized view", rows=1, hash="1:1", defined_rows=2, defined_hash="2:2")
CONTENT = Content(
    server_version=170005,
    encoding="UTF8",
    tables={"a.sales": TableContent(kind="table", rows=3, hash="1:2"), "a.daily": VIEW},
    sequences={"a.seq": SequenceRange(low=4, high=9, last_value=3)},
    structure={"table a.sales": "owner shop"},
    extensions={"hstore": "1.8"},
    large_objects=LargeObjects(count=1, bytes=5, hash="3:4"),
    roles={"shop": "login"},
    locale={},
)
RESTORED = dataclasses.replace(
    CONTENT,
    tables=CONTENT.tables | {"a.daily": dataclasses.replace(VIEW, rows=2, hash="2:2")},
    sequences={"a.seq": SequenceRange(low=5, high=5, last_value=5)},
)


def test_a_right_restore_has_no_difference() -> None:
    assert compare(CONTENT, RESTORED) == []
    assert compare(CONTENT, dataclasses.replace(RESTORED, server_version=150020)) == []


@pytest.mark.parametrize(
    ("change", "kind", "name"),
    [
        ({"encoding": "LATIN1"}, "encoding", "database"),
        ({"tables": RESTORED.tables | {"a.sales": TableContent(kind="table", rows=2, hash="1:2")}}, "table", "a.sales"),
        ({"tables": RESTORED.tables | {"a.sales": TableContent(kind="table", rows=3, hash="1:3")}}, "table", "a.sales"),
        ({"tables": {"a.daily": RESTORED.tables["a.daily"]}}, "table", "a.sales"),
        ({"tables": RESTORED.tables | {"a.new": TableContent(kind="table", rows=0, hash="0:0")}}, "table", "a.new"),
        ({"tables": CONTENT.tables}, "materialized view", "a.daily"),
        ({"sequences": {"a.seq": SequenceRange(low=10, high=10, last_value=10)}}, "sequence", "a.seq"),
        ({"sequences": {}}, "sequence", "a.seq"),
        ({"structure": {"table a.sales": "owner other"}}, "structure", "table a.sales"),
        ({"structure": CONTENT.structure | {"schema b": ""}}, "structure", "schema b"),
        ({"extensions": {"hstore": "1.7"}}, "extension", "hstore"),
        ({"roles": {}}, "role", "shop"),
        ({"large_objects": LargeObjects(count=1, bytes=5, hash="3:5")}, "large objects", "large objects"),
        ({"hash_version": 1}, "hash version", "content hash"),
    ],
)  # fmt: skip
def test_every_change_is_named(change: dict[str, Any], kind: str, name: str) -> None:
    differences = compare(CONTENT, dataclasses.replace(RESTORED, **change))
    assert [(item.kind, item.name) for item in differences] == [(kind, name)]
    assert differences[0].expected != differences[0].observed


def test_what_a_new_database_brings_is_no_difference() -> None:
    extra = dataclasses.replace(
        RESTORED,
        roles=RESTORED.roles | {"drill": "superuser"},
        structure=RESTORED.structure | {"schema public": "owner x"},
    )
    assert compare(CONTENT, extra) == []
    gone = compare(extra, RESTORED)
    assert [(item.name, item.observed) for item in gone] == [("schema public", ABSENT), ("drill", ABSENT)]


def test_an_undecided_view_must_equal_its_own_query() -> None:
    undecided = dataclasses.replace(VIEW, undecided="it asks the clock")
    expected = dataclasses.replace(CONTENT, tables={"v": undecided})

    def observed(rows: int, stored: str, defined: str | None) -> Content:
        view = dataclasses.replace(VIEW, rows=rows, hash=stored, defined_hash=defined)
        return dataclasses.replace(RESTORED, tables={"v": view})

    assert compare(expected, observed(9, "9:9", "9:9")) == []
    assert [item.name for item in compare(expected, observed(9, "9:9", "8:8"))] == ["v"]
    assert [item.name for item in compare(expected, observed(9, "9:9", None))] == ["v"]


def test_an_unpopulated_view_stays_so() -> None:
    empty = TableContent(kind="materialized view", rows=0, hash="", populated=False)
    expected = dataclasses.replace(CONTENT, tables={"v": empty})
    assert compare(expected, dataclasses.replace(RESTORED, tables={"v": empty})) == []
    filled = dataclasses.replace(RESTORED, tables={"v": dataclasses.replace(VIEW, hash="2:2", rows=2)})
    assert len(compare(expected, filled)) == 1


def test_a_sequence_is_between_two_readings() -> None:
    before = {"up": Position(last_value=5, next_value=6), "gone": Position(last_value=1, next_value=1)}
    ranges = between(before, {"up": Position(last_value=8, next_value=9)})
    assert ranges["up"] == SequenceRange(low=6, high=9, last_value=5)
    assert ranges["gone"] == SequenceRange(low=1, high=1, last_value=1)
    down = between({"d": Position(last_value=9, next_value=8)}, {"d": Position(last_value=5, next_value=4)})
    assert (down["d"].low, down["d"].high) == (4, 8)
    one = Position(last_value=9, next_value=10, cycle_low=1, cycle_high=10)
    assert between({"c": one}, {"c": one})["c"].low == 10
    round_trip = between({"c": one}, {"c": dataclasses.replace(one, last_value=2, next_value=3)})["c"]
    assert (round_trip.low, round_trip.high) == (1, 10)
