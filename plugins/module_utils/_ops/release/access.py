# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy's access log as it grows: what was served since a moment, across rotations."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from .gate import Requests, percentile95

_QUIET_POLLS = 10
"""A rotated file is still written until the proxy is told; after so many polls without a line it is left."""
_MAX_LINE_BYTES = 1 << 20
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One served request: when it began (epoch seconds), its status, how long the service took."""

    began: float
    status: int
    seconds: float


@dataclass
class _Source:
    stream: BinaryIO
    rest: bytes = b""
    quiet: int = 0


@dataclass
class Tail:
    """The lines that are added to a file from now on, also after it was rotated or truncated."""

    path: Path
    _sources: list[_Source] = field(default_factory=list)

    def __post_init__(self) -> None:
        with suppress(OSError):
            self._open(at_end=True)

    def lines(self) -> Iterator[bytes]:
        """The whole lines that were added since the last call."""
        self._follow()
        for source in list(self._sources):
            found = False
            for line in _whole_lines(source):
                found = True
                yield line
            source.quiet = 0 if found else source.quiet + 1
            if source is not self._sources[-1] and source.quiet > _QUIET_POLLS:
                source.stream.close()
                self._sources.remove(source)

    def close(self) -> None:
        """Close the files."""
        for source in self._sources:
            source.stream.close()
        self._sources.clear()

    def _follow(self) -> None:
        """Open the file once more when another one stands under its name, or begin again when it was cut."""
        try:
            there = self.path.stat()
        except OSError:
            return
        if self._sources:
            newest = self._sources[-1]
            known = os.fstat(newest.stream.fileno())
            if (known.st_dev, known.st_ino) == (there.st_dev, there.st_ino):
                if there.st_size < newest.stream.tell():
                    newest.stream.seek(0)
                    newest.rest = b""
                return
        with suppress(OSError):
            self._open(at_end=False)

    def _open(self, *, at_end: bool) -> None:
        stream = self.path.open("rb")
        if at_end:
            stream.seek(0, os.SEEK_END)
        self._sources.append(_Source(stream))


def _whole_lines(source: _Source) -> Iterator[bytes]:
    data = source.rest + source.stream.read()
    *whole, source.rest = data.split(b"\n")
    # What never ends is no line of a log; it must not grow without bound.
    source.rest = source.rest[-_MAX_LINE_BYTES:]
    yield from whole


@dataclass
class Counter:
    """Counts the requests that began after the switch.

    :ivar since: epoch seconds of the switch.
    :ivar unreadable: lines that are no request.
    """

    since: float
    unreadable: int = 0
    _errors: int = 0
    _seconds: list[float] = field(default_factory=list)

    def add(self, line: bytes) -> None:
        """Count a line of the log."""
        try:
            request = parse(line)
        except ValueError:
            self.unreadable += 1
            return
        if request is None or request.began < self.since:
            return
        self._errors += request.status >= 500
        self._seconds.append(request.seconds)

    def requests(self) -> Requests:
        """What was counted so far."""
        p95 = percentile95(self._seconds)
        return Requests(
            total=len(self._seconds),
            errors5xx=self._errors,
            p95_seconds=None if p95 is None else round(p95, 4),
        )


def parse(line: bytes) -> Request | None:
    """The request in a line of the access log; None for one that the proxy answered by itself.

    What the proxy refuses (a limit, an unknown path) says nothing of the release, and would hide its
    failures among many. A 5xx of the proxy's own does: it got no answer.

    :raises ValueError: the line is no request.
    """
    data: Any = json.loads(line)
    if not isinstance(data, dict):
        raise ValueError("no object")
    finished, took, status = _number(data, "ts"), _number(data, "requestTime"), _number(data, "status")
    upstream = upstream_seconds(data.get("upstreamTime"))
    if upstream is None and status < 500:
        return None
    return Request(began=finished - took, status=int(status), seconds=took if upstream is None else upstream)


def upstream_seconds(value: Any) -> float | None:
    """The time that upstreams took, of one or, after a second try, of several; None: none was asked."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    found = _NUMBER.findall(value) if isinstance(value, str) else []
    return sum(map(float, found)) if found else None


def _number(data: dict[str, Any], key: str) -> float:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is no number")
    return float(value)
