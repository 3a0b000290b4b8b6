# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest: what is written is read back, and nothing else is."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pharma_ops.backup.manifest import Manifest, ObjectEntry, Release
from pharma_ops.errors import OpsError
from pharma_ops.postgres.content import Content, SequenceRange, TableContent
from pharma_ops.postgres.largeobjects import LargeObjects

MOMENT = datetime(2026, 2, 15, 12, 34, 56, 789000, tzinfo=UTC)
ENTRIES = tuple(
    ObjectEntry(name=name, bytes=200, sha256="a" * 64, plaintext_bytes=100, plaintext_sha256="b" * 64)
    for name in ("dump.age", "globals.sql.age")
)
CONTENT = Content(
    server_version=170005,
    encoding="UTF8",
    tables={
        "pharmacy.sales": TableContent(kind="table", rows=3, hash="1:-2"),
        'pharmacy."Diário"': TableContent(
            kind="materialized view", rows=1, hash="5:6", defined_rows=2, defined_hash="7:8", undecided="x"
        ),
    },
    sequences={"pharmacy.sales_id_seq": SequenceRange(low=4, high=9, last_value=3)},
    structure={"table pharmacy.sales": "owner shop"},
    extensions={"plpgsql": "1.0"},
    large_objects=LargeObjects(count=1, bytes=5, hash="3:4"),
    roles={"shop": "login"},
    locale={
        "provider": "libc", "collate": "C", "ctype": "C", "locale": "", "version": "2.41", "timezone": "UTC",
    },
)  # fmt: skip
MANIFEST = Manifest(
    id="20260215T123456Z-0a1b2c",
    database="pharma",
    started_at=MOMENT,
    finished_at=MOMENT,
    snapshot_at=MOMENT,
    snapshot_lsn="0/16B3748",
    newest_change_at=MOMENT,
    newest_change_basis="commit_timestamp",
    tool_version="0.1.0",
    source_host="db1",
    server_version=170005,
    server_version_text="17.5",
    dump_format="custom",
    dump_compression="zstd:1",
    dump_program="pg_dump (PostgreSQL) 17.5",
    dump_program_major=17,
    recipients=("0123456789abcdef",),
    objects=ENTRIES,
    content=CONTENT,
    release=Release(name="pharma-backend", version="1.2.3", sha256="c" * 64),
    migration_head="0007",
)


def altered(path: list[Any], change: Any) -> bytes:
    """The manifest's JSON with one value replaced, or removed when ``change`` is ``...``."""
    document = json.loads(MANIFEST.to_json())
    place = document
    for key in path[:-1]:
        place = place[key]
    if change is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = change
    return json.dumps(document).encode()


def refused(data: bytes) -> OpsError:
    """The error that reading these bytes raises."""
    with pytest.raises(OpsError) as caught:
        Manifest.from_json(data)
    return caught.value


def test_is_read_back_as_it_was_written(root: Path) -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    bare = dataclasses.replace(MANIFEST, release=None, migration_head=None)
    assert Manifest.from_json(bare.to_json()) == bare
    schema = json.loads((root / "docs/schemas/manifest.schema.json").read_text(encoding="utf-8"))
    for manifest in (MANIFEST, bare):
        Draft202012Validator(schema).validate(json.loads(manifest.to_json()))


def test_an_unknown_schema_version_is_named() -> None:
    error = refused(altered(["schemaVersion"], 2))
    assert error.code == "MANIFEST_VERSION_UNKNOWN"
    assert "version 2" in error.message
    assert refused(altered(["schemaVersion"], ...)).code == "MANIFEST_VERSION_UNKNOWN"


@pytest.mark.parametrize(
    ("path", "change", "named"),
    [
        (["database"], ..., "database"),
        (["database"], 7, "database"),
        (["startedAt"], "yesterday", "startedAt"),
        (["startedAt"], "2026-02-15T12:34:56", "startedAt"),
        (["surprise"], 1, "surprise"),
        (["tool", "surprise"], 1, "surprise"),
        (["objects", 0, "sha256"], ..., "sha256"),
        (["objects", 0, "bytes"], -1, "bytes"),
        (["objects", 0, "bytes"], True, "bytes"),
        (["encryption", "recipients"], [1], "recipients"),
        (["newestChangeBasis"], "guess", "newestChangeBasis"),
        (["application", "release", "version"], ..., "version"),
        (["content"], ..., "content"),
        (["content", "tables"], ..., "tables"),
        (["content", "tables", "pharmacy.sales", "rows"], "3", "pharmacy.sales"),
        (["content", "tables", "pharmacy.sales", "rows"], True, "pharmacy.sales"),
        (["content", "tables", "pharmacy.sales", "hash"], ..., "hash"),
        (["content", "tables", "pharmacy.sales", "more"], 1, "more"),
        (["content", "sequences", "pharmacy.sales_id_seq"], 5, "pharmacy.sales_id_seq"),
        (["content", "structure", "table pharmacy.sales"], 5, "structure"),
        (["content", "hash_version"], None, "hash_version"),
    ],
)
def test_an_altered_manifest_is_refused_and_the_key_named(path: list[Any], change: Any, named: str) -> None:
    error = refused(altered(path, change))
    assert error.code == "MANIFEST_INVALID"
    assert named in error.message


@given(st.integers(min_value=0, max_value=len(MANIFEST.to_json()) - 2))
def test_a_cut_manifest_is_refused(length: int) -> None:
    assert refused(MANIFEST.to_json()[:length]).code == "MANIFEST_INVALID"


def test_a_key_that_stands_twice_is_refused() -> None:
    text = MANIFEST.to_json().decode()
    twice = text.replace('"rows": 3', '"rows": 4,\n"rows": 3')
    assert refused(twice.encode()).code == "MANIFEST_INVALID"


def test_an_object_that_is_not_named_is_an_error() -> None:
    assert MANIFEST.object("dump.age").bytes == 200
    with pytest.raises(OpsError, match="names no object other"):
        MANIFEST.object("other")
