# SPDX-License-Identifier: GPL-3.0-or-later
"""Login and the rotation of refresh tokens."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from . import audit, log, passwords
from .database import Database, Row, Transaction
from .errors import Problem
from .throttle import Throttle
from .tokens import Principal, Tokens, refresh_invalid


@dataclass(frozen=True, slots=True)
class Session:
    """What a client gets: both tokens and the life of the access token in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int


class Accounts:
    """:param refresh_ttl: life of a refresh token in seconds.
    :param refresh_grace: for how many seconds a used one may come again, when its answer was lost.
    """

    def __init__(
        self, database: Database, tokens: Tokens, throttle: Throttle, *, refresh_ttl: int, refresh_grace: int
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._throttle = throttle
        self._refresh_ttl = refresh_ttl
        self._refresh_grace = refresh_grace

    async def login(self, username: str, password: str, address: str) -> tuple[Principal, Session]:
        """Check a password and begin a family of refresh tokens.

        No connection is held while the password is verified.

        :param address: of the client; attempts are counted for it.
        :raises Problem: ``AUTH_INVALID_CREDENTIALS``, the same whatever was wrong, or ``AUTH_THROTTLED``.
        """
        attempt = self._throttle.attempt(username, address)
        async with self._database.transaction() as tx:
            await self._throttle.enter(tx, attempt)
            user = await tx.row(
                """
                select id, store_id, role, active, password_hash from pharmacy.users where username = %(name)s
                """,
                # A name that nobody can have is looked for all the same; a NUL cannot be sent.
                {"name": username.replace("\0", " ")},
            )
        right = await passwords.verify(user["password_hash"] if user else None, password)
        if user is None or not right or not user["active"]:
            log.warn("login_failed", reason="inactive" if user and right else "credentials")
            raise Problem("AUTH_INVALID_CREDENTIALS", 401, "User name or password is wrong")
        principal = _principal(user)
        old_hash = user["password_hash"]
        new_hash = await passwords.renew(password) if passwords.outdated(old_hash) else old_hash
        async with self._database.transaction() as tx:
            await self._throttle.succeed(tx, attempt)
            await tx.execute(
                """
                update pharmacy.users
                   set last_login_at = now(),
                       password_hash = case when password_hash = %(old)s then %(new)s else password_hash end
                 where id = %(id)s
                """,
                {"id": principal.user_id, "old": old_hash, "new": new_hash},
            )
            await tx.execute(
                "delete from pharmacy.refresh_tokens where user_id = %(id)s and expires_at < now()",
                {"id": principal.user_id},
            )
            session = await self._issue(tx, principal, uuid.uuid4())
            await audit.record(tx, principal, "login", "user", principal.user_id)
        return principal, session

    async def refresh(self, token: str) -> tuple[Principal, Session]:
        """Exchange a refresh token for a new pair.

        Each is good once. It may come again for some seconds as long as nothing that followed from it was
        exchanged, because its answer may have been lost; the pair before is void then. Any other token that
        comes a second time, or that was replaced, was stolen from someone: its whole family is revoked.

        :raises Problem: ``AUTH_REFRESH_INVALID`` or ``AUTH_REFRESH_REUSED``.
        """
        async with self._database.transaction() as tx:
            row = await self._presented(tx, token)
            if row is None:
                raise refresh_invalid()
            principal = _principal(row)
            good = row["revoked_at"] is None and (row["used_at"] is None or await self._was_lost(tx, row))
            if good:
                await tx.execute(
                    "update pharmacy.refresh_tokens set used_at = now() where id = %(id)s",
                    {"id": row["token_id"]},
                )
                session = await self._issue(tx, principal, row["family"])
            else:
                revoked = await self._revoke(tx, row["family"])
                if revoked:
                    await audit.record(tx, principal, "refresh_token_reused", "user", principal.user_id)
        if good:
            return principal, session
        if not revoked:
            raise refresh_invalid()
        log.warn("refresh_token_reused", revoked=revoked)
        raise Problem("AUTH_REFRESH_REUSED", 401, "The refresh token was used before", "Log in again.")

    async def _presented(self, tx: Transaction, token: str) -> Row | None:
        """The token as it is kept, with its user; refreshes of one user go one after the other from here on."""
        return await tx.row(
            """
            select t.id as token_id, t.family, t.used_at, t.revoked_at, u.id, u.store_id, u.role
              from pharmacy.refresh_tokens t join pharmacy.users u on u.id = t.user_id
             where t.token_hash = %(hash)s and t.expires_at > now() and u.active
               for no key update of u, t
            """,
            {"hash": self._tokens.refresh_hash(token)},
        )

    async def _was_lost(self, tx: Transaction, row: Row) -> bool:
        """Whether the answer to a token's first use may have been lost; then what it brought is revoked."""
        found = await tx.row(
            """
            select clock_timestamp() - %(used)s <= make_interval(secs => %(grace)s)
                   and not exists (select from pharmacy.refresh_tokens
                                    where family = %(family)s and id > %(id)s and used_at is not null) as lost
            """,
            {
                "used": row["used_at"],
                "grace": self._refresh_grace,
                "family": row["family"],
                "id": row["token_id"],
            },
        )
        if found is None or not found["lost"]:
            return False
        await self._revoke(tx, row["family"], after=row["token_id"])
        log.info("refresh_repeated")
        return True

    async def _revoke(self, tx: Transaction, family: uuid.UUID, after: int = 0) -> int:
        """Revoke a family, or what came after one of its tokens; how many tokens that were."""
        return await tx.execute(
            """
            update pharmacy.refresh_tokens set revoked_at = now()
             where family = %(family)s and id > %(after)s and revoked_at is null
            """,
            {"family": family, "after": after},
        )

    async def _issue(self, tx: Transaction, principal: Principal, family: uuid.UUID) -> Session:
        refresh = self._tokens.new_refresh()
        await tx.execute(
            """
            insert into pharmacy.refresh_tokens (user_id, family, token_hash, kid, expires_at)
            values (%(user)s, %(family)s, %(hash)s, %(kid)s, now() + make_interval(secs => %(ttl)s))
            """,
            {
                "user": principal.user_id,
                "family": family,
                "hash": refresh.digest,
                "kid": refresh.kid,
                "ttl": self._refresh_ttl,
            },
        )
        return Session(self._tokens.access(principal), refresh.token, self._tokens.access_ttl)


def _principal(row: Row) -> Principal:
    return Principal(row["id"], row["store_id"], row["role"])
