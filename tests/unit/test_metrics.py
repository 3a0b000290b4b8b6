# SPDX-License-Identifier: GPL-3.0-or-later
"""What jobs tell Prometheus: its own parser reads it, the file is whole, others may read it."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from pharma_ops import metrics
from pharma_ops.metrics import Gauge

GAUGES = [
    Gauge("pharma_x_bytes", "Size of x.", (({"database": 'a"b', "store": "s"}, 1.5),)),
    Gauge("pharma_y", "Y.", (({}, 0.0),)),
    Gauge("pharma_none", "Nothing yet.", ()),
]


def test_the_parser_of_prometheus_reads_what_was_written(tmp_path: Path) -> None:
    path = metrics.publish(tmp_path / "metrics", "backup", GAUGES)
    assert path.name == "pharma_backup.prom"
    assert path.stat().st_mode & 0o777 == 0o644
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }
    assert samples[("pharma_x_bytes", (("database", 'a"b'), ("store", "s")))] == 1.5
    assert samples[("pharma_y", ())] == 0.0


def test_a_later_run_replaces_the_file(tmp_path: Path) -> None:
    metrics.publish(tmp_path, "backup", GAUGES)
    path = metrics.publish(tmp_path, "backup", [])
    assert "pharma_x_bytes" not in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
