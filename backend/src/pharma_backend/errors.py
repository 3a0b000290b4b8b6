# SPDX-License-Identifier: GPL-3.0-or-later
"""The two kinds of error: what ends a command, and what an API client is told."""

from __future__ import annotations

from typing import Any


class CommandError(Exception):
    """Ends a command with exit code 2; written for the person at the terminal.

    :param code: stable identifier in UPPER_SNAKE_CASE.
    :param message: one sentence that names the object and the cause.
    :param action: one sentence that says what to do next.
    """

    def __init__(self, code: str, message: str, action: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.action = action

    def __str__(self) -> str:
        return f"{self.code}: {self.message} {self.action}"


class Problem(Exception):  # noqa: N818 - the name RFC 9457 uses
    """An answer other than success, sent as ``application/problem+json`` (RFC 9457).

    ``detail`` is a constant sentence: no value of a person, a credential or a row stands in it.
    ``facts`` are extension members of the document (amounts as decimal strings).
    """

    def __init__(
        self,
        code: str,
        status: int,
        title: str,
        detail: str = "",
        *,
        headers: dict[str, str] | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(detail or title)
        self.code = code
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = headers or {}
        self.facts = facts
