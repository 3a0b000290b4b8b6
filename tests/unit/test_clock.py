# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops import clock

YEARS = (datetime.fromisoformat("0002-01-01"), datetime.fromisoformat("9998-01-01"))
OFFSETS = st.integers(-12 * 60, 12 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def test_writes_the_form_of_the_log_contract() -> None:
    moment = datetime(2026, 2, 15, 9, 34, 56, 789_999, tzinfo=timezone(timedelta(hours=-3)))
    assert clock.to_text(moment) == "2026-02-15T12:34:56.789Z"


@given(st.datetimes(*YEARS, timezones=OFFSETS))
def test_text_keeps_the_moment_to_the_millisecond(moment: datetime) -> None:
    text = clock.to_text(moment)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert timedelta(0) <= moment - clock.from_text(text) < timedelta(milliseconds=1)


@pytest.mark.parametrize("text", ["2026-02-15T12:34:56.789", "yesterday", ""])
def test_refuses_text_without_an_offset(text: str) -> None:
    with pytest.raises(ValueError, match=r"offset|isoformat"):
        clock.from_text(text)


def test_now_is_utc() -> None:
    assert clock.now().tzinfo is UTC
