# SPDX-License-Identifier: GPL-3.0-or-later
"""A request that changes something: one transaction, and one effect for each idempotency key."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from .. import idempotency, log
from ..database import Database, Transaction
from ..idempotency import Claim, Kept
from ..tokens import Principal
from .services import ServicesDep

Document = dict[str, Any]
KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=idempotency.PATTERN,
        description="Makes the request safe to repeat: the same key and request give the same answer.",
    ),
]
REPLAYED = "Idempotency-Replayed"


class Change:
    """The change that a request asks for, with the key that it carries."""

    def __init__(self, database: Database, method: str, path: str, key: str | None) -> None:
        self._database = database
        self._place = (method, path)
        self._key = key

    async def make(
        self,
        principal: Principal,
        body: BaseModel | None,
        work: Callable[[Transaction], Awaitable[Document]],
        done: Callable[[Document], None],
        *,
        model: type[BaseModel],
        status: int = 200,
    ) -> Response:
        """Do the work, or give the answer of the request that did it.

        The answer is rendered before the commit: what cannot be answered is not done.

        :param work: makes the change in the transaction and returns its document.
        :param done: writes the event of the change, once it is committed.
        :param model: the form of the answer.
        :raises Problem: what ``work`` raises, ``IDEMPOTENCY_IN_PROGRESS`` or ``IDEMPOTENCY_KEY_REUSED``.
        """
        claim = self._claim(principal, body)
        async with self._database.transaction() as tx:
            kept = await idempotency.recall(tx, claim) if claim else None
            if kept is None:
                document = await work(tx)
                answer = model.model_validate(document).model_dump_json(by_alias=True).encode()
                if claim:
                    await idempotency.keep(tx, claim, Kept(status, answer))
        if kept is not None:
            log.info("answer_replayed", status=kept.status)
            return _response(kept, {REPLAYED: "true"})
        done(document)
        return _response(Kept(status, answer))

    def _claim(self, principal: Principal, body: BaseModel | None) -> Claim | None:
        if self._key is None:
            return None
        return Claim.of(principal, self._key, *self._place, body.model_dump_json() if body else "")


def _response(kept: Kept, headers: dict[str, str] | None = None) -> Response:
    return Response(kept.answer, kept.status, headers, media_type="application/json")


async def change(request: Request, shared: ServicesDep, key: KeyHeader = None) -> Change:
    """A dependency: the change that the request asks for."""
    return Change(shared.database, request.method, request.url.path, key)


ChangeDep = Annotated[Change, Depends(change)]
