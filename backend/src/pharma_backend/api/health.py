# SPDX-License-Identifier: GPL-3.0-or-later
"""``/health`` and ``/metrics``: answered from memory."""

from datetime import UTC, datetime
from ipaddress import ip_address

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from .. import inventory, metrics
from ..errors import Problem
from .answers import LIVE, READY, document, problems
from .services import Services, ServicesDep

router = APIRouter()

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def _json(document: dict[str, object], status: int) -> Response:
    return Response(
        orjson.dumps(document), status, headers={"cache-control": "no-store"}, media_type="application/json"
    )


@router.get("/health/live", responses=document(200, "It runs.", LIVE))
async def live(shared: ServicesDep) -> Response:
    """The process and its event loop run; nothing is said of the database."""
    return _json({"status": "ok", "uptimeSec": shared.uptime_seconds}, 200)


@router.get(
    "/health/ready",
    responses=document(200, "Send requests here.", READY) | document(503, "Send none.", READY),
)
async def ready(shared: ServicesDep) -> Response:
    """Whether requests may be sent here."""
    readiness = shared.readiness
    ok = readiness.ok
    document: dict[str, object] = {
        "status": "ok" if ok else "fail",
        "db": "ok" if readiness.database_ok else "fail",
        "uptimeSec": shared.uptime_seconds,
        "checkedAgoMs": readiness.checked_ago_ms,
        "release": shared.release.label,
    }
    return _json(document, 200 if ok else 503)


@router.get("/metrics", response_class=PlainTextResponse, responses=problems("METRICS_FORBIDDEN"))
async def exposition(request: Request, shared: ServicesDep) -> Response:
    """Metrics, for the monitoring only: never through a proxy, never from an unknown peer."""
    if not _may_scrape(request, shared):
        raise Problem("METRICS_FORBIDDEN", 403, "Metrics are for the monitoring host")
    _sample(shared)
    body, content_type = metrics.render()
    return Response(body, media_type=content_type)


def _may_scrape(request: Request, shared: Services) -> bool:
    if any(name in request.headers for name in _FORWARDED):
        return False
    if request.client is None or not request.client.host:
        return True  # a unix socket: who may open it is decided by its directory
    try:
        peer = ip_address(request.client.host)
    except ValueError:
        return False
    return any(peer in network for network in shared.settings.metrics_peers)


def _sample(shared: Services) -> None:
    stats = shared.database.pool.get_stats()
    size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
    metrics.POOL_CONNECTIONS.labels("idle").set(idle)
    metrics.POOL_CONNECTIONS.labels("used").set(size - idle)
    metrics.POOL_MAX.set(stats.get("pool_max", 0))
    metrics.POOL_WAITING.set(stats.get("requests_waiting", 0))
    metrics.READY.set(int(shared.readiness.ok))
    if shared.settings.secret_inventory is not None:
        inventory.sample(shared.settings.secret_inventory, datetime.now(tz=UTC))
