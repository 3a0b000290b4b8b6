# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception of the engine, and the exit codes that every command shares."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command and of every drill."""

    PROVEN = 0
    FAILED = 1
    COULD_NOT_RUN = 2


class OpsError(Exception):
    """An error written for the person who is paged at three in the morning.

    :param code: stable identifier in UPPER_SNAKE_CASE, documented in docs/errors.md.
    :param message: one sentence that names the object and the cause.
    :param action: one sentence that says what to do next.
    :param exit_code: how a command that meets this error ends.
    """

    def __init__(
        self,
        code: str,
        message: str,
        action: str = "",
        exit_code: ExitCode = ExitCode.COULD_NOT_RUN,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.action = action
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message} {self.action}".strip()

    def as_dict(self) -> dict[str, str]:
        """The error as it stands in evidence, log lines and module results."""
        return {"code": self.code, "message": self.message, "action": self.action}
