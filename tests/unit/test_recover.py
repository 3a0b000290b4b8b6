# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recovery decides without touching anything: which set, which directory, which words."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import evidence_samples as samples
import pytest

from pharma_ops.errors import OpsError
from pharma_ops.evidence import ledger, parse, present, publish, render, texts_en, texts_pt, texts_recovery
from pharma_ops.evidence.record import StageResult, Verdict
from pharma_ops.evidence.view import Context
from pharma_ops.recover import record
from pharma_ops.recover.deciding import newest_proven, told
from pharma_ops.recover.stages import move, sweep
from pharma_ops.sealing import signing
from pharma_ops.store.local import LocalStore

DATA = Path("/var/lib/postgresql/17/main")
STAGES = (
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
STAGES += ("stop", "set_aside", "settle", "teardown", "evidence")


def noted(number: int, step: record.Step, aside: Path | None, data: Path = DATA) -> record.Record:
    return record.Record(
        recovery_id=f"recovery-20260215T12345{number}Z-0a1b2c",
        database="shop",
        backup_id="20260215T123456Z-0a1b2c",
        major=17,
        cluster="main",
        data=data,
        aside=aside,
        was_running=True,
        started_at="2026-02-15T12:34:56.000Z",
        step=step,
    )


def test_a_record_is_read_back_as_it_was(tmp_path: Path) -> None:
    first, second = noted(1, "placed", tmp_path), noted(2, "finished", None)
    for item in (second, first):
        record.write(tmp_path, item)
    assert record.read_all(tmp_path) == [first, second]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schemaVersion": 2}', '{"schemaVersion": 1, "aside": null}']
)
def test_a_record_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = record.directory(tmp_path) / "recovery-x.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(OpsError, match=str(path)) as caught:
        record.read_all(tmp_path)
    assert caught.value.code == "RECOVERY_RECORD_INVALID"


def test_only_the_newest_recovery_of_a_directory_may_be_unfinished() -> None:
    killed, done = noted(1, "placing", None), noted(2, "finished", None)
    elsewhere = noted(3, "placed", None, Path("/srv/other"))
    assert record.unfinished([killed], DATA) == killed
    assert record.unfinished([killed, done, elsewhere], DATA) is None
    assert record.unfinished([], DATA) is None


def test_the_newest_directory_that_still_lies_aside_can_come_back(tmp_path: Path) -> None:
    there, gone = noted(1, "finished", tmp_path), noted(2, "finished", tmp_path / "gone")
    undone, nothing = noted(3, "undone", tmp_path), noted(4, "finished", None)
    assert record.reversible([there, gone, undone, nothing]) == there
    assert record.reversible([gone, undone, nothing]) is None


def test_what_an_interrupted_recovery_left_is_told(tmp_path: Path) -> None:
    assert str(tmp_path) in told(noted(1, "placing", tmp_path))
    assert f"before {DATA} was set aside" in told(noted(1, "setting_aside", tmp_path / "no"))
    assert "no older data" in told(noted(1, "placing", None))


