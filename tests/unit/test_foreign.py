# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps made by others: what a listing tells of them, which one is the newest, what is refused."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from evidence_samples import limited
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops import config
from pharma_ops.backup import foreign
from pharma_ops.backup.catalogue import is_set_id
from pharma_ops.config_foreign import Foreign
from pharma_ops.drill.foreign import created_at
from pharma_ops.errors import OpsError
from pharma_ops.evidence.parse import parse_statement
from pharma_ops.evidence.publish import statement_bytes
from pharma_ops.evidence.record import Objective, Verdict
from pharma_ops.store.base import ObjectInfo

UTC_ZONE = ZoneInfo("UTC")
SPEC = Foreign(prefix="erp/", pattern="*.dump*")
STORED = datetime(2026, 2, 20, tzinfo=UTC)


def item(key: str, stored: datetime = STORED, size: int = 10) -> ObjectInfo:
    return ObjectInfo(key=key, bytes=size, modified=stored)


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("shop-20260215T123456Z.dump", "2026-02-15T12:34:56+00:00"),
        ("shop_20260215_123456.dump", "2026-02-15T12:34:56+00:00"),
        ("2026-02-15/shop.dump", "2026-02-15T00:00:00+00:00"),
        ("2026-02-15T12:34:56.dump", "2026-02-15T12:34:56+00:00"),
        ("shop-2026-02-15-1234.dump.age", "2026-02-15T12:34:00+00:00"),
        ("shop-20261340.dump", None),
        ("shop-8120260215999.dump", None),
        ("latest.dump", None),
    ],
)
def test_the_time_in_a_name(name: str, moment: str | None) -> None:
    found = foreign.moment_in(name, UTC_ZONE)
    assert (found.isoformat() if found else None) == moment


def test_a_local_time_is_of_the_zone_that_makes_the_dumps() -> None:
    zone = ZoneInfo("America/Sao_Paulo")
    local = foreign.moment_in("d-20260215T030000.dump", zone)
    assert local == datetime(2026, 2, 15, 6, tzinfo=UTC)
    assert foreign.moment_in("d-20260215T030000Z.dump", zone) == datetime(2026, 2, 15, 3, tzinfo=UTC)
    assert created_at("2026-02-15 03:00:00 UTC", zone) == local
    assert created_at("", zone) is None


def test_only_what_matches_is_a_dump_and_the_newest_by_name_is_chosen() -> None:
    listing = [
        item("erp/"),
        item("erp/notes.txt"),
        item("erp/a-20260210.dump", STORED + timedelta(days=1)),
        item("erp/deep/b-20260212.dump.age"),
        item("erp/c.dump", STORED - timedelta(days=30)),
    ]
    dumps = foreign.dumps_of(listing, "erp", SPEC)
    assert [dump.key for dump in dumps] == [
        "erp/c.dump",
        "erp/a-20260210.dump",
        "erp/deep/b-20260212.dump.age",
    ]
    assert [dump.basis for dump in dumps] == ["stored", "name", "name"]
    assert all(is_set_id(dump.id) for dump in dumps)
    assert len({dump.id for dump in dumps}) == 3
    assert foreign.choose(dumps, None, "erp", "s").key == "erp/deep/b-20260212.dump.age"
    assert foreign.choose(dumps, "erp/c.dump", "erp", "s") is dumps[0]
    assert foreign.choose(dumps, dumps[1].id, "erp", "s") is dumps[1]
    assert dumps[0].as_dict()["kind"] == "foreign"
    assert dumps[0].as_dict()["missing_proofs"]


def test_a_name_from_the_future_hides_nothing() -> None:
    dumps = foreign.dumps_of(
        [item("erp/x-20990101.dump"), item("erp/y-20260219.dump", STORED + timedelta(days=1))], "erp", SPEC
    )
    assert [(dump.key, dump.basis) for dump in dumps] == [
        ("erp/y-20260219.dump", "name"),
        ("erp/x-20990101.dump", "stored"),
    ]
    assert all(dump.at <= dump.stored_at + timedelta(hours=1) for dump in dumps)


@given(st.text(max_size=30), st.integers(1_000_000_000, 2_000_000_000))
def test_no_name_puts_a_dump_after_its_storing(name: str, seconds: int) -> None:
    stored = datetime.fromtimestamp(seconds, UTC)
    for dump in foreign.dumps_of([item(f"erp/{name}.dump", stored)], "erp", SPEC):
        assert dump.at <= stored + timedelta(hours=1)
        assert is_set_id(dump.id)


def test_what_cannot_be_chosen_says_why() -> None:
    with pytest.raises(OpsError, match=r"\[foreign.erp\]") as caught:
        foreign.choose([], None, "erp", "s3://b")
    assert caught.value.code == "NO_BACKUP"
    (dump,) = foreign.dumps_of([item("erp/der dump:1.dump")], "erp", SPEC)
    assert not dump.usable
    with pytest.raises(OpsError) as caught:
        foreign.choose([dump], None, "erp", "s3://b")
    assert caught.value.code == "FOREIGN_NAME_UNUSABLE"
    with pytest.raises(OpsError) as caught:
        foreign.choose([dump], "erp/other", "erp", "s3://b")
    assert caught.value.code == "BACKUP_MISSING"
    with pytest.raises(OpsError, match="Mars/Olympus"):
        foreign.dumps_of([], "erp", dataclasses.replace(SPEC, timezone="Mars/Olympus"))


def test_the_configuration_names_its_sources() -> None:
    settings = config.parse({"environment": "lab", "foreign": {"erp": {"prefix": "erp/", "database": "erp"}}})
    assert foreign.source(settings, "erp").database == "erp"
    with pytest.raises(OpsError, match="there are: erp"):
        foreign.source(settings, "other")
    with pytest.raises(OpsError, match=r"foreign\.erp\.prefx"):
        config.parse({"environment": "lab", "foreign": {"erp": {"prefx": ""}}})


def test_a_dump_that_is_too_old_fails_and_is_never_passed() -> None:
    record = limited()
    assert record.verdict is Verdict.LIMITED
    old = dataclasses.replace(record, rpo=Objective(seconds=200.0, objective_seconds=100.0))
    assert old.verdict is Verdict.FAILED
    assert "RPO" in old.cause
    new = dataclasses.replace(record, rpo=Objective(seconds=50.0, objective_seconds=100.0))
    assert new.verdict is Verdict.LIMITED
    for each in (record, old, new):
        assert parse_statement(statement_bytes(each)).verdict is each.verdict


def test_the_page_about_foreign_dumps_names_every_missing_proof(root: Path) -> None:
    text = (root / "docs/adopting-dumps.md").read_text(encoding="utf-8")
    assert [code for code in foreign.MISSING_PROOFS if f"`{code}`" not in text] == []
