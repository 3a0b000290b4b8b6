# SPDX-License-Identifier: GPL-3.0-or-later
"""First expired, first out: from which lots a quantity is taken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class LotStock:
    """What lies in one store of one lot; ``expires_on`` is its last good day."""

    lot_id: int
    expires_on: date
    quantity: int


@dataclass(frozen=True, slots=True)
class Take:
    """So many units of a lot."""

    lot_id: int
    quantity: int


class InsufficientStockError(Exception):
    """Fewer units are good to sell than were asked for."""

    def __init__(self, requested: int, available: int) -> None:
        super().__init__(f"{requested} requested, {available} available")
        self.requested = requested
        self.available = available


def allocate(stock: Iterable[LotStock], quantity: int, today: date) -> list[Take]:
    """Take ``quantity`` units from the lots that expire first, never from an expired one.

    :raises InsufficientStockError: the lots that are good today hold fewer.
    :raises ValueError: the quantity is not positive.
    """
    if quantity <= 0:
        raise ValueError("a quantity is positive")
    good = sorted(
        (lot for lot in stock if lot.expires_on >= today and lot.quantity > 0),
        key=lambda lot: (lot.expires_on, lot.lot_id),
    )
    available = sum(lot.quantity for lot in good)
    if available < quantity:
        raise InsufficientStockError(quantity, available)
    takes: list[Take] = []
    for lot in good:
        if quantity == 0:
            break
        taken = min(lot.quantity, quantity)
        takes.append(Take(lot.lot_id, taken))
        quantity -= taken
    return takes
