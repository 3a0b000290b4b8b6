# SPDX-License-Identifier: GPL-3.0-or-later
"""The events of the log and what each may say: allow-listed keys, each of a kind.

A kind takes a value and gives what may be written, or :data:`DROP`. What is not of the kind is dropped
and counted, never turned into text: a secret cannot slip into a line by way of a value that grew. To
add an event, add its row to :data:`EVENTS`; ``free`` is the only kind that is scanned, so prefer any other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from . import context, identifiers, scan

DROP: Final = object()
Kind = Callable[[Any], Any]

_AMOUNT = re.compile(r"-?[0-9]{1,12}\.[0-9]{2}")
_IDENTIFIER = re.compile(r"[0-9]{1,19}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CENT = Decimal("0.01")
# Where a number can be somebody's: shorter ones are no CPF.
_PERSONAL_FROM = 11


def whole(value: Any) -> Any:
    """A whole number."""
    return value if type(value) is int and -(1 << 53) < value < 1 << 53 else DROP


def number(value: Any) -> Any:
    """A finite number: durations and counts, never money."""
    if type(value) is float:
        return value if math.isfinite(value) else DROP
    return whole(value)


def flag(value: Any) -> Any:
    """True or false."""
    return value if type(value) is bool else DROP


def amount(value: Any) -> Any:
    """Money: a Decimal or a decimal string with two places; a float is no money."""
    if type(value) is Decimal:
        if not value.is_finite() or abs(value) >= Decimal(10) ** 12 or value != value.quantize(_CENT):
            return DROP
        return str(value.quantize(_CENT))
    return value if type(value) is str and _AMOUNT.fullmatch(value) else DROP


def identifier(value: Any) -> Any:
    """The key of a row, as text: a whole number or a UUID."""
    if (type(value) is int and 0 <= value < 1 << 63) or type(value) is UUID:
        value = str(value)
    if type(value) is not str or not _IDENTIFIER.fullmatch(value):
        return DROP
    return DROP if len(value) >= _PERSONAL_FROM and identifiers.is_personal(value) else value


def matching(pattern: str) -> Kind:
    """Text that matches the whole pattern, which must leave no room for data."""
    matches = re.compile(pattern).fullmatch
    return lambda value: value if type(value) is str and matches(value) else DROP


def one_of(*words: str) -> Kind:
    """One of some words."""
    known = frozenset(words)
    return lambda value: value if type(value) is str and value in known else DROP


def many(kind: Kind, limit: int = 20) -> Kind:
    """A list or tuple of at most ``limit`` values of a kind."""

    def convert(value: Any) -> Any:
        if type(value) not in (list, tuple) or len(value) > limit:
            return DROP
        found = [kind(item) for item in value]
        return DROP if any(item is DROP for item in found) else found

    return convert


def record(**kinds: Kind) -> Kind:
    """An object with exactly these keys."""

    def convert(value: Any) -> Any:
        if type(value) is not dict or value.keys() != kinds.keys():
            return DROP
        found = {key: kind(value[key]) for key, kind in kinds.items()}
        return DROP if any(item is DROP for item in found.values()) else found

    return convert


def free(value: Any) -> Any:
    """Free text: scanned, then cut."""
    return scan.text(value) if isinstance(value, str) else DROP


_release = matching(r"[0-9][0-9A-Za-z.]{0,40}\+(?:[0-9a-f]{12}|development)")
_version = matching(r"[0-9][0-9A-Za-z.+]{0,40}")
_word = matching(r"[a-z][a-z_]{0,31}")
_logger = matching(r"[A-Za-z_][A-Za-z0-9_.]{0,79}")
_method = one_of("cash", "debit_card", "credit_card", "pix")
_verdict = one_of("ok", "fail")

EVENTS: dict[str, Mapping[str, Kind]] = {
    "request_completed": {
        "status": whole,
        "durationMs": number,
        "dbTimeMs": number,
        "dbQueries": whole,
        "release": _release,
        "traceId": matching(r"[0-9a-f]{32}"),
        "rejectedRequestIdLength": whole,
    },
    "request_refused": {"status": whole},
    "service_starting": {
        "release": _release,
        "version": _version,
        "pid": whole,
        "colour": matching(r"[a-z]{0,16}"),
    },
    "service_ready": {"release": _release, "startMs": whole},
    "service_stopping": {"signal": matching(r"SIG[A-Z0-9]{1,12}"), "drainSeconds": number},
    "service_stopped": {"uptimeSec": whole},
    "startup_failed": {"action": free},
    "heartbeat": {
        "uptimeSec": whole,
        "ready": flag,
        "release": _release,
        "linesWritten": whole,
        "linesLost": whole,
    },
    "readiness_changed": {"db": _verdict, "code": one_of("P1001", "P1002", "P1017", "refused")},
    "watchdog_enabled": {"intervalMs": whole},
    "server_message": {"logger": _logger, "text": free},
    "server_access": {"method": one_of(*context.METHODS, "OTHER"), "status": whole},
    "python_warning": {"category": _logger, "text": free, "file": free, "line": whole},
    "uncaught_exception": {"where": one_of("main", "thread", "finalizer")},
    "log_event_unknown": {},
    "login_succeeded": {"role": one_of("admin", "manager", "cashier")},
    "login_failed": {"reason": _word},
    "token_refreshed": {},
    "refresh_repeated": {},
    "refresh_token_reused": {"revoked": whole},
    "cash_opened": {"cashSessionId": identifier, "openingAmount": amount},
    "cash_closed": {"cashSessionId": identifier, "closingAmount": amount, "sales": whole},
    "cash_totals_mismatch": {
        "cashSessionId": identifier,
        "differences": many(record(method=_method, expected=amount, observed=amount)),
    },
    "answer_replayed": {"status": whole},
    "login_throttled": {"scope": _word, "retrySeconds": whole},
    "swept": {"idempotencyKeys": whole, "loginAttempts": whole, "refreshTokens": whole},
    "sweep_failed": {},
    "sale_created": {"saleId": identifier, "total": amount, "lines": whole},
    "sale_cancelled": {"saleId": identifier, "total": amount},
    "stock_insufficient": {"productId": identifier, "requested": whole, "available": whole},
    "payment_confirmed": {"saleId": identifier, "amount": amount, "methods": many(_method)},
    "database_unreachable": {"stage": _word, "attempts": whole},
}


def admit(event: str, meta: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The part of ``meta`` that the event may say, and the number of values that were dropped.

    :raises KeyError: the event is not one of :data:`EVENTS`.
    """
    kinds = EVENTS[event]
    admitted: dict[str, Any] = {}
    dropped = 0
    for key, value in meta.items():
        kind = kinds.get(key)
        kept = DROP if kind is None else kind(value)
        if kept is DROP:
            dropped += 1
        else:
            admitted[key] = kept
    return admitted, dropped
