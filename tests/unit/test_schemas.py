# SPDX-License-Identifier: GPL-3.0-or-later
"""The schemas themselves; real output is held to them where it is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

DRAFT = "https://json-schema.org/draft/2020-12/schema"
EXPECTED = {"evidence", "journey", "log-line", "manifest"}


def check(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == DRAFT
    assert schema["title"]
    Draft202012Validator.check_schema(schema)


def test_every_contract_has_a_schema(root: Path) -> None:
    names = {path.name.removesuffix(".schema.json") for path in (root / "docs/schemas").glob("*.schema.json")}
    assert names >= EXPECTED


def test_schemas_are_valid(root: Path) -> None:
    for path in sorted((root / "docs/schemas").iterdir()):
        assert path.name.endswith(".schema.json"), path
        check(json.loads(path.read_text(encoding="utf-8")))


def test_a_wrong_schema_is_refused() -> None:
    with pytest.raises(SchemaError):
        check({"$schema": DRAFT, "title": "x", "type": "objet"})
    with pytest.raises(AssertionError):
        check({"$schema": "http://json-schema.org/draft-07/schema#", "title": "x"})
