# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a catalogue of the report's texts holds; ``texts_pt`` and ``texts_en`` fill one each.

Texts may hold ``{names}``; which ones is the same in every language, and a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class StageTexts:
    """How one stage is told.

    :ivar label: its name for people.
    :ivar expected: what must be true for it to pass.
    :ivar failed: the cause, when it failed; ``{names}`` are the first checks that failed.
    :ivar unknown: the cause, when it could not be decided.
    :ivar action: what to do then.
    :ivar command: the command that helps; empty: none.
    """

    label: str
    expected: str
    failed: str
    unknown: str
    action: str
    command: str = "pharma-ops drill run"


@dataclass(frozen=True, kw_only=True)
class Texts:
    """All texts of one language.

    :ivar words: labels and sentences by name.
    :ivar verdicts: the word of a drill's verdict.
    :ivar states: the word of a stage's or check's verdict.
    :ivar stages: by stage name; one that is not in it is told by its own name and English summary.
    :ivar errors: a sentence by ``OpsError`` code; one that is not in it stays in English.
    :ivar error_actions: what to do, by the beginning of an error's code; goes before the stage's action.
    :ivar facts: the label of a fact by its key; one that is not in it is not shown.
    :ivar kinds: the words that a check's name begins with, by their English form.
    """

    words: dict[str, str]
    verdicts: dict[str, str]
    states: dict[str, str]
    stages: dict[str, StageTexts]
    errors: dict[str, str]
    error_actions: dict[str, str]
    facts: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
