# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option ``--identity``: another key than the host's, from a file or from standard input."""

from __future__ import annotations

import contextlib
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

from ..errors import OpsError
from ..sealing import keys

STDIN = "-"
_LIMIT_BYTES = 1 << 20


def read_identity(given: str | None, *, dump: bool = False) -> bytes | None:
    """The content of an identity file, looked at before anything begins; None: none was given.

    :param given: a path, or ``-`` for standard input.
    :param dump: a bare dump is proven, which no key opens.
    :raises OpsError: ``ARGUMENT_INVALID``, and what :func:`..sealing.keys.read_identities` raises.
    """
    if given is None:
        return None
    if dump:
        raise OpsError(
            "ARGUMENT_INVALID",
            "--identity makes no sense with --dump: a bare dump is not encrypted.",
            "Leave one out.",
        )
    if given == STDIN:
        data = _standard_input()
        keys.read_identities(data)
        return data
    return "".join(item.text for item in keys.read_identities(Path(given).absolute())).encode()


def _standard_input() -> bytes:
    if not sys.stdin.isatty():
        return sys.stdin.buffer.read(_LIMIT_BYTES + 1)
    with _not_shown(sys.stdin.fileno()):
        # After the echo is off, so that nothing that is typed at this word is shown or lost.
        sys.stderr.write("The identity (it is not shown), then Ctrl-D on a line of its own:\n")
        sys.stderr.flush()
        return sys.stdin.buffer.read(_LIMIT_BYTES + 1)


@contextlib.contextmanager
def _not_shown(terminal: int) -> Iterator[None]:
    before = termios.tcgetattr(terminal)
    quiet = termios.tcgetattr(terminal)
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSAFLUSH, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
