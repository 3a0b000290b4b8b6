# SPDX-License-Identifier: GPL-3.0-or-later
"""The journeys of a drill and of a release, walked by the engine's own interpreter on the real service."""

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
SMOKE = ROOT / "backend/smoke.yaml"


@pytest.mark.parametrize("file", [JOURNEY, SMOKE], ids=lambda file: file.name)
def test_the_file_keeps_the_format(file: Path) -> None:
    schema = json.loads((ROOT / "docs/schemas/journey.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(file.read_text()))


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


# Attempts to log in are counted, whoever makes them; everything else is as it was before a smoke journey.
CONTENT = """
select table_name, (xpath('/row/n/text()', query_to_xml(
         format('select count(*) as n from pharmacy.%I', table_name), false, true, '')))[1]::text
  from information_schema.tables
 where table_schema = 'pharmacy' and table_type = 'BASE TABLE' and table_name <> 'login_attempts' order by 1
"""


def test_a_release_is_tried_without_a_user_and_without_a_trace(
    service: Service, sql: psycopg.Connection, engine: None
) -> None:
    run = importlib.import_module("pharma_ops.journey.run")
    spec = importlib.import_module("pharma_ops.journey.spec")
    before = sql.execute(CONTENT).fetchall()
    outcome = run.run(
        spec.load(SMOKE),
        base_url="http://pharma",
        socket=service.socket,
        given={"username": "", "password": "", "run_id": f"release-{uuid4().hex[:12]}"},
        connection=None,
    )
    assert [finding for finding in outcome.findings if finding.met is not True] == []
    assert len(outcome.findings) > 10
    assert len(before) > 8
    assert sql.execute(CONTENT).fetchall() == before
