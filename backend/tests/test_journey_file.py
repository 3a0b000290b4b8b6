# SPDX-License-Identifier: GPL-3.0-or-later
"""The journey of the drill, walked by the engine's own interpreter on the real service."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from uuid import uuid4

import jsonschema
import psycopg
import pytest
import yaml
from backend_harness import PASSWORD, Service

ROOT = Path(__file__).resolve().parents[2]
JOURNEY = ROOT / "backend/journey.yaml"


def test_the_file_keeps_the_format() -> None:
    schema = json.loads((ROOT / "docs/schemas/journey.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(JOURNEY.read_text()))


@pytest.mark.parametrize("again", range(2))
def test_a_fresh_manager_walks_it(
    service: Service, sql: psycopg.Connection, engine: None, again: int
) -> None:
    run = importlib.import_module("pharma_ops.journey.run")
    spec = importlib.import_module("pharma_ops.journey.spec")
    run_id = f"drill-{uuid4().hex[:12]}"
    service.cli.json(
        "create-user", "--username", run_id, "--role", "manager", "--password-stdin", stdin=PASSWORD
    )
    outcome = run.run(
        spec.load(JOURNEY),
        base_url="http://pharma",
        socket=service.socket,
        given={"username": run_id, "password": PASSWORD, "run_id": run_id},
        connection=sql,
    )
    assert [finding for finding in outcome.findings if finding.met is not True] == []
    assert len(outcome.findings) > 30
