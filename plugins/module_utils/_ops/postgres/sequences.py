# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Positions of sequences. They are not transactional, so a backup knows a range, not a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from .connection import Connection

_LIST: LiteralString = """
    SELECT format('%I.%I', n.nspname, c.relname), s.seqincrement, s.seqcycle, s.seqmin, s.seqmax
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                      AND d.deptype = 'e')
    ORDER BY 1
"""
_AT_ONCE = 100


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a sequence stands at one moment; ``next_value`` is what nextval would return."""

    last_value: int
    next_value: int
    cycle_low: int | None = None
    cycle_high: int | None = None


@dataclass(frozen=True, kw_only=True)
class SequenceRange:
    """A restored sequence is right when its next value is between ``low`` and ``high``, both included.

    :ivar last_value: as it was read first, for the reader of the manifest.
    """

    low: int
    high: int
    last_value: int

    def holds(self, other: SequenceRange) -> bool:
        """Whether all that ``other`` allows is allowed here."""
        return self.low <= other.low and other.high <= self.high


def read(connection: Connection) -> dict[str, Position]:
    """The position of every sequence that is dumped, at this moment and not in a snapshot."""
    facts = {row[0]: row[1:] for row in connection.execute(_LIST)}
    names = list(facts)
    positions: dict[str, Position] = {}
    for start in range(0, len(names), _AT_ONCE):
        batch = names[start : start + _AT_ONCE]
        query = " UNION ALL ".join(
            f"SELECT {number}, last_value, is_called FROM {name}" for number, name in enumerate(batch)
        )
        for number, last_value, is_called in connection.execute(query.encode()):
            increment, cycles, low, high = facts[batch[number]]
            positions[batch[number]] = Position(
                last_value=last_value,
                next_value=last_value + increment if is_called else last_value,
                cycle_low=low if cycles else None,
                cycle_high=high if cycles else None,
            )
    return positions


def between(before: dict[str, Position], after: dict[str, Position]) -> dict[str, SequenceRange]:
    """What a dump made between two readings may have seen of each sequence of the first reading.

    A sequence that cycles and whose readings differ may have gone round, so any value is possible.
    """
    return {name: _range(position, after.get(name, position)) for name, position in before.items()}


def _range(before: Position, after: Position) -> SequenceRange:
    ends = [before.next_value, after.next_value]
    if before != after and before.cycle_low is not None and before.cycle_high is not None:
        ends += [before.cycle_low, before.cycle_high]
    return SequenceRange(low=min(ends), high=max(ends), last_value=before.last_value)
