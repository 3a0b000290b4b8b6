# SPDX-License-Identifier: GPL-3.0-or-later
"""``/cash``: opening and closing a cash session."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from .. import cash
from ..money import Amount
from .services import Operator, ServicesDep

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


@router.post("/cash/open", status_code=201)
async def open_cash(body: Open, user: Operator, shared: ServicesDep) -> CashSession:
    """Open a cash session."""
    row = await cash.open_session(shared.database, user, body.register_name, body.opening_amount)
    return CashSession.model_validate(row)


@router.post("/cash/close")
async def close_cash(body: Close, user: Operator, shared: ServicesDep) -> ClosedCashSession:
    """Close the cash session, when the count agrees with the ledger."""
    counted = dict(body.counted)
    row = await cash.close_session(shared.database, user, counted, body.session_id)
    return ClosedCashSession.model_validate(row)
