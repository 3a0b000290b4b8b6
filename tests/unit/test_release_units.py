# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine asks of systemd."""

from __future__ import annotations

import pytest

from pharma_ops import process
from pharma_ops.errors import OpsError
from pharma_ops.release import units


def test_a_stop_that_a_late_start_cancels_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What systemctl answers then, seen on a busy host: exit status 1, "Job for … canceled."."""
    asked: list[str] = []
    answers = [OpsError("UNIT_NOT_CHANGED", "Job for x-migrate@2.0.0.service canceled.", ""), None]

    def run(argv: list[str], **_: object) -> None:
        asked.append(argv[1])
        if argv[1] == "stop" and (refused := answers.pop(0)):
            raise refused

    monkeypatch.setattr(process, "run", run)
    units.stop("x-migrate@2.0.0.service")
    assert asked == ["stop", "stop", "reset-failed"]
    answers[:] = [OpsError("UNIT_NOT_CHANGED", "It stays.", "")] * 2
    with pytest.raises(OpsError, match="It stays"):
        units.stop("x-migrate@2.0.0.service")
