# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals during a run of stages: they end the stage that runs, never what cleans up after it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The run was told to stop by a signal; ``args[0]`` is its name."""


class Interruptions:
    """Turns a signal into :class:`Interrupted`, but only where a stage allows it.

    A signal that comes elsewhere is kept until the next stage that may be interrupted begins; a
    teardown is no such stage, so that a second Ctrl-C cannot leave anything behind.
    """

    def __init__(self) -> None:
        self._armed = False
        self._pending = ""

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals while the block runs (in the main thread; elsewhere none arrive)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._arrived) for number in HANDLED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """A signal ends the block.

        :raises Interrupted: also at once, when a signal came before the block.
        """
        self._armed = True
        try:
            if self._pending:
                raise Interrupted(self._pending)
            yield
        finally:
            self._armed = False
            if self._pending:
                self._pending = ""

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        # Nothing is logged here: the signal may have come in the middle of the same stream's write.
        name = signal.Signals(number).name
        self._pending = name
        if self._armed:
            # Once is enough: what the stage does to clean up must not be cut short.
            self._armed = False
            raise Interrupted(name)
