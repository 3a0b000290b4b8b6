# SPDX-License-Identifier: GPL-3.0-or-later
"""Money: BRL amounts as Decimal with two places, as decimal strings outside; never a float."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

MAX = Decimal("9999999999.99")
_TEXT = re.compile(r"[0-9]{1,10}(\.[0-9]{1,2})?")


def parse(value: Any) -> Decimal:
    """An amount from its decimal string.

    :raises ValueError: not a string of at most ten digits and two decimals, or negative.
    """
    if isinstance(value, Decimal):
        value = str(value)
    if not isinstance(value, str) or not _TEXT.fullmatch(value):
        raise ValueError("an amount is a decimal string such as 12.50")
    return Decimal(value).quantize(Decimal("0.01"))


def to_text(amount: Decimal) -> str:
    """``12.50``: always two decimals.

    :raises ValueError: the amount has more than two decimals, so it is no money.
    """
    rounded = amount.quantize(Decimal("0.01"))
    if rounded != amount:
        raise ValueError("an amount has two decimals")
    return str(rounded)


Amount = Annotated[
    Decimal,
    BeforeValidator(parse),
    PlainSerializer(to_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_TEXT.pattern}$", "examples": ["12.50"]}),
]
