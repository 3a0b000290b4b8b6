# SPDX-License-Identifier: GPL-3.0-or-later
"""``/cash``: opening and closing a cash session."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from .. import cash, log
from ..money import Amount, to_text
from .answers import CHANGE, problems
from .change import ChangeDep
from .services import Operator

router = APIRouter()


class Open(BaseModel):
    """The register and what lies in its drawer."""

    model_config = ConfigDict(extra="forbid")
    register_name: Annotated[str, Field(alias="register", pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    opening_amount: Amount


class Counted(BaseModel):
    """What was counted for each method; cash includes the opening amount."""

    model_config = ConfigDict(extra="forbid")
    cash: Amount = Decimal("0.00")
    debit_card: Amount = Decimal("0.00")
    credit_card: Amount = Decimal("0.00")
    pix: Amount = Decimal("0.00")


class Close(BaseModel):
    """The count; the session defaults to the one that is open."""

    model_config = ConfigDict(extra="forbid")
    counted: Counted
    session_id: Annotated[int, Field(ge=1, lt=1 << 63)] | None = None


class CashSession(BaseModel):
    """A cash session."""

    id: int
    store_id: int
    register_name: Annotated[str, Field(alias="register")]
    opened_at: datetime
    opening_amount: Amount


class ClosedCashSession(CashSession):
    """A closed cash session with the totals of the ledger."""

    closed_at: datetime
    closing_amount: Amount
    totals: dict[str, Amount]
    sales: int


@router.post(
    "/cash/open",
    status_code=201,
    response_model=CashSession,
    responses=problems(*CHANGE, "CASH_ALREADY_OPEN"),
)
async def open_cash(body: Open, user: Operator, change: ChangeDep) -> Response:
    """Open a cash session."""
    return await change.make(
        user,
        body,
        lambda tx: cash.open_session(tx, user, body.register_name, body.opening_amount),
        lambda session: log.info(
            "cash_opened",
            cashSessionId=str(session["id"]),
            openingAmount=to_text(session["opening_amount"]),
        ),
        model=CashSession,
        status=201,
    )


@router.post(
    "/cash/close",
    response_model=ClosedCashSession,
    responses=problems(
        *CHANGE,
        "CASH_NOT_OPEN",
        "CASH_ALREADY_CLOSED",
        "CASH_HAS_OPEN_SALES",
        "CASH_TOTALS_MISMATCH",
        "AMOUNT_OUT_OF_RANGE",
    ),
)
async def close_cash(body: Close, user: Operator, change: ChangeDep) -> Response:
    """Close the cash session, when the count agrees with the ledger."""
    counted = dict(body.counted)
    return await change.make(
        user,
        body,
        lambda tx: cash.close_session(tx, user, counted, body.session_id),
        lambda session: log.info(
            "cash_closed",
            cashSessionId=str(session["id"]),
            closingAmount=to_text(session["closing_amount"]),
            sales=session["sales"],
        ),
        model=ClosedCashSession,
    )
