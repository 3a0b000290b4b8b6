# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate of a new release: from the requests that it has served to go on, go back, or not enough to say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..config import Release as Settings

EARLY_REQUESTS = 10
EARLY_5XX_RATIO = 0.5
"""So many requests of which so many failed are enough, however many the gate asks for."""


class Decision(StrEnum):
    """What the gate says."""

    GO_ON = "go_on"
    GO_BACK = "go_back"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Requests:
    """What a release has served; ``p95_seconds`` None without a request."""

    total: int
    errors5xx: int
    p95_seconds: float | None

    def as_dict(self) -> dict[str, int | float | None]:
        """As the journal has it."""
        return {"total": self.total, "errors5xx": self.errors5xx, "p95Seconds": self.p95_seconds}


@dataclass(frozen=True)
class Judgement:
    """The decision and the sentence with the numbers that led to it."""

    decision: Decision
    cause: str


def judge(requests: Requests, settings: Settings) -> Judgement:
    """Hold the requests against the gate."""
    total, errors, p95 = requests.total, requests.errors5xx, requests.p95_seconds
    ratio = errors / total if total else 0.0
    enough = total >= settings.watch_minimum_requests
    if total >= EARLY_REQUESTS and ratio >= EARLY_5XX_RATIO:
        return Judgement(Decision.GO_BACK, f"{errors} of {total} requests failed with 5xx")
    if enough and ratio > settings.watch_max_5xx_ratio:
        return Judgement(
            Decision.GO_BACK,
            f"{errors} of {total} requests failed with 5xx ({ratio:.1%}; allowed {settings.watch_max_5xx_ratio:.1%})",
        )
    if enough and p95 is not None and p95 > settings.watch_max_p95_seconds:
        return Judgement(
            Decision.GO_BACK,
            f"the p95 of {total} requests is {p95:.3f} s (allowed {settings.watch_max_p95_seconds:g} s)",
        )
    if not enough:
        return Judgement(
            Decision.UNDECIDED,
            f"{total} requests were too few to judge by ({settings.watch_minimum_requests} are needed)",
        )
    return Judgement(Decision.GO_ON, f"{errors} of {total} requests failed with 5xx, p95 {p95 or 0.0:.3f} s")


def percentile95(seconds: Sequence[float]) -> float | None:
    """The 95th percentile by the nearest rank; None of nothing."""
    if not seconds:
        return None
    return sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]
