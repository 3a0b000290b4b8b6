# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report shows, as plain text ready for a page: one :class:`View` per language, no markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .format import Language
from .ledger import Entry


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure of what is at risk. ``kind`` is a verdict's value or empty for none."""

    label: str
    value: str
    note: str
    kind: str = ""
    state: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckRow:
    """One check of a stage."""

    name: str
    kind: str
    word: str
    expected: str
    observed: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage. ``observed`` is English when ``foreign``; ``problems`` are its checks that did not pass."""

    name: str
    label: str
    kind: str
    word: str
    optional: bool
    expected: str
    observed: str
    foreign: bool
    evidence: str
    time: str
    exact: str
    problems: tuple[CheckRow, ...] = ()
    more: str = ""


@dataclass(frozen=True, kw_only=True)
class DrillRow:
    """One drill of the trend."""

    date: str
    kind: str
    word: str
    rto: str
    rpo: str
    backup: str
    seconds: float | None
    current: bool


@dataclass(frozen=True, kw_only=True)
class View:
    """Everything the page of one language shows.

    :ivar words: the labels of the language.
    :ivar sentence: why the verdict is what it is.
    :ivar original: the same in the tool's own English words.
    :ivar advice: the tool's own next step, in English.
    :ivar facts: (label, value) of the provenance.
    """

    language: Language
    words: dict[str, str]
    title: str
    context: str
    drill_id: str
    kind: str
    word: str
    sentence: str
    original: str
    tiles: tuple[Tile, ...]
    todo: tuple[str, ...]
    command: str
    advice: str
    runbook: str
    stages: tuple[StageRow, ...]
    drills: tuple[DrillRow, ...]
    objective_seconds: float
    objective: str
    facts: tuple[tuple[str, str], ...]
    digests: tuple[tuple[str, str], ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the report needs besides the record.

    :ivar history: the drills before this one in the ledger, oldest first.
    :ivar evidence_sha256: digest of ``evidence.json``.
    :ivar key_id: of the key that signed; None: not signed.
    """

    history: Sequence[Entry]
    evidence_sha256: str
    key_id: str | None
    timezone: str = "UTC"
