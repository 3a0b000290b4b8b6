# SPDX-License-Identifier: GPL-3.0-or-later
"""Sales: stock is taken when the sale is made, given back when it is cancelled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from . import audit, cash, fefo, log, money
from .database import Row, Transaction
from .errors import Problem
from .tokens import Principal


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment of a sale; ``tendered`` is what the customer gave, more than the amount only in cash."""

    method: str
    amount: Decimal
    tendered: Decimal


async def create(
    tx: Transaction, principal: Principal, wanted: Iterable[tuple[int, int]], customer_cpf: str | None
) -> dict[str, Any]:
    """Make a sale of (product id, quantity) pairs, taking from the lots that expire first; the sale.

    Rows of stock are locked in one order (product, expiry, lot) by every sale, so two sales wait for
    each other and never deadlock.

    :raises Problem: ``CASH_NOT_OPEN``, ``PRODUCT_UNKNOWN``, ``CUSTOMER_UNKNOWN``, ``STOCK_INSUFFICIENT``.
    """
    quantities: dict[int, int] = defaultdict(int)
    for product_id, quantity in wanted:
        quantities[product_id] += quantity
    session = await cash.require_open(tx, principal)
    prices = await _prices(tx, quantities)
    customer_id = await _customer(tx, customer_cpf) if customer_cpf else None
    lines = await _take(tx, principal.store_id, quantities, prices)
    total = sum((line["quantity"] * line["unit_price"] for line in lines), Decimal("0.00"))
    sale = await tx.one(
        """
        insert into pharmacy.sales (store_id, cash_session_id, user_id, customer_id, total)
        values (%(store)s, %(session)s, %(user)s, %(customer)s, %(total)s)
        returning id
        """,
        {
            "store": principal.store_id,
            "session": session["id"],
            "user": principal.user_id,
            "customer": customer_id,
            "total": total,
        },
    )
    await tx.many(
        """
        insert into pharmacy.sale_items (sale_id, line, product_id, lot_id, quantity, unit_price)
        values (%(sale)s, %(line)s, %(product_id)s, %(lot_id)s, %(quantity)s, %(unit_price)s)
        """,
        [{**line, "sale": sale["id"], "line": number} for number, line in enumerate(lines, start=1)],
    )
    await audit.record(tx, principal, "sale_created", "sale", sale["id"], total=money.to_text(total))
    return await _document(tx, sale["id"])


async def pay(tx: Transaction, principal: Principal, sale_id: int, payments: list[Payment]) -> dict[str, Any]:
    """Take the payments of a sale, which together are its total; the sale.

    :raises Problem: ``CASH_NOT_OPEN``, ``SALE_UNKNOWN``, ``SALE_ALREADY_PAID``, ``SALE_CANCELLED``,
        ``SALE_OF_OTHER_SESSION`` or ``PAYMENT_TOTAL_MISMATCH``.
    """
    session = await cash.require_open(tx, principal)
    sale = await _lock(tx, principal, sale_id)
    _require_status_open(sale)
    if sale["cash_session_id"] != session["id"]:
        raise Problem("SALE_OF_OTHER_SESSION", 409, "The sale belongs to another cash session")
    paid = sum((payment.amount for payment in payments), Decimal("0.00"))
    if paid != sale["total"]:
        raise Problem(
            "PAYMENT_TOTAL_MISMATCH",
            409,
            "The payments are not the total of the sale",
            expected=money.to_text(sale["total"]),
            observed=money.to_text(paid),
        )
    await tx.many(
        """
        insert into pharmacy.payments (sale_id, cash_session_id, method, amount, tendered)
        values (%(sale)s, %(session)s, %(method)s, %(amount)s, %(tendered)s)
        """,
        [
            {
                "sale": sale_id,
                "session": session["id"],
                "method": payment.method,
                "amount": payment.amount,
                "tendered": payment.tendered,
            }
            for payment in payments
        ],
    )
    await tx.execute(
        "update pharmacy.sales set status = 'paid', paid_at = now() where id = %(id)s", {"id": sale_id}
    )
    await audit.record(tx, principal, "payment_confirmed", "sale", sale_id, amount=money.to_text(paid))
    return await _document(tx, sale_id)


async def cancel(tx: Transaction, principal: Principal, sale_id: int) -> dict[str, Any]:
    """Cancel a sale that is not paid and put its units back; the sale.

    :raises Problem: ``SALE_UNKNOWN``, ``SALE_ALREADY_PAID`` or ``SALE_CANCELLED``.
    """
    sale = await _lock(tx, principal, sale_id)
    _require_status_open(sale)
    items = await tx.rows(
        """
        select i.lot_id, i.quantity from pharmacy.sale_items i join pharmacy.lots l on l.id = i.lot_id
         where i.sale_id = %(id)s order by i.product_id, l.expires_on, i.lot_id
        """,
        {"id": sale_id},
    )
    await tx.many(
        """
        update pharmacy.stock set quantity = quantity + %(quantity)s
         where store_id = %(store)s and lot_id = %(lot_id)s
        """,
        [{**item, "store": sale["store_id"]} for item in items],
    )
    await tx.execute(
        "update pharmacy.sales set status = 'cancelled', cancelled_at = now() where id = %(id)s",
        {"id": sale_id},
    )
    await audit.record(tx, principal, "sale_cancelled", "sale", sale_id)
    return await _document(tx, sale_id)


