# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backend decides without a database: lots, money, CPF, request ids, verdicts."""

from __future__ import annotations

import re
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_backend import cash, cpf, fefo, migrate, money, requestid
from pharma_backend.demo import names
from pharma_backend.errors import CommandError
from pharma_backend.readiness import Verdict

TODAY = date(2026, 2, 15)

lots = st.lists(
    st.builds(
        fefo.LotStock,
        lot_id=st.integers(1, 10_000),
        expires_on=st.integers(-30, 400).map(lambda days: TODAY + timedelta(days=days)),
        quantity=st.integers(0, 50),
    ),
    max_size=12,
    unique_by=lambda lot: lot.lot_id,
)


@given(lots, st.integers(1, 200))
def test_allocation_takes_what_expires_first_and_nothing_expired(
    stock: list[fefo.LotStock], wanted: int
) -> None:
    by_id = {lot.lot_id: lot for lot in stock}
    available = sum(lot.quantity for lot in stock if lot.expires_on >= TODAY)
    try:
        takes = fefo.allocate(stock, wanted, TODAY)
    except fefo.InsufficientStockError as error:
        assert (error.requested, error.available) == (wanted, available)
        assert available < wanted
        return
    assert sum(take.quantity for take in takes) == wanted
    taken = {take.lot_id: take.quantity for take in takes}
    assert len(taken) == len(takes)
    assert all(0 < quantity <= by_id[lot_id].quantity for lot_id, quantity in taken.items())
    assert all(by_id[lot_id].expires_on >= TODAY for lot_id in taken)
    latest = max(by_id[lot_id].expires_on for lot_id in taken)
    for lot in stock:
        if TODAY <= lot.expires_on < latest:
            assert taken.get(lot.lot_id, 0) == lot.quantity, "an earlier lot was left with units"


def test_the_last_good_day_is_good_and_the_day_after_is_not() -> None:
    lot = [fefo.LotStock(1, TODAY, 1)]
    assert fefo.allocate(lot, 1, TODAY) == [fefo.Take(1, 1)]
    with pytest.raises(fefo.InsufficientStockError):
        fefo.allocate(lot, 1, TODAY + timedelta(days=1))


@pytest.mark.parametrize("quantity", [0, -1])
def test_allocation_of_nothing_is_refused(quantity: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        fefo.allocate([], quantity, TODAY)


@given(st.integers(0, 10**12 - 1))
def test_money_survives_its_text(cents: int) -> None:
    amount = Decimal(cents).scaleb(-2)
    assert money.parse(money.to_text(amount)) == amount
    assert re.fullmatch(r"\d+\.\d\d", money.to_text(amount))


@pytest.mark.parametrize(
    "wrong",
    [1.5, 12, True, None, "-1", "1,50", "1.234", "1e3", "NaN", "", " 1", "1\n", "١.٥٠", "12345678901"],
)
def test_what_is_no_money_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="decimal string"):
        money.parse(wrong)


def test_a_third_decimal_is_never_rounded_away() -> None:
    with pytest.raises(ValueError, match="two decimals"):
        money.to_text(Decimal("1.005"))


@given(st.integers(0, 999_999_999))
def test_completed_cpf_is_valid_and_other_check_digits_are_not(nine: int) -> None:
    number = cpf.complete(f"{nine:09d}")
    if len(set(number)) == 1:
        assert not cpf.is_valid(number)
        return
    assert cpf.is_valid(number)
    for place in (9, 10):
        other = number[:place] + str((int(number[place]) + 1) % 10) + number[place + 1 :]
        assert not cpf.is_valid(other)


@pytest.mark.parametrize(
    "wrong", ["", "1234567890", "11111111111", "529.982.247-25", "５２９９８２２４７２５"]
)
def test_what_is_no_cpf(wrong: str) -> None:
    assert cpf.is_valid("52998224725")
    assert not cpf.is_valid(wrong)


def test_known_company_and_article_numbers() -> None:
    assert names.cnpj(11_222_333, 1) == "11222333000181"
    assert names.ean13(100_031_710) == "7891000317105"


@given(st.binary(max_size=140))
def test_a_request_id_is_accepted_by_its_bytes_alone(raw: bytes) -> None:
    request_id, rejected = requestid.accept(raw)
    assert re.fullmatch(r"[A-Za-z0-9._-]{8,128}", request_id)
    good = 8 <= len(raw) <= 128 and all(
        byte in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-" for byte in raw
    )
    assert (request_id.encode() == raw, rejected) == (True, None) if good else (False, len(raw))


@given(st.from_regex(rb"[A-Za-z0-9._-]{8,128}", fullmatch=True))
def test_a_good_request_id_is_kept(raw: bytes) -> None:
    assert requestid.accept(raw) == (raw.decode(), None)


@pytest.mark.parametrize(
    "raw", [b"abcdefgh\n", b"abc", b"a" * 129, b"a b c d e", "áááááááá".encode(), b"x" * 60_000]
)
def test_a_bad_request_id_is_replaced(raw: bytes) -> None:
    request_id, rejected = requestid.accept(raw)
    assert request_id.encode() != raw
    assert rejected == len(raw)


def test_application_name_fits_what_postgresql_keeps() -> None:
    assert len(requestid.application_name("x" * 128)) == 63


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f"01-{TRACE}-00f067aa0ba902b7-01-more", TRACE),
        (f"00-{TRACE}-00f067aa0ba902b7-01-more", None),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", None),
        ("garbage", None),
    ],
)
def test_traceparent(header: str, expected: str | None) -> None:
    assert requestid.trace_id(header.encode()) == expected


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_readiness_changes_only_after_two_in_a_row(results: list[bool]) -> None:
    verdict = Verdict()
    seen: list[bool] = []
    for result in results:
        before, decided = verdict.ok, verdict.decided
        changed = verdict.record(result)
        seen.append(result)
        if not decided:
            assert verdict.ok == result
        elif changed:
            assert verdict.ok != before
            assert seen[-2:] == [verdict.ok] * 2
        else:
            assert verdict.ok == before
            assert seen[-2:] != [not before] * 2


amounts = st.dictionaries(
    st.sampled_from(cash.METHODS), st.integers(0, 500).map(lambda c: Decimal(c).scaleb(-2))
)


@given(amounts, amounts)
def test_differences_name_exactly_the_methods_that_differ(
    expected: dict[str, Decimal], observed: dict[str, Decimal]
) -> None:
    named = {row["method"] for row in cash.differences(expected, observed)}
    assert named == {m for m in cash.METHODS if expected.get(m, Decimal(0)) != observed.get(m, Decimal(0))}


def _migrations(count: int) -> list[migrate.Migration]:
    return [migrate.Migration(number, "x", f"select {number}") for number in range(1, count + 1)]


def test_what_is_pending() -> None:
    three = _migrations(3)
    applied = {1: three[0].sha256, 2: three[1].sha256}
    assert migrate.pending(three, applied) == three[2:]
    assert migrate.pending(three[:1], applied) == []
    with pytest.raises(CommandError) as altered:
        migrate.pending(three, {1: "0" * 64})
    assert altered.value.code == "MIGRATION_ALTERED"
    with pytest.raises(CommandError) as missing:
        migrate.pending(three, {2: three[1].sha256})
    assert missing.value.code == "MIGRATION_MISSING"


def test_packaged_migrations_are_numbered_without_gaps() -> None:
    assert [migration.version for migration in migrate.packaged()] == list(
        range(1, len(migrate.packaged()) + 1)
    )
