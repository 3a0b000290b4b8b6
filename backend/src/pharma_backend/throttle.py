# SPDX-License-Identifier: GPL-3.0-or-later
"""Login throttling, kept in the database so that every process and both colours count together.

Attempts are counted for a user name at an address, and for an address. The user name alone is never
counted: whoever guesses at somebody's password from elsewhere does not lock that person out. Names that
nobody has are counted like all others. An attempt is counted before the password is looked at, so a burst
of parallel guesses gains nothing, and taken back when the password was right.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any

from starlette.types import Scope

from . import log
from .database import Transaction
from .errors import Problem

# In so many seconds as many attempts are forgotten as are free.
REGAIN_SECONDS = 3600
# More than this many beyond the free ones are not remembered.
MOST_EXCESS = 30
# Nothing is left of an attempt after that long.
FORGET_SECONDS = 24 * 3600
LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Policy:
    """How long somebody waits for the next attempt; times in seconds.

    :param free: attempts that cost no wait; each one more doubles it, from one second to ``longest``.
        They are regained with time, so a place where many people mistype now and then never waits.
    """

    free: int
    longest: int

    def delay(self, attempts: float) -> int:
        """The wait after so many attempts that failed."""
        excess = round(attempts) - self.free
        return 0 if excess < 0 else min(self.longest, 1 << min(excess, MOST_EXCESS))

    def wait(self, attempts: float, quiet: float) -> int:
        """Whole seconds that are left to wait, ``quiet`` seconds after the last of some attempts."""
        return max(0, math.ceil(self.delay(attempts) - quiet))

    def count(self, attempts: float, quiet: float) -> float:
        """The attempts with one more, ``quiet`` seconds after the last."""
        left = max(0.0, attempts - quiet * self.free / REGAIN_SECONDS)
        return min(left + 1, self.free + MOST_EXCESS)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to log in: its subjects in the order in which every attempt locks them."""

    address: bytes
    person: bytes


class Throttle:
    """:param key: makes subjects out of names and addresses; who reads the table learns neither."""

    def __init__(self, key: bytes, *, person: Policy, address: Policy) -> None:
        self._key = key
        self._person = person
        self._address = address

    def attempt(self, username: str, address: str) -> Attempt:
        """The subjects of an attempt."""
        return Attempt(self._subject("address", address), self._subject("person", address, username.lower()))

    async def enter(self, tx: Transaction, attempt: Attempt) -> None:
        """Count an attempt.

        :raises Problem: ``AUTH_THROTTLED``; then it is not counted.
        """
        rows = await tx.rows(
            """
            insert into pharmacy.login_attempts as a (subject, attempts)
            select subject, 0 from unnest(%(subjects)s::bytea[]) with ordinality as s (subject, place)
             order by place
            on conflict (subject) do update set attempts = a.attempts
            returning subject, attempts, extract(epoch from clock_timestamp() - last_at)::float8 as quiet
            """,
            {"subjects": [attempt.address, attempt.person]},
        )
        known = {bytes(row["subject"]): row for row in rows}
        counts = [
            self._next(known[attempt.address], self._address, "address"),
            self._next(known[attempt.person], self._person, "person"),
        ]
        await tx.execute(
            """
            update pharmacy.login_attempts a set attempts = s.attempts, last_at = clock_timestamp()
              from unnest(%(subjects)s::bytea[], %(counts)s::float8[]) as s (subject, attempts)
             where a.subject = s.subject
            """,
            {"subjects": [attempt.address, attempt.person], "counts": counts},
        )

    async def succeed(self, tx: Transaction, attempt: Attempt) -> None:
        """Take the attempt back and forget the person's failed ones; the address keeps those of others."""
        await tx.execute(
            "update pharmacy.login_attempts set attempts = greatest(attempts - 1, 0) where subject = %(subject)s",
            {"subject": attempt.address},
        )
        await tx.execute(
            "delete from pharmacy.login_attempts where subject = %(subject)s", {"subject": attempt.person}
        )

    def _subject(self, *words: str) -> bytes:
        message = "\0".join(words).encode("utf-8", "backslashreplace")
        return hmac.new(self._key, message, hashlib.sha256).digest()

    @staticmethod
    def _next(row: dict[str, Any], policy: Policy, scope: str) -> float:
        attempts, quiet = row["attempts"], max(0.0, row["quiet"])
        seconds = policy.wait(attempts, quiet)
        if seconds:
            log.warn("login_throttled", scope=scope, retrySeconds=seconds)
            raise Problem(
                "AUTH_THROTTLED",
                429,
                "Too many attempts to log in",
                "Wait as long as Retry-After says.",
                headers={"Retry-After": str(seconds)},
            )
        return policy.count(attempts, quiet)


def client_address(scope: Scope) -> str:
    """Who sends the request, as far as attempts are counted: an address, or the /64 of an IPv6 one.

    ``X-Forwarded-For`` is the proxy's word, and only the proxy can open the unix socket; a peer that
    came over TCP may say in it what it likes.
    """
    peer = scope.get("client")
    if peer and peer[0]:
        return _network(str(peer[0]))
    named = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return _network(named[0].decode("latin-1")) if len(named) == 1 else LOCAL


def _network(text: str) -> str:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return LOCAL
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)
