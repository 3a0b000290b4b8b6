# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a long run tells while it works: the decision what to show is the caller's (see cli/)."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the steps of a job."""

    def started(self, step: str) -> None:
        """A step begins."""

    def advanced(self, step: str, done: int, total: int | None, unit: str) -> None:
        """A step has done ``done`` of ``total`` (None: unknown) ``unit``s."""

    def finished(self, step: str, verdict: str, seconds: float, summary: str) -> None:
        """A step ended."""


class Silent:
    """Shows nothing."""

    def started(self, step: str) -> None:
        """Ignore."""

    def advanced(self, step: str, done: int, total: int | None, unit: str) -> None:
        """Ignore."""

    def finished(self, step: str, verdict: str, seconds: float, summary: str) -> None:
        """Ignore."""
