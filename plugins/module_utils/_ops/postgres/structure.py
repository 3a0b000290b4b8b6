# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The structure of a database as a flat inventory: the name of each object and what defines it.

Names are quoted as SQL needs them. Texts that may hold code or data (function bodies, queries of
views, comments, settings) stand as digests, because the manifest of a backup is not encrypted.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from .structure_sql import DIGESTED, PLAIN, ROLES

if TYPE_CHECKING:
    from .connection import Connection


def read(connection: Connection) -> dict[str, str]:
    """Every object's definition, owner, privileges and comment; members of extensions are left out."""
    found: dict[str, str] = {}
    for query in PLAIN:
        for name, definition in connection.execute(query):
            found[name] = stable(definition)
    for query in DIGESTED:
        for name, facts, text in connection.execute(query):
            digest = hashlib.sha256(stable(text).encode()).hexdigest()[:32]
            found[name] = f"{facts}; sha256 {digest}".removeprefix("; ")
    return dict(sorted(found.items()))


def read_roles(connection: Connection) -> dict[str, str]:
    """Attributes and memberships of every role of the cluster but the built-in ones."""
    return dict(connection.execute(ROLES).fetchall())


def stable(text: str) -> str:
    """Bring an expression to the form that it has after a dump and restore.

    PostgreSQL prints ``x IN ('a', 'b')`` on a varchar as ``(ARRAY['a'::t, 'b'::t])::text[]``; reading
    that text again moves the cast into the elements. Both forms mean the same and count as equal.
    """
    begin = 0
    while (start := text.find("(ARRAY[", begin)) >= 0:
        inside = start + len("(ARRAY[")
        items, end = _items(text, inside)
        cast, past = _array_cast(text, end)
        if cast:
            moved = ", ".join(f"({item})::{cast}" for item in items)
            text = f"{text[:start]}ARRAY[{moved}]{text[past:]}"
        begin = start + 1
    return text


def _items(text: str, start: int) -> tuple[list[str], int]:
    """The elements between the brackets that open before ``start``, and where the closing one is."""
    items: list[str] = []
    depth, quoted, begin = 0, False, start
    for position in range(start, len(text)):
        letter = text[position]
        if letter == "'":
            quoted = not quoted
        if quoted:
            continue
        if letter in "([":
            depth += 1
        elif letter == "]" and depth == 0:
            return [*items, text[begin:position].strip()], position
        elif letter in ")]":
            depth -= 1
        elif letter == "," and depth == 0:
            items.append(text[begin:position].strip())
            begin = position + 1
    return items, len(text)


def _array_cast(text: str, end: int) -> tuple[str, int]:
    """The element type of a cast ``])::type[]`` that begins at ``end``, and where it ends."""
    head = "])::"
    if not text.startswith(head, end):
        return "", end
    past = text.find("[]", end + len(head))
    name = text[end + len(head) : past]
    if past < 0 or not all(letter.isalnum() or letter in ' _."' for letter in name):
        return "", end
    return name, past + 2
