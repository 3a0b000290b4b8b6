# SPDX-License-Identifier: GPL-3.0-or-later
"""Cash sessions: one open session for each user and for each register of a store."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from psycopg import errors as pg

from . import audit, log, money
from .database import Row, Transaction
from .errors import Problem
from .tokens import Principal

METHODS = ("cash", "debit_card", "credit_card", "pix")


def differences(expected: Mapping[str, Decimal], observed: Mapping[str, Decimal]) -> list[dict[str, str]]:
    """The methods whose counted total is not the ledger's; a method that was not counted counts as zero."""
    zero = Decimal("0.00")
    return [
        {
            "method": method,
            "expected": money.to_text(expected.get(method, zero)),
            "observed": money.to_text(observed.get(method, zero)),
        }
        for method in METHODS
        if expected.get(method, zero) != observed.get(method, zero)
    ]


async def require_open(tx: Transaction, principal: Principal) -> Row:
    """The open session of the user, locked against being closed meanwhile.

    :raises Problem: ``CASH_NOT_OPEN``.
    """
    row = await tx.row(
        """
        select id, store_id, register, opened_at, opening_amount from pharmacy.cash_sessions
         where user_id = %(user)s and closed_at is null for share
        """,
        {"user": principal.user_id},
    )
    if row is None:
        raise Problem("CASH_NOT_OPEN", 409, "No cash session is open", "Open one with POST /cash/open.")
    return row


async def open_session(
    tx: Transaction, principal: Principal, register: str, opening_amount: Decimal
) -> dict[str, Any]:
    """Open a session with the amount that lies in the drawer; the session.

    :raises Problem: ``CASH_ALREADY_OPEN``.
    """
    try:
        row = await tx.one(
            """
            insert into pharmacy.cash_sessions (store_id, user_id, register, opening_amount)
            values (%(store)s, %(user)s, %(register)s, %(amount)s)
            returning id, store_id, register, opened_at, opening_amount
            """,
            {
                "store": principal.store_id,
                "user": principal.user_id,
                "register": register,
                "amount": opening_amount,
            },
        )
    except pg.UniqueViolation as error:
        raise Problem(
            "CASH_ALREADY_OPEN", 409, "A cash session is already open", "By this user or at this register."
        ) from error
    amount = money.to_text(opening_amount)
    await audit.record(tx, principal, "cash_opened", "cash_session", row["id"], openingAmount=amount)
    return dict(row)


async def close_session(
    tx: Transaction, principal: Principal, counted: Mapping[str, Decimal], session_id: int | None
) -> dict[str, Any]:
    """Close the user's session when what was counted is what the ledger says; the session with its totals.

    :raises Problem: ``CASH_NOT_OPEN``, ``CASH_ALREADY_CLOSED``, ``CASH_HAS_OPEN_SALES`` or
        ``CASH_TOTALS_MISMATCH`` with ``differences``.
    """
    session = await _lock_for_close(tx, principal, session_id)
    facts = {"id": session["id"]}
    sales = await tx.one(
        """
        select count(*) filter (where status = 'open') as open,
               count(*) filter (where status = 'paid') as paid
          from pharmacy.sales where cash_session_id = %(id)s
        """,
        facts,
    )
    if sales["open"]:
        raise Problem(
            "CASH_HAS_OPEN_SALES",
            409,
            "Sales of this session are not paid",
            "Pay or cancel them first.",
            openSales=sales["open"],
        )
    totals = await tx.rows(
        "select method, expected from pharmacy.cash_session_totals where cash_session_id = %(id)s", facts
    )
    expected = {row["method"]: row["expected"] for row in totals}
    if wrong := differences(expected, counted):
        log.warn("cash_totals_mismatch", cashSessionId=str(session["id"]), differences=wrong)
        raise Problem(
            "CASH_TOTALS_MISMATCH",
            409,
            "The counted totals are not those of the ledger",
            "Count again; expected and observed are given for each method that differs.",
            differences=wrong,
        )
    closed = await tx.one(
        """
        update pharmacy.cash_sessions set closed_at = now(), closing_amount = %(amount)s where id = %(id)s
        returning id, store_id, register, opened_at, opening_amount, closed_at, closing_amount
        """,
        facts | {"amount": expected["cash"]},
    )
    amount = money.to_text(expected["cash"])
    await audit.record(tx, principal, "cash_closed", "cash_session", session["id"], closingAmount=amount)
    return {**closed, "totals": expected, "sales": sales["paid"]}


async def _lock_for_close(tx: Transaction, principal: Principal, session_id: int | None) -> Row:
    session = await tx.row(
        """
        select id, closed_at from pharmacy.cash_sessions
         where user_id = %(user)s and (%(id)s::bigint is null or id = %(id)s)
         order by closed_at desc nulls first, id desc limit 1 for update
        """,
        {"user": principal.user_id, "id": session_id},
    )
    if session is None:
        raise Problem("CASH_NOT_OPEN", 409, "No cash session is open", "Open one with POST /cash/open.")
    if session["closed_at"] is not None:
        raise Problem("CASH_ALREADY_CLOSED", 409, "The cash session is closed")
    return session
