# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers, durations and moments as a reader of a language writes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Language = Literal["pt-BR", "en"]
LANGUAGES: tuple[Language, ...] = ("pt-BR", "en")

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Format:
    """Writes values in one language and one time zone."""

    language: Language
    timezone: str = "UTC"

    def number(self, value: float, decimals: int = 0) -> str:
        """``1.234,5`` in Portuguese, ``1,234.5`` in English."""
        text = f"{value:,.{decimals}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.language == "pt-BR" else text

    def duration(self, seconds: float) -> str:
        """For people, two units at most: ``0,8 s``, ``2 min 13 s``, ``26 h``, ``4 h 02 min``, ``8 d 3 h``."""
        if seconds < 10:
            # 0.004 s shall not read as no time at all
            return f"{self.number(seconds, 1 if seconds >= 0.05 else 3)} s"
        whole = round(seconds)
        if whole < 60:
            return f"{whole} s"
        if whole < 3600:
            return _two(whole, 60, "min", "02d", "s")
        minutes = round(seconds / 60)
        if minutes < 48 * 60:
            return _two(minutes, 60, "h", "02d", "min")
        return _two(round(seconds / 3600), 24, "d", "d", "h")

    def exact(self, seconds: float) -> str:
        """Milliseconds: ``133,412 s``."""
        return f"{self.number(seconds, 3)} s"

    def size(self, count: float) -> str:
        """``1,2 GiB``; powers of 1024."""
        power = 0
        while count >= 1024 and power < len(_UNITS) - 1:
            count /= 1024
            power += 1
        return f"{self.number(count, 1 if power else 0)} {_UNITS[power]}"

    def day(self, moment: datetime) -> str:
        """The date in the report's time zone."""
        return moment.astimezone(self._zone).strftime("%d/%m/%Y" if self.language == "pt-BR" else "%Y-%m-%d")

    def local(self, moment: datetime, *, named: bool = False) -> str:
        """Date and time in the report's time zone, with its offset, or also its name."""
        there = moment.astimezone(self._zone)
        zone = "UTC" if self._zone is UTC else f"UTC{_offset(there)}"
        if named and self._zone is not UTC:
            zone = f"{self.timezone} ({zone})"
        return f"{self.day(moment)} {there:%H:%M:%S} {zone}"

    def utc(self, moment: datetime) -> str:
        """Date and time in UTC."""
        return f"{Format(self.language).day(moment)} {moment.astimezone(UTC):%H:%M:%S} UTC"

    @property
    def has_local_time(self) -> bool:
        """Whether the report's time zone is another than UTC and known on this host."""
        return self._zone is not UTC

    @property
    def _zone(self) -> tzinfo:
        if self.timezone == "UTC":
            return UTC
        try:
            return ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            # A host without tzdata: a report in UTC is better than none.
            return UTC


def _two(count: int, base: int, large: str, width: str, small: str) -> str:
    whole, rest = divmod(count, base)
    return f"{whole} {large} {rest:{width}} {small}" if rest else f"{whole} {large}"


def _offset(moment: datetime) -> str:
    text = moment.strftime("%z")
    return f"{'−' if text[0] == '-' else '+'}{text[1:3]}:{text[3:]}"
