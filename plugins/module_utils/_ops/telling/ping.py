# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dead man's switch: somebody outside who expects to hear of a job, and tells when nothing comes.

The address is asked as healthchecks.io defines it: ``/start`` when the job begins, the address itself
when it ended well, ``/fail`` with a short text when it did not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from ..config import Notify, Ping
from ..errors import ExitCode, OpsError
from ..log import Log, scanned
from . import http

Signal = Literal["start", "success", "fail"]
BODY_CHARACTERS = 2000
ATTEMPTS = 2
"""A job does not wait long for its own switch."""


def address(url: str, signal: Signal) -> str:
    """The address of a signal; a query stays behind the path."""
    if signal == "success":
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{signal}"))


def send(job: str, settings: Ping, signal: Signal, body: str = "") -> None:
    """Give one signal.

    :raises OpsError: ``NOTIFY_FAILED``, ``SECRET_MISSING``, ``SECRET_INVALID``; the address is in none.
    """
    http.post(
        f"the dead man's switch of {job}",
        address(http.read_address(settings.url_file), signal),
        {"Content-Type": "text/plain; charset=utf-8", "User-Agent": "pharma-ops"},
        scanned(body)[:BODY_CHARACTERS].encode("utf-8", "replace"),
        ca_file=settings.ca_file,
        attempts=ATTEMPTS,
    )


def watched(notify: Notify, job: str, log: Log, run: Callable[[], ExitCode]) -> ExitCode:
    """Run a job and signal its start and its end, when the host has a switch for it.

    A signal that does not arrive is logged and never changes how the job ends.
    """
    settings = notify.pings.get(job)
    if settings is None:
        return run()
    _signal(job, settings, "start", log)
    try:
        code = run()
    except BaseException as error:
        _signal(job, settings, "fail", log, _words(error))
        raise
    if code is ExitCode.PROVEN:
        _signal(job, settings, "success", log)
    else:
        _signal(job, settings, "fail", log, f"{job} ended with exit code {int(code)}.")
    return code


def _words(error: BaseException) -> str:
    if isinstance(error, OpsError):
        return f"{error.code}: {error.message}\n{error.action}".strip()
    return "The run was interrupted." if isinstance(error, KeyboardInterrupt) else "A defect ended the run."


def _signal(job: str, settings: Ping, signal: Signal, log: Log, body: str = "") -> None:
    try:
        send(job, settings, signal, body)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the switch, the job goes on
        log.error("ping_failed", error, job=job, signal=signal)
