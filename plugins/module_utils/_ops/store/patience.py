# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying again, for as long as a store may stumble in the middle of a long upload.

The client's own retries (botocore's ``standard`` mode) bridge seconds. What has been under way for an hour
is not given up for a store that answers 503 SlowDown for a minute, nor for a part that arrived damaged.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from .. import _deps
from ..errors import OpsError
from . import s3_errors
from .s3_removal import error_code

_T = TypeVar("_T")

BASE_SECONDS = 1.0
LONGEST_SECONDS = 20.0
ROUNDS = 6

# Answers that say "not now" or "not as you sent it"; the second kind botocore does not repeat.
TRANSIENT = {
    "SlowDown", "ServiceUnavailable", "InternalError", "InternalFailure", "RequestTimeout", "Throttling",
    "ThrottlingException", "RequestLimitExceeded", "BandwidthLimitExceeded", "OperationAborted", "500", "502",
    "503", "504", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch",
}  # fmt: skip


def delays(rounds: int = ROUNDS, jitter: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
    """The seconds to wait before each further try: doubling, at most :data:`LONGEST_SECONDS`, half of it chance."""
    for number in range(rounds - 1):
        longest = min(LONGEST_SECONDS, BASE_SECONDS * 2**number)
        yield jitter(longest / 2, longest)


def transient(error: Exception) -> bool:
    """Whether another try may succeed."""
    exceptions = _deps.load("botocore.exceptions")
    if isinstance(error, exceptions.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error_code(error) in TRANSIENT or status in (500, 502, 503, 504)
    if s3_errors.untrusted(error):
        return False
    if isinstance(error, OpsError):
        return error.code == "STORE_TRANSFER_DAMAGED"
    broken = (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError)
    return isinstance(error, broken)


def patiently(
    call: Callable[[], _T],
    stopped: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], object] = time.sleep,
    rounds: int | None = None,
) -> _T:
    """The result of ``call``, tried again while its errors are transient, then the last error as it is.

    :param stopped: asked before each further try; True ends it with the error at hand.
    :param rounds: how often it is tried in all; None: :data:`ROUNDS` times.
    """
    for delay in delays(rounds or ROUNDS):
        try:
            return call()
        except Exception as error:
            if stopped() or not transient(error):
                raise
        sleep(delay)
    return call()
