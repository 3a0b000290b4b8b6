# SPDX-License-Identifier: GPL-3.0-or-later
"""What /metrics tells, of the running service and of files beside it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from backend_harness import Cli, Service, eventually, start_service
from fastapi.routing import APIRoute
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from pharma_backend import inventory, log, metrics
from pharma_backend.api import auth, cash, sales

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def scrape(service: Service) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by name; fails when the text is not Prometheus' format."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(service.client.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(name: str, /, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_the_histogram_has_a_boundary_at_each_objective() -> None:
    for (method, route), seconds in metrics.OBJECTIVES.items():
        labels = {"method": method, "route": route}
        assert value("pharma_objective_seconds", **labels) == seconds
        bound = value("pharma_http_request_duration_seconds_bucket", **labels, le=str(seconds))
        assert bound is not None, f"{method} {route} has no boundary at {seconds} s"
        assert value("pharma_http_request_duration_seconds_bucket", **labels, le="0.42") is None


def test_each_objective_is_for_a_route_that_exists() -> None:
    known = {
        (method, route.path)
        for router in (auth.router, sales.router, cash.router)
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert set(metrics.OBJECTIVES) <= known


def test_what_an_alert_asks_for_is_there_before_anything_happened(pharmacy: Cli, tmp_path: Path) -> None:
    pharmacy_blue = start_service(pharmacy, tmp_path, PHARMA_COLOUR="blue")
    try:
        found = scrape(pharmacy_blue)
        assert [labels["colour"] for labels, _ in found["pharma_release_info"]] == ["blue"]
        assert found["pharma_build_info"][0][0]["python"].startswith("3.")
        codes = {labels["code"] for labels, _ in found["pharma_db_connection_errors_total"]}
        assert codes == set(metrics.CONNECTION_CODES)
        assert {"P1001", "P1002", "pool_timeout"} <= codes
        assert {labels["level"] for labels, _ in found["pharma_log_lines_total"]} == set(log.LEVELS)
        assert found["pharma_log_write_errors_total"][0][1] == 0
        for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
            assert found[name][0][1] > 0
        assert abs(found["process_start_time_seconds"][0][1] - pharmacy_blue.output.stat().st_ctime) < 30
        eventually(lambda: scrape(pharmacy_blue)["pharma_event_loop_lag_seconds_count"][0][1] > 0)
        assert pharmacy_blue.lines()[0]["meta"]["colour"] == "blue"
    finally:
        pharmacy_blue.stop()


def test_the_process_is_measured_where_proc_stat_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("/proc/self")
    names = {family.name for family in metrics.Process(proc=str(tmp_path), registry=None).collect()}
    assert {"process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds"} <= names


def test_requests_are_counted_by_template_and_never_by_path(service: Service) -> None:
    headers = service.headers("ana")
    service.client.get("/sales/987654321", headers=headers)
    service.client.get("/nowhere/52998224725")
    service.client.request("BREW", "/health/live")
    text = service.client.get("/metrics").text
    assert 'pharma_http_requests_total{method="GET",route="/sales/{id}",status="404"}' in text
    assert 'route="<unmatched>",status="404"' in text
    for data in ("987654321", "52998224725", "BREW"):
        assert data not in text
    login = 'method="POST",route="/auth/login"'
    assert re.search(rf'duration_seconds_bucket\{{le="0.5",{login}\}} \d', text)
    assert re.search(rf"duration_seconds_count\{{{login}\}} [1-9]", text)


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_ages_of_secrets(tmp_path: Path) -> None:
    entries = [
        {"name": "JWT_SECRET", "createdAt": "2026-02-27T00:00:00Z", "maxAgeDays": 90, "fingerprint": "ab"},
        {"name": "DATABASE_URL", "createdAt": "2025-03-01T00:00:00Z", "maxAgeDays": 180, "fingerprint": "cd"},
    ]
    inventory.sample(write(tmp_path / "inventory.json", {"secrets": entries}), NOW)
    assert value("pharma_secret_inventory_readable") == 1
    assert value("pharma_secret_age_seconds", name="JWT_SECRET") == 2 * 86_400
    assert value("pharma_secret_max_age_seconds", name="JWT_SECRET") == 90 * 86_400
    assert value("pharma_secret_age_seconds", name="DATABASE_URL") == 365 * 86_400
    # One that was retired leaves no age behind.
    inventory.sample(write(tmp_path / "inventory.json", {"secrets": entries[:1]}), NOW)
    assert value("pharma_secret_age_seconds", name="DATABASE_URL") is None


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"secrets": [{"name": "JWT_SECRET"}]},
        {"secrets": [{"name": "JWT_SECRET", "createdAt": "soon", "maxAgeDays": 90}]},
        {"secrets": [{"name": "JWT_SECRET", "createdAt": "2026-01-01", "maxAgeDays": 90}]},
    ],
)
def test_an_inventory_that_cannot_be_used_is_told(document: object, tmp_path: Path) -> None:
    inventory.sample(write(tmp_path / "inventory.json", document), NOW)
    assert value("pharma_secret_inventory_readable") == 0
    assert value("pharma_secret_age_seconds", name="JWT_SECRET") is None
    inventory.sample(tmp_path / "missing.json", NOW)
    assert value("pharma_secret_inventory_readable") == 0
