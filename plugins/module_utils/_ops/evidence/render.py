# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML page and as Markdown, both from the record that the evidence states."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _deps
from .format import LANGUAGES, Language
from .page import PAGE
from .present import TABLE_DRILLS, build
from .record import DrillRecord
from .style import STYLE
from .view import CheckRow, Context, DrillRow, View

_SYMBOLS = {"passed": "✓", "failed": "✕", "unknown": "?", "limited": "◐", "not_run": "–"}


def html(record: DrillRecord, context: Context, language: Language) -> str:
    """The self-contained page; ``language`` is shown first, the other one is a link away.

    :raises OpsError: ``LIBRARY_MISSING``.
    """
    jinja2 = _deps.load("jinja2")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    order = [language, *(other for other in LANGUAGES if other != language)]
    page: str = environment.from_string(PAGE).render(
        views=[build(record, context, one) for one in order],
        others={one: next(other for other in order if other != one) for one in order},
        style=STYLE,
        evidence_sha256=context.evidence_sha256,
        peak=_peak,
        rows=TABLE_DRILLS,
    )
    return page


def markdown(record: DrillRecord, context: Context, language: Language) -> str:
    """The same facts in the same order, for a ticket or a terminal, in one language."""
    view = build(record, context, language)
    words = view.words
    blocks = [
        f"# {_SYMBOLS[view.kind]} {view.word}",
        f"**{_text(view.sentence)}**",
        _quoted(view.original),
        _text(f"{view.title} · {view.context} · {view.drill_id}"),
        f"## {words['at_risk']}",
        "\n".join(
            f"- {tile.label}: **{_text(tile.value)}**"
            + _aside(" · ".join(filter(None, (tile.state, tile.note))))
            for tile in view.tiles
        ),
        f"## {words['todo']}",
        *(_text(line) for line in view.todo),
        _quoted(view.advice),
        f"    {view.command}\n\n{words['runbook']}: {view.runbook}" if view.command else "",
        f"## {words['checks']}",
        _stage_table(view),
        *_problem_tables(view),
        f"## {words['trend']}",
        _trend_table(view) if len(view.drills) > 1 else words["first_drill"],
        f"## {words['provenance']}",
        "\n".join(f"- {label}: {_text(value)}" for label, value in view.facts),
        "\n".join(f"- {_text(label)}: `{value}`" for label, value in view.digests),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _peak(drills: Sequence[DrillRow]) -> float:
    """The seconds that the highest bar of the chart stands for."""
    return max((row.seconds or 0.0 for row in drills), default=0.0) * 1.08 or 1.0


def _stage_table(view: View) -> str:
    words = view.words
    head = [words[key] for key in ("col_stage", "col_result", "col_expected", "col_observed", "col_time")]
    rows = [
        [stage.label, f"{_SYMBOLS[stage.kind]} {stage.word}", stage.expected, stage.observed, stage.time]
        for stage in view.stages
    ]
    return _table(head, rows)


def _problem_tables(view: View) -> list[str]:
    tables = []
    head = [
        view.words[key] for key in ("col_check", "col_result", "col_expected", "col_observed", "col_evidence")
    ]
    for stage in view.stages:
        if stage.problems:
            rows = [_problem(check) for check in stage.problems]
            tables += [f"### {stage.label}", _table(head, rows), stage.more]
    return tables


def _problem(check: CheckRow) -> list[str]:
    return [check.name, f"{_SYMBOLS[check.kind]} {check.word}", check.expected, check.observed, check.detail]


def _trend_table(view: View) -> str:
    words = view.words
    head = [words["col_date"], words["col_verdict"], "RTO", "RPO", words["col_backup"]]
    rows = [
        [row.date, f"{_SYMBOLS[row.kind]} {row.word}", row.rto, row.rpo, row.backup]
        for row in reversed(view.drills[-TABLE_DRILLS:])
    ]
    return _table(head, rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text if text == "---" else _text(text).replace("|", "\\|")


def _text(text: str) -> str:
    """Text of the outside world on one line, with nothing that Markdown or HTML would act on."""
    flat = " ".join(text.split())
    for letter in "\\`*_[]":
        flat = flat.replace(letter, "\\" + letter)
    return flat.replace("<", "&lt;")


def _quoted(text: str) -> str:
    return f"> {_text(text)}" if text else ""


def _aside(text: str) -> str:
    return f" ({_text(text)})" if text else ""
