# SPDX-License-Identifier: GPL-3.0-or-later
"""The scan of free text: numbers by their check digits, bounded time, no failure on any text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_backend import identifiers, names, scan


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111",
        "4222222222222",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "30569309025904",
        "3530111333300000",
        "6011111111111117",
        "6062826786276634",
        "6362970000457013",
    ],
)
def test_cards_of_every_issuer(number: str) -> None:
    assert identifiers.is_card(number)
    wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
    assert not identifiers.is_card(wrong)


@pytest.mark.parametrize("number", ["4006381333931", "1234567890123452", "9999999999999995", "411111111111"])
def test_what_is_no_card(number: str) -> None:
    assert not identifiers.is_card(number)


# The second is the example of the tax authority's own description of the number with letters.
@pytest.mark.parametrize("number", ["11222333000181", "12ABC34501DE35"])
def test_cnpj(number: str) -> None:
    assert identifiers.is_cnpj(number)
    assert not identifiers.is_cnpj(number[:-1] + str((int(number[-1]) + 1) % 10))
    assert not identifiers.is_cnpj("0" * 14)


def test_numbers_are_found_among_their_neighbours() -> None:
    assert identifiers.mask("1 529.982.247-25 2") == "1 [number] 2"
    assert identifiers.mask("52998224725 11144477735") == "[number] [number]"
    assert identifiers.mask("2026-11-23 4111 1111 1111 1111") == "2026-11-23 [number]"
    assert identifiers.mask("12345678901 98765432100000") == "12345678901 98765432100000"


def test_names() -> None:
    assert names.mask("for Maria da Silva, again") == "for [name], again"
    assert names.mask("for maria da silva, again") == "for [name], again"
    assert names.mask("for Zbigniew Kowalczyk, again") == "for [name], again"
    assert (
        names.mask("Internal Server Error in Connection Pool") == "Internal Server Error in Connection Pool"
    )


@given(st.text(max_size=300))
def test_any_text_can_be_scanned(text: str) -> None:
    found = scan.text(text)
    assert len(found) <= scan.MAX_TEXT + 1
    found.encode()


@given(st.text(alphabet="abc 012.-:='\"\\%&@/{}()<>[],\n", max_size=300))
def test_any_text_of_signs_can_be_scanned(text: str) -> None:
    assert "hunter2-hunter2" not in scan.text(f"{text} password=hunter2-hunter2")


@pytest.mark.parametrize(
    "part",
    [
        *(
            "a",
            "1 ",
            "1.",
            "password",
            '"',
            "x'",
            "://",
            "eyJ",
            "A b",
            "Ab ",
            "a@",
            "%25",
            "-",
            "name=",
            "DETAIL:",
        ),
        *(
            "Key ((",
            "\\",
            "[masked]",
            "authorization ",
            "<a",
            "a.",
            '\\"',
            "input=",
            "x:y",
            "&a",
            "\u00e9 ",
            "is ",
        ),
        *(
            "-----BEGIN A PRIVATE KEY",
            "Maria ",
            "maria silva ",
            "token is ",
            "\\u0041",
            "%41",
            "a=",
            "{'a':",
            "_",
        ),
    ],
)
def test_no_text_takes_long(part: str) -> None:
    """Patterns that try every way through a text would take minutes for these."""
    text = part * (2 * scan.MAX_SCANNED // len(part))
    began = time.thread_time()
    scan.text(text)
    assert time.thread_time() - began < 1.0
