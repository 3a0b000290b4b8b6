# SPDX-License-Identifier: GPL-3.0-or-later
"""``/sales`` and ``/products``."""

from datetime import date, datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Path, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .. import cpf, log, products, sales
from ..money import Amount, to_text
from .answers import BODY, CHANGE, DATABASE, USER, problems
from .change import ChangeDep
from .services import AnyUser, Operator, ServicesDep

router = APIRouter()

Id = Annotated[int, Field(ge=1, lt=1 << 63)]
SaleId = Annotated[int, Path(alias="id", ge=1, lt=1 << 63)]


def _valid_cpf(text: str) -> str:
    if not cpf.is_valid(text):
        raise ValueError("a CPF has eleven digits, the last two being check digits")
    return text


class Line(BaseModel):
    """So many units of a product."""

    model_config = ConfigDict(extra="forbid")
    product_id: Id
    quantity: Annotated[int, Field(ge=1, le=10_000)]


class NewSale(BaseModel):
    """What is sold, and to whom when the customer says so."""

    model_config = ConfigDict(extra="forbid")
    items: Annotated[list[Line], Field(min_length=1, max_length=100)]
    customer_cpf: Annotated[str, AfterValidator(_valid_cpf)] | None = None


class NewPayment(BaseModel):
    """One payment; ``tendered`` defaults to the amount."""

    model_config = ConfigDict(extra="forbid")
    method: Literal["cash", "debit_card", "credit_card", "pix"]
    amount: Amount
    tendered: Amount | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.amount <= 0:
            raise ValueError("an amount is positive")
        if self.tendered is not None and self.tendered < self.amount:
            raise ValueError("tendered is at least the amount")
        if self.tendered is not None and self.method != "cash" and self.tendered != self.amount:
            raise ValueError("change is given in cash only")
        return self


class Pay(BaseModel):
    """The payments of a sale."""

    model_config = ConfigDict(extra="forbid")
    payments: Annotated[list[NewPayment], Field(min_length=1, max_length=10)]


class SaleItem(BaseModel):
    """What a sale took from one lot."""

    line: int
    product_id: int
    product_name: str
    lot_id: int
    lot_code: str
    expires_on: date
    quantity: int
    unit_price: Amount
    line_total: Amount


class PaymentOut(BaseModel):
    """A payment."""

    id: int
    method: str
    amount: Amount
    tendered: Amount
    change_due: Amount
    created_at: datetime


class Sale(BaseModel):
    """A sale."""

    id: int
    store_id: int
    cash_session_id: int
    user_id: int
    customer_id: int | None
    status: Literal["open", "paid", "cancelled"]
    total: Amount
    created_at: datetime
    paid_at: datetime | None
    cancelled_at: datetime | None
    items: list[SaleItem]
    payments: list[PaymentOut]


class Product(BaseModel):
    """A product and how many units of it can be sold here."""

    id: int
    ean: str
    name: str
    active_ingredient: str
    controlled: bool
    price: Amount
    available: int


class ProductList(BaseModel):
    """Products."""

    items: list[Product]


@router.post(
    "/sales",
    status_code=201,
    response_model=Sale,
    responses=problems(
        *CHANGE,
        "CASH_NOT_OPEN",
        "PRODUCT_UNKNOWN",
        "CUSTOMER_UNKNOWN",
        "STOCK_INSUFFICIENT",
        "AMOUNT_OUT_OF_RANGE",
    ),
)
async def create_sale(body: NewSale, user: Operator, change: ChangeDep) -> Response:
    """Make a sale; stock is taken from the lots that expire first."""
    wanted = [(line.product_id, line.quantity) for line in body.items]
    return await change.make(
        user,
        body,
        lambda tx: sales.create(tx, user, wanted, body.customer_cpf),
        lambda sale: log.info(
            "sale_created", saleId=str(sale["id"]), total=to_text(sale["total"]), lines=len(sale["items"])
        ),
        model=Sale,
        status=201,
    )


@router.post(
    "/sales/{id}/pay",
    response_model=Sale,
    responses=problems(
        *CHANGE,
        "CASH_NOT_OPEN",
        "SALE_UNKNOWN",
        "SALE_ALREADY_PAID",
        "SALE_CANCELLED",
        "SALE_OF_OTHER_SESSION",
        "PAYMENT_TOTAL_MISMATCH",
    ),
)
async def pay_sale(sale_id: SaleId, body: Pay, user: Operator, change: ChangeDep) -> Response:
    """Pay a sale in full, by one method or several."""
    payments = [
        sales.Payment(payment.method, payment.amount, payment.tendered or payment.amount)
        for payment in body.payments
    ]
    return await change.make(
        user,
        body,
        lambda tx: sales.pay(tx, user, sale_id, payments),
        lambda sale: log.info(
            "payment_confirmed",
            saleId=str(sale["id"]),
            amount=to_text(sale["total"]),
            methods=sorted({payment["method"] for payment in sale["payments"]}),
        ),
        model=Sale,
    )


@router.post(
    "/sales/{id}/cancel",
    response_model=Sale,
    responses=problems(*CHANGE, "SALE_UNKNOWN", "SALE_ALREADY_PAID", "SALE_CANCELLED"),
)
async def cancel_sale(sale_id: SaleId, user: Operator, change: ChangeDep) -> Response:
    """Cancel a sale that is not paid."""
    return await change.make(
        user,
        None,
        lambda tx: sales.cancel(tx, user, sale_id),
        lambda sale: log.info("sale_cancelled", saleId=str(sale["id"]), total=to_text(sale["total"])),
        model=Sale,
    )


@router.get("/sales/{id}", responses=problems(*USER, *BODY, *DATABASE, "SALE_UNKNOWN"))
async def read_sale(sale_id: SaleId, user: AnyUser, shared: ServicesDep) -> Sale:
    """A sale with its items and payments."""
    async with shared.database.transaction() as tx:
        return Sale.model_validate(await sales.read(tx, user, sale_id))


@router.get("/products", responses=problems(*USER, *BODY, *DATABASE))
async def list_products(
    user: AnyUser,
    shared: ServicesDep,
    in_stock: bool = False,
    minimum: Annotated[int, Query(ge=1, le=10_000)] = 1,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ProductList:
    """Products; with ``in_stock`` those of which ``minimum`` units can be sold in the user's store."""
    rows = await products.listing(shared.database, user, in_stock=in_stock, minimum=minimum, limit=limit)
    return ProductList(items=[Product.model_validate(row) for row in rows])
