# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expressions as PostgreSQL prints them, brought to the form that they have after a dump and restore.

What the server prints of an expression is not always what it prints after reading that text again. Two
spellings are known to move; both mean the same before and after, so they count as equal:

- ``x BETWEEN 1 AND 2 AND y`` is printed as ``(((x >= 1) AND (x <= 2)) AND y)``, which the parser reads as one
  list of three (makeAndExpr in the server's gram.y flattens it).
- ``x IN ('a', 'b')`` on a varchar is printed as ``(ARRAY['a'::t, 'b'::t])::text[]``; reading that text again
  moves the cast into the elements.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_PIECES = re.compile(r"""'[^']*'?|"[^"]*"?|[()]|\s(?:AND|OR)\s|[^'"()\s]+|\s""")
_OPERATORS = ("AND", "OR")


def stable(text: str) -> str:
    """The form that does not change any more by dump and restore."""
    return flattened(_casts_in_elements(text))


@dataclass
class _Group:
    """What stands between a pair of parentheses: texts and groups, in order."""

    items: list[str | _Group] = field(default_factory=list)
    closed: bool = False

    @property
    def operator(self) -> str:
        """AND or OR when the members of the group are joined by it, else empty."""
        found = {item.strip() for item in self.items if isinstance(item, str) and item.strip() in _OPERATORS}
        return found.pop() if len(found) == 1 else ""

    def text(self) -> str:
        """The group's content without its own parentheses."""
        return "".join(item if isinstance(item, str) else item.whole() for item in self.items)

    def whole(self) -> str:
        """The group with its parentheses."""
        return f"({self.text()}{')' if self.closed else ''}"


def flattened(text: str) -> str:
    """Take the parentheses from every conjunction within a conjunction, and likewise for OR.

    Only parentheses are ever removed. Text that is no expression (a function's body) may have them
    unbalanced; it comes out as it went in but for pairs that stand as a member of such a list.
    """
    root = _Group()
    stack = [root]
    for piece in _PIECES.findall(text):
        if piece == "(":
            group = _Group()
            stack[-1].items.append(group)
            stack.append(group)
        elif piece == ")" and len(stack) > 1:
            stack[-1].closed = True
            _splice(stack.pop())
        else:
            stack[-1].items.append(piece)
    return root.text()


def _splice(group: _Group) -> None:
    """Replace each member that is a list by the same operator with its own members."""
    operator = group.operator
    if not operator:
        return
    items: list[str | _Group] = []
    for position, item in enumerate(group.items):
        alone = _is_operator(group.items, position - 1) and _is_operator(group.items, position + 1)
        if isinstance(item, _Group) and alone and item.operator == operator:
            items.extend(item.items)
        else:
            items.append(item)
    group.items = items


def _is_operator(items: list[str | _Group], position: int) -> bool:
    """Whether there is an operator at a position; both ends of a list count as one."""
    if not 0 <= position < len(items):
        return True
    item = items[position]
    return isinstance(item, str) and item.strip() in _OPERATORS


def _casts_in_elements(text: str) -> str:
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
