# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sets a listing holds."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops.backup.catalogue import checked_database, new_id, newest_complete, sets_of, started_at
from pharma_ops.errors import OpsError
from pharma_ops.store.base import ObjectInfo

OLD, NEW, NEWEST = "20260101T000000Z-aaaaaa", "20260102T000000Z-bbbbbb", "20260103T000000Z-cccccc"


def listing(*keys: str) -> list[ObjectInfo]:
    return [ObjectInfo(key=key, bytes=10, modified=datetime(2026, 1, 1, tzinfo=UTC)) for key in keys]


def test_a_set_without_a_manifest_is_unfinished_and_never_the_newest() -> None:
    sets = sets_of(
        listing(
            f"shop/{NEWEST}/globals.sql.age",
            f"shop/{NEWEST}/manifest.json.sig",
            f"shop/{OLD}/manifest.json",
            f"shop/{NEW}/manifest.json",
            f"shop/{NEW}/dump.age",
            f"other/{NEWEST}/manifest.json",
            "shop/notes/manifest.json",
            f"shop/{NEWEST}",
        ),
        "shop",
    )
    assert [(item.id, item.state, item.bytes) for item in sets] == [
        (OLD, "complete", 10),
        (NEW, "complete", 20),
        (NEWEST, "unfinished", 20),
    ]
    newest = newest_complete(sets)
    assert newest is not None
    assert newest.id == NEW
    assert newest.prefix == f"shop/{NEW}"
    assert newest.as_dict()["started_at"] == "2026-01-02T00:00:00.000Z"
    assert newest_complete(sets[2:]) is None


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_an_id_tells_when_its_backup_started(moment: datetime) -> None:
    aware = moment.replace(microsecond=0, tzinfo=UTC)
    assert started_at(new_id(aware)) == aware


@pytest.mark.parametrize("text", ["", "latest", "../etc", "20261301T000000Z-aaaaaa", OLD + "0", OLD.upper()])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(OpsError) as caught:
        started_at(text)
    assert caught.value.code == "BACKUP_ID_INVALID"


@pytest.mark.parametrize("name", ["", "..", "a/b", "Ção", "a b"])
def test_a_name_that_cannot_be_a_key_is_refused(name: str) -> None:
    with pytest.raises(OpsError):
        checked_database(name)
    assert checked_database("pharma-1.x_y") == "pharma-1.x_y"
