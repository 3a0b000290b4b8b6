# SPDX-License-Identifier: GPL-3.0-or-later
"""Products and what of them is good to sell in a store."""

from __future__ import annotations

from .database import Database, Row
from .tokens import Principal


async def listing(
    database: Database, principal: Principal, *, in_stock: bool, minimum: int, limit: int
) -> list[Row]:
    """Active products in the order of their ids, with the units that are good to sell in the user's store.

    :param in_stock: only products of which at least ``minimum`` units can be sold.
    """
    async with database.transaction() as tx:
        return await tx.rows(
            """
            select p.id, p.ean, p.name, p.active_ingredient, p.controlled, p.price, good.available
              from pharmacy.products p
              join pharmacy.stores st on st.id = %(store)s
             cross join lateral (
                   select coalesce(sum(s.quantity), 0)::bigint as available
                     from pharmacy.lots l join pharmacy.stock s on s.lot_id = l.id and s.store_id = st.id
                    where l.product_id = p.id and l.expires_on >= (now() at time zone st.time_zone)::date
                   ) as good
             where p.active and (not %(in_stock)s or good.available >= %(minimum)s)
             order by p.id limit %(limit)s
            """,
            {"store": principal.store_id, "in_stock": in_stock, "minimum": minimum, "limit": limit},
        )
