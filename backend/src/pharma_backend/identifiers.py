# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers that belong to a person or a card, told from others by their check digits, and masked."""

from __future__ import annotations

import re

from . import cpf

CPF_DIGITS = 11
CNPJ_CHARACTERS = 14
CARD_DIGITS = range(13, 20)

_CNPJ = re.compile(r"[0-9A-Z]{12}[0-9]{2}")
_SEPARATORS = str.maketrans("", "", " ./-_")
# Issuers' ranges and lengths (ISO/IEC 7812), Brazil's Elo, Hipercard and Aura among them. Without them one
# in ten of all long numbers, those of goods and of invoices too, would be taken for a card by its Luhn digit.
_CARD = re.compile(
    r"""
      4 (?: \d{12} | \d{15} | \d{18} )
    | (?: 5\d\d\d | 222[1-9] | 22[3-9]\d | 2[3-6]\d\d | 27[01]\d | 2720 ) \d{12}
    | 3[47] \d{13}
    | 3 (?: 0[0-5] | [689]\d ) \d{11,16}
    | 35 \d{14}
    | 6 (?: 011 | 062 | 2\d\d | 277 | 3\d\d | 4[4-9]\d | 5\d\d | 7\d\d ) \d{12,15}
    """,
    re.VERBOSE,
)


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit)
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether the digits are a payment card's: an issuer's range, its length, the Luhn digit."""
    if len(digits) not in CARD_DIGITS or not digits.isascii() or not _CARD.fullmatch(digits):
        return False
    # Thirteen digits are an EAN as a rule; the few cards that had them stopped being issued.
    return luhn(digits) and not (len(digits) == 13 and is_ean13(digits))


def is_ean13(digits: str) -> bool:
    """Whether thirteen digits are an article number (GS1 check digit)."""
    weighted = (int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return sum(weighted) % 10 == 0


def complete_cnpj(twelve: str) -> str:
    """The twelve characters of a CNPJ with their two check digits; letters count as ASCII less 48."""
    number = twelve
    for _ in range(2):
        weights = [(place % 8) + 2 for place in range(len(number))]
        values = [ord(character) - 48 for character in reversed(number)]
        rest = sum(value * weight for value, weight in zip(values, weights, strict=True)) % 11
        number += str(0 if rest < 2 else 11 - rest)
    return number


def is_cnpj(text: str) -> bool:
    """Whether the text is a CNPJ without separators, of digits or, as issued since 2026, with letters."""
    return bool(_CNPJ.fullmatch(text)) and len(set(text)) > 1 and complete_cnpj(text[:12]) == text


def is_personal(text: str) -> bool:
    """Whether the whole text is a CPF, a CNPJ or a card number, with or without separators."""
    plain = text.translate(_SEPARATORS)
    return cpf.is_valid(plain) or is_cnpj(plain) or (plain.isdecimal() and is_card(plain))


_DIGITS = re.compile(r"\d(?:[ \t./_-]{0,3}\d){10,}")
_GROUP = re.compile(r"\d+")
_HARMLESS = re.compile(
    r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{32,128}\b",
    re.IGNORECASE,
)
_CNPJ_IN_TEXT = re.compile(r"\b[0-9A-Z]{2}\.?[0-9A-Z]{3}\.?[0-9A-Z]{3}/?[0-9A-Z]{4}-?[0-9]{2}\b")
# The ways to write them; elsewhere groups of digits are just neighbours.
_SHAPES = frozenset(
    {
        *((11,), (9, 2), (3, 3, 3, 2), (3, 3, 5), (1,) * 11),
        *((14,), (12, 2), (2, 3, 3, 4, 2), (8, 4, 2), (8, 6), (1,) * 14),
    }
)


def may_hold(text: str, capitals: bool) -> bool:
    """Whether there are enough digits on end, or capitals among fewer."""
    return bool(_DIGITS.search(text)) or (capitals and bool(_CNPJ_IN_TEXT.search(text)))


def mask(text: str) -> str:
    """The text with the numbers of persons and cards masked; UUIDs and hashes are none."""
    kept = [found.span() for found in _HARMLESS.finditer(text)]

    def digits(found: re.Match[str]) -> str:
        if any(start < found.end() and found.start() < end for start, end in kept):
            return found[0]
        return _mask_groups(found[0])

    masked = _DIGITS.sub(digits, text)
    return _CNPJ_IN_TEXT.sub(lambda found: "[number]" if is_personal(found[0]) else found[0], masked)


def _mask_groups(run: str) -> str:
    """Mask the CPF, CNPJ and card numbers of a run of digit groups."""
    groups = list(_GROUP.finditer(run))
    parts: list[str] = []
    at = first = 0
    while first < len(groups):
        last = _longest(groups, first)
        if last is not None:
            parts += [run[at : groups[first].start()], "[number]"]
            at = groups[last].end()
            first = last
        first += 1
    return "".join(parts) + run[at:]


def _longest(groups: list[re.Match[str]], first: int) -> int | None:
    """The last group of the longest number of a person that begins with group ``first``."""
    digits = ""
    shape: list[int] = []
    best = None
    for place in range(first, min(first + CARD_DIGITS[-1], len(groups))):
        group = groups[place][0]
        digits += group
        shape.append(len(group))
        if len(digits) > CARD_DIGITS[-1]:
            break
        if len(digits) >= CPF_DIGITS and _is_number(digits, tuple(shape)):
            best = place
    return best


def _is_number(digits: str, shape: tuple[int, ...]) -> bool:
    if shape in _SHAPES:
        return is_personal(digits)
    in_groups = all(3 <= length <= 6 for length in shape) or len(shape) in (1, len(digits))
    return in_groups and is_card(digits)
