# SPDX-License-Identifier: GPL-3.0-or-later
"""Months of trade, session by session: sales that take from lots, payments, sessions that balance.

Amounts are integers in cents and rows are lines of COPY's text format: at a million sales this is
what keeps the generator ahead of the server. Memory is bounded by the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random

from .catalogue import Product, Store, cents_text

SALES_PER_SESSION = 80
LOT_UNITS = 240
_SHIFTS = (11, 17)  # opening hours in UTC, six hours each
_SHIFT_SECONDS = 6 * 3600


@dataclass
class Batch:
    """Lines by table, in the order in which they must be copied."""

    lots: list[str] = field(default_factory=list)
    cash_sessions: list[str] = field(default_factory=list)
    sales: list[str] = field(default_factory=list)
    sale_items: list[str] = field(default_factory=list)
    payments: list[str] = field(default_factory=list)
    audit_log: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Lot:
    """A lot that lies in one store."""

    id: int
    store_id: int
    product_id: int
    expires_on: date
    received: int
    quantity: int


class Trade:
    """Generates ``count`` sales that end the day before ``today``.

    After :meth:`batches` is exhausted, :attr:`lots` says what is left of each lot.
    """

    def __init__(
        self,
        random: Random,
        shops: list[Store],
        catalogue: list[Product],
        customers: int,
        count: int,
        today: date,
    ) -> None:
        self._random = random
        self._shops = shops
        self._catalogue = catalogue
        self._customers = customers
        self._count = count
        self._today = today
        self._sessions = -(-count // SALES_PER_SESSION)
        per_day = sum(len(shop.cashiers) for shop in shops)
        self._days = -(-self._sessions // per_day)
        self.lots: list[Lot] = []
        self._shelf: dict[tuple[int, int], Lot] = {}
        self.sale_id = 0
        self.payment_id = 0
        self.session_id = 0
        self._batch = Batch()

    @property
    def first_day(self) -> date:
        """The day of the first session."""
        return self._today - timedelta(days=self._days)

    def batches(self, sales_per_batch: int = 20_000) -> Iterator[Batch]:
        """Batches of whole sessions."""
        self._opening_stock()
        for shop, cashier, day, shift, last in self._schedule():
            self._session(shop, cashier, day, shift, still_open=last)
            if len(self._batch.sales) >= sales_per_batch:
                yield self._flush()
        yield self._flush()

    def _flush(self) -> Batch:
        batch, self._batch = self._batch, Batch()
        return batch

    def _schedule(self) -> Iterator[tuple[Store, int, date, int, bool]]:
        """Who works when; the newest session of each store was not closed."""
        planned = 0
        for day_number in range(self._days):
            day = self.first_day + timedelta(days=day_number)
            for place in range(len(self._shops[0].cashiers)):
                for shop in self._shops:
                    if planned == self._sessions:
                        return
                    planned += 1
                    last = planned > self._sessions - len(self._shops)
                    yield shop, shop.cashiers[place], day, place % 2, last

    def _opening_stock(self) -> None:
        """A lot in use and one that was never opened for each product and store; some expired ones."""
        random = self._random
        for shop in self._shops:
            for product in self._catalogue:
                self._restock(shop.id, product.id, self.first_day)
                later = self._today + timedelta(days=random.randrange(400, 1000))
                self._new_lot(shop.id, product.id, later, self.first_day, LOT_UNITS)
                if random.random() < 0.1:
                    gone = self._today - timedelta(days=random.randrange(1, 60))
                    self._new_lot(shop.id, product.id, gone, gone - timedelta(days=700), 12)

    def _restock(self, store_id: int, product_id: int, day: date) -> Lot:
        expires = max(day, self._today) + timedelta(days=self._random.randrange(30, 360))
        lot = self._new_lot(store_id, product_id, expires, day, LOT_UNITS)
        self._shelf[store_id, product_id] = lot
        return lot

    def _new_lot(self, store_id: int, product_id: int, expires: date, day: date, units: int) -> Lot:
        lot = Lot(len(self.lots) + 1, store_id, product_id, expires, units, units)
        self.lots.append(lot)
        made = min(day, expires - timedelta(days=30)) - timedelta(days=self._random.randrange(20, 200))
        cost = cents_text(self._catalogue[product_id - 1].price_cents * 6 // 10)
        self._batch.lots.append(
            f"{lot.id}\t{product_id}\tL{lot.id:07d}\t{made}\t{expires}\t{cost}\t{day}T06:00:00Z\n"
        )
        return lot

    def _session(self, shop: Store, cashier: int, day: date, shift: int, *, still_open: bool) -> None:
        self.session_id += 1
        session = self.session_id
        draw = self._random.random
        count = min(SALES_PER_SESSION, self._count - self.sale_id)
        opening = 10_000 + int(draw() * 10) * 1_000
        cash = opening
        step = (_SHIFT_SECONDS - 600) // max(count, 1)
        for number in range(count):
            second = 300 + number * step + int(draw() * step)
            moment = f"{day}T{_clock(_SHIFTS[shift], second)}Z"
            # Only a session that was not closed may hold sales that nobody paid.
            state = "paid" if (chance := draw()) < 0.975 else "cancelled"
            if still_open and chance > 0.99:
                state = "open"
            cash += self._sale(shop.id, session, cashier, day, moment, state)
        opened = f"{day}T{_clock(_SHIFTS[shift], 0)}Z"
        ended = (
            "\\N\t\\N"
            if still_open
            else f"{day}T{_clock(_SHIFTS[shift], _SHIFT_SECONDS)}Z\t{cents_text(cash)}"
        )
        self._batch.cash_sessions.append(
            f"{session}\t{shop.id}\t{cashier}\tcaixa-{cashier}\t{opened}\t{cents_text(opening)}\t{ended}\n"
        )

    def _sale(self, store_id: int, session: int, cashier: int, day: date, moment: str, state: str) -> int:
        """Add a sale; the cents of it that went into the drawer."""
        draw = self._random.random
        self.sale_id += 1
        sale = self.sale_id
        total = 0
        for number in range(1, 2 + int(draw() * draw() * 5)):
            # Squared: a few products sell most.
            product = self._catalogue[int(draw() * draw() * len(self._catalogue))]
            units = 1 + int(draw() * draw() * 3)
            lot = self._shelf[store_id, product.id]
            if lot.quantity < units or lot.expires_on < day:
                lot = self._restock(store_id, product.id, day)
            if state != "cancelled":
                lot.quantity -= units
            total += units * product.price_cents
            price = cents_text(product.price_cents)
            self._batch.sale_items.append(f"{sale}\t{number}\t{product.id}\t{lot.id}\t{units}\t{price}\n")
        customer = str(1 + int(draw() * self._customers)) if draw() < 0.4 else "\\N"
        paid = moment if state == "paid" else "\\N"
        cancelled = moment if state == "cancelled" else "\\N"
        self._batch.sales.append(
            f"{sale}\t{store_id}\t{session}\t{cashier}\t{customer}\t{state}\t{cents_text(total)}"
            f"\t{moment}\t{paid}\t{cancelled}\n"
        )
        action = {"paid": "payment_confirmed", "cancelled": "sale_cancelled"}.get(state, "sale_created")
        self._batch.audit_log.append(
            f"{moment}\t{cashier}\t{store_id}\t{action}\tsale\t{sale}\t{self._random.getrandbits(128):032x}"
            f'\t{{"amount": "{cents_text(total)}"}}\n'
        )
        return self._pay(sale, session, moment, total) if state == "paid" else 0

    def _pay(self, sale: int, session: int, moment: str, total: int) -> int:
        draw = self._random.random
        chance = draw()
        if chance > 0.95 and total > 2_000:
            first = total // 2
            self._payment(sale, session, "pix", first, first, moment)
            self._payment(sale, session, "debit_card", total - first, total - first, moment)
            return 0
        if chance < 0.25:
            note = 5_000 if draw() < 0.3 else 1_000
            self._payment(sale, session, "cash", total, -(-total // note) * note, moment)
            return total
        method = "pix" if chance < 0.6 else "credit_card" if chance < 0.8 else "debit_card"
        self._payment(sale, session, method, total, total, moment)
        return 0

    def _payment(self, sale: int, session: int, method: str, amount: int, tendered: int, moment: str) -> None:
        self.payment_id += 1
        self._batch.payments.append(
            f"{self.payment_id}\t{sale}\t{session}\t{method}\t{cents_text(amount)}\t{cents_text(tendered)}\t{moment}\n"
        )


def _clock(hour: int, second: int) -> str:
    minutes, seconds = divmod(second, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hour + hours:02d}:{minutes:02d}:{seconds:02d}"
