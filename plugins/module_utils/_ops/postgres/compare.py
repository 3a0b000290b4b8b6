# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says where two contents differ. Pure: it decides on data that was read before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .content import Content, TableContent
    from .sequences import SequenceRange

ABSENT = "absent"

EXTRA_IS_HARMLESS = frozenset({"schema public", "comment on schema public"})
"""A new database has them; pg_dump cannot say that the source dropped them."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not as it should be.

    :ivar kind: ``table``, ``materialized view``, ``sequence``, ``structure``, ``extension``, ``role``,
        ``large objects``, ``encoding`` or ``hash version``.
    :ivar name: the object's, quoted as SQL needs it.
    """

    kind: str
    name: str
    expected: str
    observed: str


def compare(expected: Content, observed: Content) -> list[Difference]:
    """Everything in which ``observed`` is not what ``expected`` promises; empty: they are equal.

    The server's version and the version of the collation library may differ. A role that only
    ``observed`` has is no difference: a throw-away cluster has a superuser of its own.
    """
    if expected.hash_version != observed.hash_version:
        return [
            Difference(
                kind="hash version",
                name="content hash",
                expected=str(expected.hash_version),
                observed=str(observed.hash_version),
            )
        ]
    differences = _texts("encoding", {"database": expected.encoding}, {"database": observed.encoding})
    differences += _tables(expected.tables, observed.tables)
    differences += _sequences(expected.sequences, observed.sequences)
    differences += [
        item
        for item in _texts("structure", expected.structure, observed.structure)
        if not (item.expected == ABSENT and item.name in EXTRA_IS_HARMLESS)
    ]
    differences += _texts("extension", expected.extensions, observed.extensions)
    differences += [
        item for item in _texts("role", expected.roles, observed.roles) if item.expected != ABSENT
    ]
    if expected.large_objects != observed.large_objects:
        differences.append(_large_objects(expected, observed))
    return differences


def _texts(kind: str, expected: Mapping[str, str], observed: Mapping[str, str]) -> list[Difference]:
    return [
        Difference(
            kind=kind, name=name, expected=expected.get(name, ABSENT), observed=observed.get(name, ABSENT)
        )
        for name in sorted(expected.keys() | observed.keys())
        if expected.get(name) != observed.get(name)
    ]


def _tables(expected: Mapping[str, TableContent], observed: Mapping[str, TableContent]) -> list[Difference]:
    differences = []
    for name in sorted(expected.keys() | observed.keys()):
        wanted, found = expected.get(name), observed.get(name)
        if wanted is None or found is None or not _same(wanted, found):
            differences.append(
                Difference(
                    kind=(wanted or found).kind,  # type: ignore[union-attr]
                    name=name,
                    expected=_describe(wanted, restored=True),
                    observed=_describe(found, restored=False),
                )
            )
    return differences


def _same(wanted: TableContent, found: TableContent) -> bool:
    if (wanted.kind, wanted.populated) != (found.kind, found.populated):
        return False
    if wanted.kind == "table" or not wanted.populated:
        return (wanted.rows, wanted.hash) == (found.rows, found.hash)
    if wanted.undecided:
        return found.defined_hash is not None and found.hash == found.defined_hash
    return (wanted.defined_rows, wanted.defined_hash) == (found.rows, found.hash)


def _describe(table: TableContent | None, *, restored: bool) -> str:
    if table is None:
        return ABSENT
    if not table.populated:
        return f"{table.kind} that is not populated"
    if restored and table.defined_hash is not None:
        if table.undecided:
            return f"what its query gives where it was restored ({table.undecided})"
        return f"{table.defined_rows} rows, hash {table.defined_hash}"
    return f"{table.rows} rows, hash {table.hash}"


def _sequences(
    expected: Mapping[str, SequenceRange], observed: Mapping[str, SequenceRange]
) -> list[Difference]:
    differences = []
    for name in sorted(expected.keys() | observed.keys()):
        wanted, found = expected.get(name), observed.get(name)
        if wanted is None or found is None or not wanted.holds(found):
            differences.append(
                Difference(
                    kind="sequence",
                    name=name,
                    expected=_describe_range(wanted),
                    observed=_describe_range(found),
                )
            )
    return differences


def _describe_range(sequence: SequenceRange | None) -> str:
    if sequence is None:
        return ABSENT
    if sequence.low == sequence.high:
        return f"next value {sequence.low}"
    return f"next value from {sequence.low} to {sequence.high}"


def _large_objects(expected: Content, observed: Content) -> Difference:
    def text(content: Content) -> str:
        objects = content.large_objects
        return f"{objects.count} objects, {objects.bytes} bytes, hash {objects.hash}"

    return Difference(
        kind="large objects", name="large objects", expected=text(expected), observed=text(observed)
    )
