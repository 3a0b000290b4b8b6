# SPDX-License-Identifier: GPL-3.0-or-later
"""The example alerts speak of metrics that exist, and each has its runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

METRIC = re.compile(r"\bpharma_[a-z_]+\b")


@pytest.fixture(scope="module")
def rules(root: Path) -> list[dict[str, Any]]:
    data = yaml.safe_load((root / "docs/alerts/backup.rules.yml").read_text(encoding="utf-8"))
    return [rule for group in data["groups"] for rule in group["rules"]]


def documented(root: Path) -> set[str]:
    """The metrics of the table in docs/backup-estate.md."""
    rows = re.findall(r"^\| (`pharma_.*?) \|", (root / "docs/backup-estate.md").read_text(), re.MULTILINE)
    return {name for row in rows for name in METRIC.findall(row)}


def test_alerts_speak_of_metrics_that_there_are(root: Path, rules: list[dict[str, Any]]) -> None:
    known = documented(root)
    assert "pharma_backup_seen_whole_timestamp_seconds" in known
    used = {name for rule in rules for name in METRIC.findall(rule["expr"])}
    assert sorted(used - known) == []
    assert "pharma_backup_seen_whole_timestamp_seconds" in used


def test_each_alert_says_how_bad_it_is_and_what_to_do(root: Path, rules: list[dict[str, Any]]) -> None:
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert (root / rule["annotations"]["runbook"]).exists()


def test_every_alert_is_made_to_fire(root: Path, rules: list[dict[str, Any]]) -> None:
    """The names; ``promtool test rules`` runs them where Prometheus is installed."""
    text = (root / "docs/alerts/backup.rules.test.yml").read_text(encoding="utf-8")
    assert sorted(rule["alert"] for rule in rules if f'alertname="{rule["alert"]}"' not in text) == []
    promtool = shutil.which("promtool")
    if promtool:
        subprocess.run(
            [promtool, "test", "rules", "backup.rules.test.yml"], cwd=root / "docs/alerts", check=True
        )
