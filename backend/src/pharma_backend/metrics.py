# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics in Prometheus' text format; labels are templates and codes, never data."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]

REQUESTS = Counter("pharma_http_requests_total", "Requests served", ["method", "route", "status"])
DURATION = Histogram(
    "pharma_http_request_duration_seconds",
    "Time from the first byte of a request to the last of its answer",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
IN_PROGRESS = Gauge("pharma_http_requests_in_progress", "Requests being served")
DB_ERRORS = Counter("pharma_db_errors_total", "Errors of the database by SQLSTATE", ["sqlstate"])
POOL_SIZE = Gauge("pharma_db_pool_connections", "Connections of the pool by state", ["state"])
POOL_WAITING = Gauge("pharma_db_pool_waiting", "Requests that wait for a connection")
READY = Gauge("pharma_ready", "1 while /health/ready answers 200")
RELEASE = Gauge("pharma_release_info", "The running release", ["version", "digest"])
PROBLEMS = Counter("pharma_problems_total", "Answers other than success by code", ["code"])


def render() -> tuple[bytes, str]:
    """The exposition and its content type."""
    return generate_latest(), CONTENT_TYPE_LATEST
