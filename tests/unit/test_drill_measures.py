# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill tells Prometheus."""

from __future__ import annotations

import dataclasses
import io
import json
from datetime import timedelta
from pathlib import Path

from evidence_samples import FINISHED, failed, limited, passed, unknown
from prometheus_client.parser import text_string_to_metric_families

from pharma_ops.config import Config
from pharma_ops.drill import measures
from pharma_ops.evidence.record import DrillRecord
from pharma_ops.log import Log


def samples(directory: Path) -> dict[tuple[str, ...], float]:
    text = (directory / "pharma_drill.prom").read_text()
    return {
        (
            sample.name.removeprefix("pharma_drill_"),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def named(record: DrillRecord, database: str) -> DrillRecord:
    return dataclasses.replace(record, backup=record.backup | {"database": database})


def test_measures_of_the_last_drill_and_the_time_of_the_last_proof(tmp_path: Path) -> None:
    config = Config(environment="lab", state_dir=tmp_path, metrics_dir=tmp_path / "metrics")
    log = Log("lab", "run-12345", [])
    measures.publish(config, passed(), log)
    found = samples(tmp_path / "metrics")
    assert found[("last_run_timestamp_seconds", "pharma")] == FINISHED.timestamp()
    assert found[("last_proven_timestamp_seconds", "pharma")] == FINISHED.timestamp()
    assert [found[("last_verdict", "pharma", verdict)] for verdict in ("passed", "failed", "unknown")] == [
        1,
        0,
        0,
    ]
    assert found[("rto_seconds", "pharma")] > 0
    assert found[("rpo_seconds", "pharma")] > 0

    later = FINISHED + timedelta(days=7)
    measures.publish(config, failed(finished=later), log)
    found = samples(tmp_path / "metrics")
    assert found[("last_run_timestamp_seconds", "pharma")] == later.timestamp()
    assert found[("last_proven_timestamp_seconds", "pharma")] == FINISHED.timestamp()
    assert [found[("last_verdict", "pharma", verdict)] for verdict in ("passed", "failed", "unknown")] == [
        0,
        1,
        0,
    ]
    assert ("rto_seconds", "pharma") not in found, "what was not measured has no value"


def test_drills_of_two_databases_stand_beside_each_other(tmp_path: Path) -> None:
    config = Config(environment="lab", state_dir=tmp_path, metrics_dir=tmp_path / "metrics")
    log = Log("lab", "run-12345", [])
    measures.publish(config, named(passed(), "pharma"), log)
    measures.publish(config, named(unknown(), "stock"), log)
    found = samples(tmp_path / "metrics")
    assert found[("last_verdict", "pharma", "passed")] == found[("last_verdict", "stock", "unknown")] == 1
    assert ("last_proven_timestamp_seconds", "stock") not in found


def test_a_bare_dump_is_no_drill_of_a_database(tmp_path: Path) -> None:
    config = Config(environment="lab", state_dir=tmp_path, metrics_dir=tmp_path / "metrics")
    measures.publish(config, limited(), Log("lab", "run-12345", []))
    assert list(tmp_path.iterdir()) == []


def test_metrics_that_cannot_be_written_are_logged_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("a file in the way")
    config = Config(environment="lab", state_dir=tmp_path, metrics_dir=tmp_path / "metrics")
    stream = io.StringIO()
    measures.publish(config, passed(), Log("lab", "run-12345", [stream]))
    assert json.loads(stream.getvalue())["msg"] == "metrics_not_written"


def test_a_damaged_record_costs_the_history_only(tmp_path: Path) -> None:
    config = Config(environment="lab", state_dir=tmp_path, metrics_dir=tmp_path / "metrics")
    (tmp_path / "drill-measures").mkdir()
    (tmp_path / "drill-measures/pharma.json").write_text("[]")
    stream = io.StringIO()
    measures.publish(config, passed(), Log("lab", "run-12345", [stream]))
    assert json.loads(stream.getvalue().splitlines()[0])["msg"] == "record_damaged"
    assert samples(tmp_path / "metrics")[("last_verdict", "pharma", "passed")] == 1
