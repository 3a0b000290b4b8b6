# SPDX-License-Identifier: GPL-3.0-or-later
"""A download that breaks off: what is whole, what is asked for again, when it is given up."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops.errors import OpsError
from pharma_ops.store import download as module
from pharma_ops.store.download import ATTEMPTS, download

RANGE = 64


class BrokenError(Exception):
    """A connection that breaks."""


@dataclass
class Breaking:
    """A source that gives so many bytes of its next requests and then breaks off, or just ends."""

    content: bytes
    breaks: dict[int, list[int]] = field(default_factory=dict)
    quietly: bool = False
    name: str = "db/dump.age"
    asked: list[tuple[int, int]] = field(default_factory=list)

    @property
    def total(self) -> int:
        return len(self.content)

    def chunks(self, start: int, end: int) -> Generator[bytes, None, None]:
        self.asked.append((start, end))
        left = self.breaks.get(start // RANGE, [])
        stop = min(start + left.pop(0), end) if left else end
        for at in range(start, stop, 7):
            yield self.content[at : min(at + 7, stop)]
        if stop < end and not self.quietly:
            raise BrokenError

    def passing(self, error: Exception) -> bool:
        return isinstance(error, BrokenError)

    def pauses(self) -> Iterable[float]:
        return (0.0,) * (ATTEMPTS - 1)


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RANGE_BYTES", RANGE)


def fetched(source: Breaking, told: list[tuple[int, int | None]]) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "file")
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            download(source, fd, lambda done, total: told.append((done, total)))
        finally:
            os.close(fd)
        return path.read_bytes()


@pytest.mark.parametrize("quietly", [False, True])
@given(
    st.binary(max_size=4 * RANGE),
    st.dictionaries(st.integers(0, 4), st.lists(st.integers(0, RANGE - 1), max_size=ATTEMPTS - 1)),
)
def test_what_breaks_off_goes_on_where_it_stopped(
    quietly: bool, content: bytes, breaks: dict[int, list[int]]
) -> None:
    source = Breaking(content, {at: list(lengths) for at, lengths in breaks.items()}, quietly)
    told: list[tuple[int, int | None]] = []
    assert fetched(source, told) == content
    # Nothing is asked for twice, so what is told never exceeds the whole.
    starts = [start for start, _end in source.asked]
    given_nothing = sum(lengths.count(0) for lengths in breaks.values())
    assert len(starts) - len(set(starts)) <= given_nothing
    assert sorted(told) == told
    assert not told or told[-1] == (len(content), len(content))


@pytest.mark.parametrize(
    ("quietly", "error", "words"),
    [(True, OpsError, r"db/dump\.age ended 40 bytes early, 4 times"), (False, BrokenError, "^$")],
)
def test_the_last_attempt_is_the_last(quietly: bool, error: type[Exception], words: str) -> None:
    source = Breaking(b"x" * RANGE, {0: [6] * 5}, quietly)
    with pytest.raises(error, match=words) as caught:
        fetched(source, [])
    assert len(source.asked) == ATTEMPTS
    if isinstance(caught.value, OpsError):
        assert caught.value.code == "STORE_TRANSFER_DAMAGED"


def test_what_is_no_passing_error_is_not_tried_again() -> None:
    source = Breaking(b"x" * RANGE, {0: [6]})
    source.passing = lambda error: False  # type: ignore[method-assign]
    with pytest.raises(BrokenError):
        fetched(source, [])
    assert len(source.asked) == 1
