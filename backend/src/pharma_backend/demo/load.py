# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads the demo pharmacy with COPY, in one transaction, into a database that holds no store."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from random import Random
from typing import Any

import psycopg
from psycopg import sql

from ..errors import CommandError
from ..migrate import connect
from . import catalogue, trade

MARKER = "demo_data_loaded"
_COLUMNS = {
    "stores": "id code name cnpj city state created_at updated_at",
    "users": "id store_id username full_name email role password_hash created_at updated_at",
    "customers": "id full_name cpf email phone born_on created_at updated_at",
    "products": "id ean name active_ingredient controlled price attributes created_at updated_at",
    "lots": "id product_id code manufactured_on expires_on unit_cost created_at",
    "stock": "store_id lot_id received quantity updated_at",
    "cash_sessions": "id store_id user_id register opened_at opening_amount closed_at closing_amount",
    "sales": "id store_id cash_session_id user_id customer_id status total created_at paid_at cancelled_at",
    "sale_items": "sale_id line product_id lot_id quantity unit_price",
    "payments": "id sale_id cash_session_id method amount tendered created_at",
    "audit_log": "occurred_at user_id store_id action entity entity_id request_id details",
}
_IDENTITIES = ("stores", "users", "customers", "products", "lots", "cash_sessions", "sales", "payments")
_TRADE = ("lots", "cash_sessions", "sales", "sale_items", "payments", "audit_log")


def run(url: str, *, sales: int, seed: int, today: date) -> dict[str, Any]:
    """Load the data, or find that the same were loaded before; what was done.

    :raises CommandError: ``DEMO_NOT_EMPTY`` when the database holds anything else.
    """
    started = time.monotonic()
    with connect(url) as connection, connection.transaction():
        # Two at once would both find it empty.
        connection.execute("lock table pharmacy.stores in share row exclusive mode")
        if _already_loaded(connection, sales, seed):
            return {"changed": False, "sales": sales, "seed": seed}
        rows = _load(connection, sales, seed, today)
    seconds = time.monotonic() - started
    return {
        "changed": True,
        "sales": sales,
        "seed": seed,
        "asOf": today.isoformat(),
        "rows": rows,
        "seconds": round(seconds, 2),
        "rowsPerSecond": int(sum(rows.values()) / seconds),
    }


def _already_loaded(connection: psycopg.Connection, sales: int, seed: int) -> bool:
    if connection.execute("select 1 from pharmacy.stores limit 1").fetchone() is None:
        return False
    marker = connection.execute(
        "select details ->> 'sales', details ->> 'seed' from pharmacy.audit_log"
        " where entity = 'demo' and action = %s limit 1",
        (MARKER,),
    ).fetchone()
    if marker == (str(sales), str(seed)):
        return True
    held = (
        f"demo data of {marker[0]} sales with seed {marker[1]}" if marker else "data that are not demo data"
    )
    raise CommandError(
        "DEMO_NOT_EMPTY",
        f"The database holds {held}.",
        "Demo data are loaded into an empty database only; use another one.",
    )


def _load(connection: psycopg.Connection, sales: int, seed: int, today: date) -> dict[str, int]:
    random = Random(seed)  # noqa: S311 - data for a demonstration, made to be reproducible
    shops = catalogue.stores(sales)
    products = catalogue.products()
    customers = min(100_000, max(200, sales // 10))
    traded = trade.Trade(random, shops, products, customers, sales, today)
    since = f"{traded.first_day}T06:00:00Z"
    rows = dict.fromkeys(_COLUMNS, 0)

    def copy(table: str, lines: Iterable[str]) -> None:
        rows[table] += _copy(connection, table, lines)

    copy("stores", catalogue.store_lines(shops, since))
    copy("users", catalogue.user_lines(random, shops, since))
    copy("customers", catalogue.customer_lines(random, customers, seed, today, since))
    copy("products", catalogue.product_lines(products, since))

    def send(batch: trade.Batch) -> None:
        for table in _TRADE:
            copy(table, getattr(batch, table))

    # The next batch is generated while the server takes in this one.
    with ThreadPoolExecutor(max_workers=1) as sender:
        underway: Future[None] | None = None
        for batch in traded.batches():
            if underway is not None:
                underway.result()
            underway = sender.submit(send, batch)
        if underway is not None:
            underway.result()
    copy("stock", _stock_lines(traded.lots, today))
    copy("audit_log", [_marker(sales, seed, today)])
    _move_sequences(connection)
    return rows


def _stock_lines(lots: list[trade.Lot], today: date) -> Iterable[str]:
    for lot in lots:
        yield f"{lot.store_id}\t{lot.id}\t{lot.received}\t{lot.quantity}\t{today}T00:00:00Z\n"


def _marker(sales: int, seed: int, today: date) -> str:
    details = f'{{"sales": {sales}, "seed": {seed}, "asOf": "{today}"}}'
    return catalogue.line(f"{today}T00:00:00Z", None, None, MARKER, "demo", None, None, details)


def _copy(connection: psycopg.Connection, table: str, lines: Iterable[str]) -> int:
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in _COLUMNS[table].split())
    statement = sql.SQL("copy {} ({}) from stdin").format(sql.Identifier("pharmacy", table), columns)
    count = 0
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        chunk: list[str] = []
        for line in lines:
            chunk.append(line)
            count += 1
            if len(chunk) == 1000:
                stream.write("".join(chunk))
                chunk.clear()
        stream.write("".join(chunk))
    return count


def _move_sequences(connection: psycopg.Connection) -> None:
    """Ids were given explicitly; the next ones come after them."""
    for table in _IDENTITIES:
        connection.execute(
            sql.SQL("select setval(pg_get_serial_sequence({}, 'id'), greatest(max(id), 1)) from {}").format(
                sql.Literal(f"pharmacy.{table}"), sql.Identifier("pharmacy", table)
            )
        )
