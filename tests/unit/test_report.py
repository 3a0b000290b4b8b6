# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: what it says in each language, and that it is one safe, readable file."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter

import evidence_samples as samples
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops.evidence import ledger, render, texts_en, texts_pt, texts_recovery
from pharma_ops.evidence.format import LANGUAGES, Format, Language
from pharma_ops.evidence.present import CATALOGUES, build
from pharma_ops.evidence.record import Check, DrillRecord, Objective, Verdict
from pharma_ops.evidence.style import STYLE
from pharma_ops.evidence.view import Context

ZONE = "America/Sao_Paulo"
CONTEXT = Context(history=(), evidence_sha256="0" * 64, key_id="00ff" * 4, timezone=ZONE)
PT = Format("pt-BR", ZONE)
EN = Format("en", ZONE)


def with_history() -> Context:
    """Three earlier drills, each of a backup of its own: passed, failed, passed."""
    makers = (samples.passed, samples.failed, samples.passed)
    drills = [
        make(f"drill-old-{week}", samples.FINISHED - timedelta(weeks=3 - week))
        for week, make in enumerate(makers)
    ]
    history = tuple(
        ledger.entry_of(
            dataclasses.replace(drill, backup=drill.backup | {"id": f"2026110{week}T050003Z-9c41f7"}), {}
        )
        for week, drill in enumerate(drills)
    )
    return dataclasses.replace(CONTEXT, history=history)


