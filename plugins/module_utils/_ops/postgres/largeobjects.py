# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large objects: how many, how big, and the hash of their content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from .connection import Target, one_row, translated, value

if TYPE_CHECKING:
    from .connection import Connection

# Trailing zeros are cut and empty pages left out because a hole and a page of zeros read the same,
# and a restore writes pages where the source had holes; the size of each object is hashed beside.
_HASH: LiteralString = """
    WITH page AS (
        SELECT loid, pageno, octet_length(data) AS bytes, rtrim(data, '\\x00'::bytea) AS data
        FROM pg_catalog.pg_largeobject),
    object AS (
        SELECT loid, max(pageno::bigint * current_setting('block_size')::bigint / 4 + bytes) AS bytes
        FROM page GROUP BY loid),
    line AS (
        SELECT loid || ':' || pageno || ':' || encode(data, 'hex') AS text
        FROM page WHERE octet_length(data) > 0
        UNION ALL
        SELECT loid || '=' || bytes FROM object)
    SELECT COALESCE(sum(hashtextextended(text COLLATE "C", 1)), 0)::text || ':'
           || COALESCE(sum(hashtextextended(text COLLATE "C", 2)), 0)::text,
           (SELECT COALESCE(sum(bytes), 0)::bigint FROM object)
    FROM line
"""


@dataclass(frozen=True, kw_only=True)
class LargeObjects:
    """All large objects of a database; ``bytes`` is the sum of their sizes."""

    count: int = 0
    bytes: int = 0
    hash: str = "0:0"


def read(connection: Connection, target: Target) -> LargeObjects:
    """Count and hash in the connection's snapshot.

    :raises OpsError: ``DATABASE_PERMISSION_MISSING`` when the role may not read pg_largeobject.
    """
    with translated(target, "reading the large objects"):
        count = value(connection, "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata")
        if not count:
            return LargeObjects()
        digest, size = one_row(connection, _HASH)
    return LargeObjects(count=count, hash=digest, bytes=size)