async def read(tx: Transaction, principal: Principal, sale_id: int) -> dict[str, Any]:
    """A sale with its items and payments.

    :raises Problem: ``SALE_UNKNOWN``, also for a sale that the user may not see.
    """
    sale = await tx.row("select store_id, user_id from pharmacy.sales where id = %(id)s", {"id": sale_id})
    _require_visible(sale, principal)
    return await _document(tx, sale_id)


async def _prices(tx: Transaction, quantities: Mapping[int, int]) -> dict[int, Decimal]:
    rows = await tx.rows(
        "select id, price from pharmacy.products where id = any(%(ids)s) and active",
        {"ids": list(quantities)},
    )
    prices = {row["id"]: row["price"] for row in rows}
    if missing := sorted(quantities.keys() - prices.keys()):
        raise Problem("PRODUCT_UNKNOWN", 404, "There is no such product", productIds=missing)
    return prices


async def _customer(tx: Transaction, cpf: str) -> int:
    row = await tx.row("select id from pharmacy.customers where cpf = %(cpf)s", {"cpf": cpf})
    if row is None:
        raise Problem("CUSTOMER_UNKNOWN", 404, "There is no such customer")
    customer_id: int = row["id"]
    return customer_id


async def _take(
    tx: Transaction, store_id: int, quantities: Mapping[int, int], prices: Mapping[int, Decimal]
) -> list[dict[str, Any]]:
    """Lock the stock of the products, choose lots, take from them; the lines of the sale."""
    today = (
        await tx.one(
            "select (now() at time zone time_zone)::date as today from pharmacy.stores where id = %(id)s",
            {"id": store_id},
        )
    )["today"]
    rows = await tx.rows(
        """
        select l.product_id, l.id as lot_id, l.expires_on, s.quantity
          from pharmacy.stock s join pharmacy.lots l on l.id = s.lot_id
         where s.store_id = %(store)s and l.product_id = any(%(ids)s)
           and l.expires_on >= %(today)s and s.quantity > 0
         order by l.product_id, l.expires_on, l.id
           for update of s
        """,
        {"store": store_id, "ids": list(quantities), "today": today},
    )
    stock: dict[int, list[fefo.LotStock]] = defaultdict(list)
    for row in rows:
        stock[row["product_id"]].append(fefo.LotStock(row["lot_id"], row["expires_on"], row["quantity"]))
    lines: list[dict[str, Any]] = []
    for product_id in sorted(quantities):
        try:
            takes = fefo.allocate(stock[product_id], quantities[product_id], today)
        except fefo.InsufficientStockError as error:
            raise _insufficient(product_id, error) from None
        lines += [
            {
                "product_id": product_id,
                "lot_id": take.lot_id,
                "quantity": take.quantity,
                "unit_price": prices[product_id],
            }
            for take in takes
        ]
    await tx.many(
        """
        update pharmacy.stock set quantity = quantity - %(quantity)s
         where store_id = %(store)s and lot_id = %(lot_id)s
        """,
        [{**line, "store": store_id} for line in lines],
    )
    return lines


def _insufficient(product_id: int, error: fefo.InsufficientStockError) -> Problem:
    log.warn(
        "stock_insufficient", productId=str(product_id), requested=error.requested, available=error.available
    )
    return Problem(
        "STOCK_INSUFFICIENT",
        409,
        "There is not enough in stock",
        productId=product_id,
        requested=error.requested,
        available=error.available,
    )


async def _lock(tx: Transaction, principal: Principal, sale_id: int) -> Row:
    sale = await tx.row(
        """
        select id, store_id, user_id, cash_session_id, status, total from pharmacy.sales
         where id = %(id)s for update
        """,
        {"id": sale_id},
    )
    return _require_visible(sale, principal)


def _require_visible(sale: Row | None, principal: Principal) -> Row:
    """An admin sees every sale, a manager those of the store, a cashier the own ones."""
    if sale is not None:
        own = principal.role != "cashier" or sale["user_id"] == principal.user_id
        if principal.role == "admin" or (sale["store_id"] == principal.store_id and own):
            return sale
    raise Problem("SALE_UNKNOWN", 404, "There is no such sale")


def _require_status_open(sale: Row) -> None:
    if sale["status"] == "paid":
        raise Problem("SALE_ALREADY_PAID", 409, "The sale is paid")
    if sale["status"] == "cancelled":
        raise Problem("SALE_CANCELLED", 409, "The sale was cancelled")


async def _document(tx: Transaction, sale_id: int) -> dict[str, Any]:
    facts = {"id": sale_id}
    sale = await tx.one(
        """
        select id, store_id, cash_session_id, user_id, customer_id, status, total,
               created_at, paid_at, cancelled_at
          from pharmacy.sales where id = %(id)s
        """,
        facts,
    )
    items = await tx.rows(
        """
        select i.line, i.product_id, p.name as product_name, i.lot_id, l.code as lot_code, l.expires_on,
               i.quantity, i.unit_price, i.line_total
          from pharmacy.sale_items i
          join pharmacy.products p on p.id = i.product_id join pharmacy.lots l on l.id = i.lot_id
         where i.sale_id = %(id)s order by i.line
        """,
        facts,
    )
    payments = await tx.rows(
        """
        select id, method, amount, tendered, change_due, created_at
          from pharmacy.payments where sale_id = %(id)s order by id
        """,
        facts,
    )
    return {**sale, "items": items, "payments": payments}