class Page(HTMLParser):
    """Collects what a page would load or run, and its text by language."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name.startswith("on"):
                self.outside.append(f"{name}={value}")
            if name in ("src", "href", "action", "data") and not (value or "").startswith("#"):
                self.outside.append(f"{name}={value}")
        if tag not in ("meta", "use", "path", "circle", "rect", "line", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("use", "path", "circle", "rect", "line"):
            return
        assert self.open.pop() == tag


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", samples.SAMPLES)
def test_the_page_stands_alone(name: str, language: Language) -> None:
    text = render.html(samples.SAMPLES[name](), with_history(), language)
    page = Page(text)
    assert page.outside == []
    assert page.open == []
    assert not {"script", "link", "iframe", "img", "object", "form"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert len(text.encode()) < 100_000
    assert page.tags.count("main") == 2
    assert page.tags.count("h1") == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("passed", ("APROVADO", "PASSED")),
        ("failed", ("REPROVADO", "FAILED")),
        ("unknown", ("INCONCLUSIVO", "INCONCLUSIVE")),
        ("limited", ("RESTAURÁVEL, NÃO COMPROVADO", "RESTORABLE, NOT PROVEN")),
    ],
)
def test_the_verdict_stands_first_in_words(name: str, words: tuple[str, str]) -> None:
    for language, word in zip(LANGUAGES, words, strict=True):
        text = render.html(samples.SAMPLES[name](), CONTEXT, language)
        assert f'<html lang="{language}">' in text
        assert re.search(r"<title>(.*?) ·", text)[1] == word  # type: ignore[index]
        main = text[text.index(f'<main id="{language}"') :]
        assert main.index(f"<h1>{word}</h1>") < main.index("RTO") < main.index('class="todo"')
        assert main.index('class="todo"') < main.index('class="checks"') < main.index('class="trend"')


def test_a_failed_comparison_names_the_table_and_comes_first() -> None:
    view = build(samples.failed(), with_history(), "pt-BR")
    assert view.sentence == (
        "A cópia restaurada não é igual à origem: tabela public.sale_items, sequência public.sale_items_id_seq."
    )
    first = view.stages[0]
    assert (first.name, first.word, first.evidence) == (
        "compare",
        "reprovada",
        "2 de 61 verificações não aprovadas",
    )
    assert first.problems[0].observed.startswith("603.411 linhas")
    assert [row.kind for row in view.stages] == sorted(
        (row.kind for row in view.stages), key=["failed", "unknown", "not_run", "passed"].index
    )
    assert any("20261102T050003Z-9c41f7" in line and "15/11/2026" in line for line in view.todo)


@pytest.mark.parametrize("scope", ["full", "recovery"])
def test_a_backup_that_failed_is_no_way_out_though_it_was_proven_before(scope: str) -> None:
    earlier = ledger.entry_of(samples.passed("drill-old", samples.FINISHED - timedelta(days=1)), {})
    context = dataclasses.replace(CONTEXT, history=(earlier,))
    failed = dataclasses.replace(samples.failed(), scope=scope)
    assert earlier.backup_id == failed.backup["id"]
    assert build(failed, context, "en").todo[1] == texts_en.WORDS["use_none"]
    # What could not be decided says nothing against it.
    assert earlier.backup_id in build(samples.unknown(), context, "en").todo[1]


def test_a_recovery_says_the_same_in_both_languages_and_where_the_data_are() -> None:
    assert texts_recovery.NEXT_STEPS["en"].keys() == texts_recovery.NEXT_STEPS["pt-BR"].keys()
    assert texts_recovery.STAGES["en"].keys() == texts_recovery.STAGES["pt-BR"].keys()
    for language, words in (
        ("en", ("Nothing was touched", "in place")),
        ("pt-BR", ("Nada foi tocado", "no lugar")),
    ):
        texts = texts_recovery.of_recovery(CATALOGUES[language], language)  # type: ignore[arg-type,index]
        before = (
            "select",
            "preflight",
            "confirm",
            "fetch",
            "verify_artefacts",
            "decrypt",
            "provision",
            "restore",
            "compare",
        )
        for stage in before:
            assert any(word in texts.stages[stage].action for word in words), stage
        for stage, one in texts.stages.items():
            assert one.command == texts_recovery.of_recovery(CATALOGUES["en"], "en").stages[stage].command


def test_an_unreachable_store_says_what_to_check() -> None:
    view = build(samples.unknown(), CONTEXT, "pt-BR")
    assert view.sentence == "O armazenamento externo não responde (etapa: Escolha do backup)."
    assert view.original.startswith("The store s3://")
    assert "armazenamento responde" in view.todo[0]
    assert view.todo[1] == texts_pt.WORDS["use_none"]
    assert view.tiles[2].value == "nunca"


def test_a_missed_objective_is_told_with_both_times() -> None:
    slow = dataclasses.replace(samples.passed(), rto=Objective(seconds=7500, objective_seconds=7200))
    assert build(slow, CONTEXT, "en").sentence == (
        "Everything was restored and is equal, but it took 2 h 05 min, more than the objective of 2 h."
    )
    assert build(slow, CONTEXT, "pt-BR").tiles[0].state == "fora do objetivo"


def test_the_last_proven_restore_comes_from_the_ledger() -> None:
    view = build(samples.failed(), with_history(), "en")
    assert (view.tiles[2].value, view.tiles[3].value) == ("7 d ago", "2026-11-15 02:01:50")
    assert [row.kind for row in view.drills] == ["passed", "failed", "passed", "failed"]
    assert view.drills[-1].current


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> | `x` *y*"


def hostile() -> DrillRecord:
    stage = dataclasses.replace(
        samples.failed().stages[7],
        summary=HOSTILE,
        checks=(
            Check(name=HOSTILE, verdict=Verdict.FAILED, expected=HOSTILE, observed=HOSTILE, detail=HOSTILE),
        ),
        error={"code": "X", "message": HOSTILE, "action": HOSTILE},
    )
    return dataclasses.replace(
        samples.failed(), stages=(stage,), host=HOSTILE, environment=HOSTILE, backup={"id": HOSTILE}
    )


def test_nothing_of_the_outside_becomes_markup() -> None:
    page = Page(render.html(hostile(), CONTEXT, "en"))
    assert page.outside == []
    assert not {"script", "img"} & set(page.tags)
    text = render.markdown(hostile(), CONTEXT, "en")
    assert "<script" not in text
    assert "<img" not in text
    for line in text.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) == 6, line


@given(st.text())
def test_any_text_gives_a_whole_page(text: str) -> None:
    record = samples.failed()
    stage = dataclasses.replace(record.stages[7], summary=text, name=text, checks=())
    context = dataclasses.replace(CONTEXT)
    page = render.html(dataclasses.replace(record, stages=(stage,)), context, "pt-BR")
    assert Page(page).outside == []
    render.markdown(dataclasses.replace(record, stages=(stage,)), context, "en")


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_both_catalogues_say_the_same_things() -> None:
    pt, en = texts_pt.TEXTS, texts_en.TEXTS
    for name in ("words", "verdicts", "states", "errors", "error_actions", "facts"):
        one, two = getattr(pt, name), getattr(en, name)
        assert one.keys() == two.keys(), name
        for key in one:
            assert fields(one[key]) == fields(two[key]), key
    # The stages of a full drill, and the one that only a dump made by others has.
    assert pt.stages.keys() == en.stages.keys() == samples.SECONDS.keys() | {"inspect"}
    for key, texts in pt.stages.items():
        assert fields(texts.failed) == fields(en.stages[key].failed)
        assert fields(texts.unknown) == fields(en.stages[key].unknown)
        assert texts.command == en.stages[key].command


def test_the_runbook_has_a_section_for_every_stage_and_verdict(root: Path) -> None:
    for name in samples.SAMPLES:
        for verdict_of in (samples.SAMPLES[name](),):
            path, _, anchor = build(verdict_of, CONTEXT, "en").runbook.partition("#")
            assert f"\n## {anchor}\n" in (root / path).read_text()
    text = (root / "docs/runbooks/drill.md").read_text()
    for stage in samples.SECONDS:
        assert f"\n## {stage}\n" in text


@pytest.mark.parametrize(
    ("seconds", "pt", "en"),
    [
        (0.0042, "0,004 s", "0.004 s"),
        (0.84, "0,8 s", "0.8 s"),
        (42.4, "42 s", "42 s"),
        (59.7, "1 min", "1 min"),
        (133.412, "2 min 13 s", "2 min 13 s"),
        (3599.6, "1 h", "1 h"),
        (4 * 3600, "4 h", "4 h"),
        (26 * 3600 + 65, "26 h 01 min", "26 h 01 min"),
        (8 * 86400 + 3 * 3600, "8 d 3 h", "8 d 3 h"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, pt: str, en: str) -> None:
    assert PT.duration(seconds) == pt
    assert EN.duration(seconds) == en


def test_numbers_and_dates_follow_the_language() -> None:
    moment = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
    assert PT.number(1_234_567.5, 1) == "1.234.567,5"
    assert EN.number(1_234_567.5, 1) == "1,234,567.5"
    assert PT.exact(133.412) == "133,412 s"
    assert PT.size(412_883_112) == "393,8 MiB"
    assert PT.local(moment) == "22/11/2026 22:02:03 UTC−03:00"
    assert EN.local(moment, named=True) == "2026-11-22 22:02:03 America/Sao_Paulo (UTC−03:00)"
    assert PT.utc(moment) == "23/11/2026 01:02:03 UTC"
    assert Format("en", "Nowhere/Land").local(moment) == "2026-11-23 01:02:03 UTC"


def luminance(colour: str) -> float:
    """WCAG 2.1, relative luminance."""
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, two: str) -> float:
    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_text_has_enough_contrast_in_every_scheme() -> None:
    schemes = [
        dict(re.findall(r"--([a-z-]+):(#[0-9a-f]+)", block))
        for block in re.findall(r":root\{([^}]*)\}", STYLE)
    ]
    assert len(schemes) == 3, "light, dark, print"
    for scheme in schemes:
        for ink in ("ink", "soft"):
            for ground in ("bg", "panel", "pass-bg", "fail-bg", "unk-bg", "lim-bg", "off-bg"):
                assert contrast(scheme[ink], scheme[ground]) >= 4.5, (ink, ground, scheme)
        for kind in ("pass", "fail", "unk", "lim", "off"):
            for ground in ("bg", f"{kind}-bg"):
                assert contrast(scheme[kind], scheme[ground]) >= 4.5, (kind, ground, scheme)
