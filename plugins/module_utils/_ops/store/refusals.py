# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors that stores of several kinds have in common, told by all in the same words.

``what`` is the store's description, ``whole`` an object and the store, or the store alone.
"""

from __future__ import annotations

from datetime import datetime

from .. import clock
from ..errors import OpsError
from .base import NO_END


def wrong_section(message: str) -> OpsError:
    """The configuration of a store contradicts itself."""
    return OpsError(
        "CONFIG_INVALID", f"The section of a store is wrong: {message}.", "Correct [stores.<name>]."
    )


def untrusted(what: str, error: Exception) -> OpsError:
    """TLS cannot be had."""
    return OpsError(
        "STORE_TLS_FAILED",
        f"The certificate of the store {what} is not trusted: {error}",
        "Name the certificate authority with ca_file in the store's section.",
    )


def unreachable(what: str, reason: object) -> OpsError:
    """Nobody answers."""
    return OpsError(
        "STORE_UNREACHABLE",
        f"The store {what} cannot be reached: {reason}",
        "Check the endpoint's name, port and firewall from this host, then run again.",
    )


def clocks_differ(what: str) -> OpsError:
    """The signature is of another time than the server's."""
    return OpsError(
        "STORE_CLOCK_SKEW",
        f"The store {what} refuses the request because the clocks differ too much.",
        "Let this host's clock be set by NTP, then run again.",
    )


def denied(operation: str, whole: str, more: str = "") -> OpsError:
    """The identity is known and may not.

    :param more: what else to check.
    """
    return OpsError(
        "STORE_ACCESS_DENIED",
        f"The store refuses {operation} on {whole} to this identity.",
        f"Check the identity's policy: a backup needs put, a drill get and list, a pruning delete.{more}",
    )


def missing(whole: str) -> OpsError:
    """There is no such object."""
    return OpsError("STORE_OBJECT_MISSING", f"{whole} does not exist.", "List the store's content.")


def exists(whole: str) -> OpsError:
    """The name is taken."""
    return OpsError(
        "STORE_OBJECT_EXISTS",
        f"{whole} exists already and is not overwritten.",
        "Every backup has an id of its own: find out which other program writes here.",
    )


def too_large(whole: str, limit: int) -> OpsError:
    """An object that is read whole has more bytes than such a one can have."""
    return OpsError(
        "STORE_OBJECT_TOO_LARGE",
        f"{whole} has more than the {limit} bytes expected of it.",
        "It is not what its name says: look at it by hand.",
    )


def locked(whole: str, until: datetime) -> OpsError:
    """The store keeps an object."""
    end = "a legal hold ends" if until == NO_END else clock.to_text(until)
    return OpsError(
        "STORE_OBJECT_LOCKED",
        f"{whole} is locked until {end} and cannot be removed before then.",
        "Nothing is wrong: the lock does what it is for. Remove the object after that time.",
    )


def full(whole: str, code: str) -> OpsError:
    """A quota is used up."""
    return OpsError(
        "STORE_FULL",
        f"The store has no room for {whole} ({code}).",
        "Raise the bucket's quota or prune old backups with the pruning identity, then run again.",
    )


def busy(operation: str, whole: str, code: str) -> OpsError:
    """It was tried again until patience ended."""
    return OpsError(
        "STORE_BUSY",
        f"The store refuses {operation} on {whole} for too much load ({code}), for minutes.",
        "Run again later; if it happens daily, move the schedule or set bandwidth_limit.",
    )


def damaged(whole: str, code: str) -> OpsError:
    """The server saw that other bytes arrived than were sent."""
    return OpsError(
        "STORE_TRANSFER_DAMAGED",
        f"{whole} did not arrive as it was sent ({code}).",
        "Run again; if it happens again, suspect the network path or this host's memory.",
    )


def other_bytes(name: str, digest: str, received: str, expected: str) -> OpsError:
    """The server acknowledges other bytes than were sent; ``digest`` is what it calls their digest."""
    return OpsError(
        "STORE_TRANSFER_DAMAGED",
        f"The store holds other bytes for {name} than were sent ({digest} {received}, expected {expected}).",
        "Run again; if it happens again, suspect the network path or this host's memory.",
    )


def failed(operation: str, whole: str, code: str, message: str) -> OpsError:
    """An answer of which nothing more is known."""
    return OpsError(
        "STORE_REQUEST_FAILED",
        f"The store answered {operation} on {whole} with {code}: {message or 'no reason given'}.",
        "Look the code up in the store's documentation, or in its log.",
    )
