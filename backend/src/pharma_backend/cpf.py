# SPDX-License-Identifier: GPL-3.0-or-later
"""CPF, the Brazilian taxpayer's number: eleven digits, the last two being check digits (modulo 11)."""

from __future__ import annotations

import re

_DIGITS = re.compile(r"[0-9]{11}")


def complete(nine: str) -> str:
    """The nine digits with their two check digits."""
    number = nine
    for _ in range(2):
        weights = range(len(number) + 1, 1, -1)
        rest = sum(int(digit) * weight for digit, weight in zip(number, weights, strict=True)) * 10 % 11
        number += str(rest % 10)
    return number


def is_valid(text: str) -> bool:
    """Whether the text is eleven ASCII digits, not all alike, with right check digits."""
    return bool(_DIGITS.fullmatch(text)) and len(set(text)) > 1 and complete(text[:9]) == text