def test_a_taken_name_is_never_taken_over(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    target.mkdir()
    with pytest.raises(OpsError) as caught:
        move(source, target)
    assert caught.value.code == "DATA_NOT_MOVED"
    assert source.is_dir()
    target.rmdir()
    move(source, target)
    assert not source.exists()


def test_a_sweep_removes_what_was_being_made_and_no_data(tmp_path: Path) -> None:
    data = tmp_path / "main"
    names = [
        "main",
        "main.before-recovery-1",
        "main.undone-recovery-1",
        "main.recovering-recovery-1",
        "main.recovering-recovery-2",
    ]
    names += ["other.recovering-recovery-1", "main.recovering-by-hand"]
    for name in names:
        (tmp_path / name).mkdir()
    assert sweep(data, keep="recovery-2") == ["recovery-1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        set(names) - {"main.recovering-recovery-1"}
    )


def test_the_newest_proven_set_is_one_that_a_full_drill_passed(tmp_path: Path) -> None:
    """Not the newest of all, not one that failed, not one of a recovery, not one that is gone."""
    ids = [f"2026021{day}T120000Z-0a1b2c" for day in range(1, 6)]
    for backup_id in ids[1:]:
        directory = tmp_path / "store/shop" / backup_id
        directory.mkdir(parents=True)
        (directory / "manifest.json").touch()
    verdicts = [
        ("full", Verdict.PASSED),
        ("full", Verdict.PASSED),
        ("full", Verdict.FAILED),
        ("recovery", Verdict.PASSED),
        ("full", Verdict.PASSED),
    ]
    (key, public), (forger, _) = signing.generate(), signing.generate()
    path, head = tmp_path / "ledger.jsonl", None
    for number, (scope, verdict) in enumerate(verdicts):
        entry = dataclasses.replace(
            ledger.entry_of(samples.passed(), {}),
            drill_id=f"drill-{number:08d}",
            scope=scope,
            verdict=verdict,
            backup_id=ids[number],
            prev=head,
        )
        # A line that another key signed is no proof, whatever it says.
        ledger.append(path, ledger.signed(entry, forger if number == 4 else key))
        head = ledger.head(ledger.read(path))
    store = LocalStore(tmp_path / "store")
    assert newest_proven(store, "shop", path, public) == ids[1]
    with pytest.raises(OpsError) as caught:
        newest_proven(store, "payroll", path, public)
    assert caught.value.code == "NO_PROVEN_BACKUP"


def a_recovery(verdict: Verdict = Verdict.PASSED, at: str = "settle") -> bytes:
    stages = tuple(
        StageResult(name=name, required=True, verdict=verdict if name == at else Verdict.PASSED, seconds=1.0)
        for name in STAGES
    )
    made = dataclasses.replace(
        samples.passed(),
        drill_id="recovery-20260215T123456Z-0a1b2c",
        scope="recovery",
        stages=stages,
        release={},
    )
    return publish.statement_bytes(made)


CONTEXT = Context(history=(), evidence_sha256="0" * 64, key_id=None, timezone="America/Sao_Paulo")


def test_a_recovery_is_read_back_and_rendered_in_both_languages() -> None:
    read = parse.parse_statement(a_recovery())
    assert (read.scope, read.verdict) == ("recovery", "passed")
    page = render.html(read, CONTEXT, "pt-BR")
    assert "Recuperação da produção" in page
    assert "Recovery of production" in page
    assert "sells on it" not in render.markdown(read, CONTEXT, "en")


def test_late_data_do_not_make_a_recovery_fail() -> None:
    """What is lost is lost; the database is back all the same."""
    read = parse.parse_statement(a_recovery())
    late = dataclasses.replace(
        read, rpo=dataclasses.replace(read.rpo, seconds=1e9), rto=dataclasses.replace(read.rto, seconds=1e9)
    )
    assert late.verdict is Verdict.PASSED
    assert "objective" not in late.cause
    assert dataclasses.replace(late, scope="full").verdict is Verdict.FAILED


def test_the_languages_say_the_same_and_nothing_unknown() -> None:
    def fields(text: str) -> list[str]:
        return sorted(re.findall(r"\{(\w*)\}", text))

    english, portuguese = texts_recovery.STAGES["en"], texts_recovery.STAGES["pt-BR"]
    assert english.keys() == portuguese.keys()
    assert texts_recovery.WORDS["en"].keys() == texts_recovery.WORDS["pt-BR"].keys()
    assert texts_recovery.WORDS["en"].keys() <= texts_en.TEXTS.words.keys() & texts_pt.TEXTS.words.keys()
    for name, texts in english.items():
        assert fields(texts.failed) == fields(portuguese[name].failed)
        assert fields(texts.unknown) == fields(portuguese[name].unknown)
        assert texts.command == portuguese[name].command


@pytest.mark.parametrize("stage", STAGES)
def test_the_runbook_has_a_section_for_every_stage(root: Path, stage: str) -> None:
    read = parse.parse_statement(a_recovery(Verdict.UNKNOWN, stage))
    page, _, anchor = present.build(read, CONTEXT, "en").runbook.partition("#")
    assert (page, anchor) == ("docs/runbooks/recover.md", stage)
    assert f"## {stage}\n" in (root / page).read_text()
