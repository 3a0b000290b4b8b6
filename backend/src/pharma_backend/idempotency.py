# SPDX-License-Identifier: GPL-3.0-or-later
"""Idempotency keys: a repeated request gets the first answer again and changes nothing.

The answer is kept in the transaction of the change itself: whatever breaks, either both are there or
neither, so a client that does not know what became of its request may send it again. Only answers of
success are kept; after any other one nothing was changed, and the key is as good as new.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from .database import Transaction
from .errors import Problem
from .tokens import Principal

PATTERN = r"^[A-Za-z0-9._-]{8,128}$"
KEEP_SECONDS = 24 * 3600
RETRY_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that must not take effect twice.

    :param fingerprint: of the route, its parameters and the body; 32 bytes.
    """

    user_id: int
    key: str
    fingerprint: bytes

    @classmethod
    def of(cls, principal: Principal, key: str, *request: str) -> Claim:
        """The claim of a user's request, given by its parts."""
        digest = hashlib.sha256()
        for part in request:
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        return cls(principal.user_id, key, digest.digest())

    @property
    def lock(self) -> int:
        """The number of the advisory lock that a transaction holds while it serves the request."""
        digest = hashlib.sha256(f"idempotency {self.user_id} {self.key}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer: status and body, byte for byte."""

    status: int
    answer: bytes


async def recall(tx: Transaction, claim: Claim) -> Kept | None:
    """The answer that was kept for the claim, or None: then the transaction owns the key until it ends.

    :raises Problem: ``IDEMPOTENCY_IN_PROGRESS`` while another request with the key is served,
        ``IDEMPOTENCY_KEY_REUSED`` when the key was used for another request.
    """
    owned = await tx.one("select pg_try_advisory_xact_lock(%(lock)s) as owned", {"lock": claim.lock})
    if not owned["owned"]:
        raise Problem(
            "IDEMPOTENCY_IN_PROGRESS",
            409,
            "A request with this key is being served",
            "Ask again in a moment, with the same key.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )
    facts = {"user": claim.user_id, "key": claim.key}
    row = await tx.row(
        """
        select fingerprint, status, answer, created_at < now() - make_interval(secs => %(keep)s) as expired
          from pharmacy.idempotency_keys where user_id = %(user)s and key = %(key)s
        """,
        facts | {"keep": KEEP_SECONDS},
    )
    if row is None:
        return None
    if row["expired"]:
        await tx.execute(
            "delete from pharmacy.idempotency_keys where user_id = %(user)s and key = %(key)s", facts
        )
        return None
    if row["fingerprint"] != claim.fingerprint:
        raise Problem(
            "IDEMPOTENCY_KEY_REUSED",
            422,
            "The key was used for another request",
            "Make a new key for each request; only its repetition has the same one.",
        )
    return Kept(row["status"], row["answer"])


async def keep(tx: Transaction, claim: Claim, kept: Kept) -> None:
    """Keep the answer, in the transaction that made the change."""
    await tx.execute(
        """
        insert into pharmacy.idempotency_keys (user_id, key, fingerprint, status, answer)
        values (%(user)s, %(key)s, %(fingerprint)s, %(status)s, %(answer)s)
        """,
        {
            "user": claim.user_id,
            "key": claim.key,
            "fingerprint": claim.fingerprint,
            "status": kept.status,
            "answer": kept.answer,
        },
    )
