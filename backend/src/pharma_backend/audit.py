# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit log: who did what, in the transaction that did it."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from . import context
from .database import Transaction
from .tokens import Principal


async def record(
    tx: Transaction,
    principal: Principal,
    action: str,
    entity: str | None = None,
    entity_id: int | None = None,
    **details: Any,
) -> None:
    """Add a row; ``details`` hold ids and amounts, never a person's data."""
    request = context.current()
    await tx.execute(
        """
        insert into pharmacy.audit_log (user_id, store_id, action, entity, entity_id, request_id, details)
        values (%(user)s, %(store)s, %(action)s, %(entity)s, %(entity_id)s, %(request)s, %(details)s)
        """,
        {
            "user": principal.user_id,
            "store": principal.store_id,
            "action": action,
            "entity": entity,
            "entity_id": entity_id,
            "request": request.request_id if request else None,
            "details": Jsonb(details),
        },
    )
