# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics in Prometheus' text format; labels are templates, names and codes, never data.

Every series that an alert may ask for exists from the start with the value 0, so that its first
event is an increase and not a birth.
"""

from __future__ import annotations

import platform
import time

import psycopg
from prometheus_client import (
    PROCESS_COLLECTOR,
    REGISTRY,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from .logmetrics import LogLines
from .release import Release

disable_created_metrics()  # type: ignore[no-untyped-call]

# Seconds that 95 of 100 requests of a critical route may take. The one place that says so: the histogram
# has a boundary at each, and `pharma_objective_seconds` hands them to alerts and dashboards.
OBJECTIVES: dict[tuple[str, str], float] = {
    ("POST", "/auth/login"): 0.5,
    ("POST", "/sales/{id}/pay"): 0.3,
    ("POST", "/cash/close"): 0.75,
}
_BUCKETS = sorted({0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 1.0, 2.5, 5.0, 10.0, *OBJECTIVES.values()})

# Connections to the database that failed, by code. The first two are numbered as Prisma numbers them.
CANNOT_REACH = "P1001"  # refused, no route, no such host, no answer to the first packet
REACHED_TIMED_OUT = "P1002"  # the host takes connections, but the server does not answer in time
CLOSED_BY_SERVER = "P1017"  # a connection that was in use was lost
REFUSED = "refused"  # the server answered: wrong password, no such database, too many clients, starting up
POOL_TIMEOUT = "pool_timeout"  # every connection of the pool was in use for too long
CONNECTION_CODES = (CANNOT_REACH, REACHED_TIMED_OUT, CLOSED_BY_SERVER, REFUSED, POOL_TIMEOUT)

REQUESTS = Counter("pharma_http_requests_total", "Requests served", ["method", "route", "status"])
DURATION = Histogram(
    "pharma_http_request_duration_seconds",
    "Time from the first byte of a request to the last of its answer",
    ["method", "route"],
    buckets=_BUCKETS,
)
IN_PROGRESS = Gauge("pharma_http_requests_in_progress", "Requests being served")
OBJECTIVE = Gauge("pharma_objective_seconds", "What 95 % of these requests stay below", ["method", "route"])
PROBLEMS = Counter("pharma_problems_total", "Answers other than success by code", ["code"])

DB_ERRORS = Counter("pharma_db_errors_total", "Errors of the database by SQLSTATE", ["sqlstate"])
CONNECTION_ERRORS = Counter(
    "pharma_db_connection_errors_total", "Connections that could not be made, got or kept", ["code"]
)
POOL_CONNECTIONS = Gauge("pharma_db_pool_connections", "Connections of the pool by state", ["state"])
POOL_MAX = Gauge("pharma_db_pool_max_connections", "Connections that the pool may have")
POOL_WAITING = Gauge("pharma_db_pool_waiting", "Requests that wait for a connection")
POOL_WAIT = Histogram(
    "pharma_db_pool_wait_seconds",
    "Time until a request had its connection, or went without",
    buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 1, 3, 10),
)

READY = Gauge("pharma_ready", "1 while /health/ready answers 200")
READINESS_CHECKS = Counter("pharma_readiness_checks_total", "Questions to the database by result", ["result"])
LOOP_LAG = Histogram(
    "pharma_event_loop_lag_seconds",
    "How much later than asked for the event loop ran a timer",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
LOOP_LAG_LAST = Gauge("pharma_event_loop_lag_last_seconds", "The newest observation of the lag")

SECRET_AGE = Gauge("pharma_secret_age_seconds", "Time since the secret was made", ["name"])
SECRET_MAX_AGE = Gauge("pharma_secret_max_age_seconds", "Age at which it must be replaced", ["name"])
SECRET_INVENTORY = Gauge("pharma_secret_inventory_readable", "0 when the inventory of secrets cannot be used")

RELEASE = Gauge("pharma_release_info", "The running release", ["version", "digest", "colour"])
BUILD = Gauge("pharma_build_info", "What the release runs on", ["python", "psycopg", "libpq"])


class Process(ProcessCollector):
    """The library's metrics of the process, which it leaves out where ``ProcSubset=pid`` hides /proc/stat."""

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


REGISTRY.unregister(PROCESS_COLLECTOR)
Process()
REGISTRY.register(LogLines())

for _code in CONNECTION_CODES:
    CONNECTION_ERRORS.labels(_code)
for _result in ("ok", "fail"):
    READINESS_CHECKS.labels(_result)
for (_method, _route), _seconds in OBJECTIVES.items():
    OBJECTIVE.labels(_method, _route).set(_seconds)
    DURATION.labels(_method, _route)


def identify(release: Release, colour: str) -> None:
    """Say which release runs, in which colour, and on what."""
    RELEASE.labels(release.version, release.digest, colour).set(1)
    libpq = ".".join(str(part) for part in divmod(psycopg.pq.version(), 10_000))
    BUILD.labels(platform.python_version(), psycopg.__version__, libpq).set(1)


def render() -> tuple[bytes, str]:
    """The exposition and its content type."""
    return generate_latest(), CONTENT_TYPE_LATEST
