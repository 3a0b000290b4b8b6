# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence as it is published, and what is found when any of it is altered."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import evidence_samples as samples
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharma_ops import config
from pharma_ops.errors import OpsError
from pharma_ops.evidence import ledger
from pharma_ops.evidence.envelope import PAYLOAD_TYPE, pae
from pharma_ops.evidence.parse import parse_statement
from pharma_ops.evidence.publish import publish, statement_bytes
from pharma_ops.evidence.record import DrillRecord, Objective, Verdict, statement
from pharma_ops.evidence.verify import overall, verify_directory, verify_ledger
from pharma_ops.sealing import signing

PRIVATE, PUBLIC = signing.generate()
_, STRANGER = signing.generate()


def put(shelf: Path, record: DrillRecord, key: bytes | None = PRIVATE) -> Path:
    log = shelf.parent / "drill.log"
    log.write_text('{"msg":"stage_started"}\n')
    return publish(record, evidence=config.Evidence(dir=shelf), log_path=log, signing_key=key)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Three drills: two that passed and a failed one between them."""
    directory = tmp_path / "evidence"
    for number, make in enumerate((samples.passed, samples.failed, samples.passed)):
        put(directory, make(f"drill-number-{number}", samples.FINISHED + timedelta(weeks=number)))
    return directory


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pristine") / "evidence"
    for number, make in enumerate((samples.passed, samples.failed)):
        put(directory, make(f"drill-number-{number}", samples.FINISHED + timedelta(weeks=number)))
    return directory


def names(checks: list[object], verdict: Verdict) -> set[str]:
    return {check.name for check in checks if check.verdict is verdict}  # type: ignore[attr-defined]


def test_what_is_published_is_genuine(shelf: Path) -> None:
    for number in range(3):
        checks = verify_directory(shelf / f"drill-number-{number}", PUBLIC)
        assert names(checks, Verdict.PASSED) == {check.name for check in checks}
    checks = verify_ledger(shelf / "ledger.jsonl", STRANGER + PUBLIC)
    assert overall(checks) is Verdict.PASSED
    assert (shelf / "latest").resolve() == shelf / "drill-number-2"
    assert sorted(path.name for path in (shelf / "latest").iterdir()) == [
        "drill.log",
        "evidence.dsse.json",
        "evidence.json",
        "report.html",
        "report.md",
    ]


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_what_is_published_obeys_its_schema(shelf: Path, root: Path, name: str) -> None:
    schema = json.loads((root / "docs/schemas/evidence.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    directory = put(shelf, samples.SAMPLES[name]())
    loaded = json.loads((directory / "evidence.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(loaded)
    assert loaded["predicate"]["verdict"] == name
    lines = (shelf / "ledger.jsonl").read_text().splitlines()
    line_schema = schema["$defs"]["ledgerLine"] | {"$defs": schema["$defs"]}
    for line in lines:
        jsonschema.Draft202012Validator(line_schema).validate(json.loads(line))


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_a_record_is_read_back_as_it_was(name: str) -> None:
    data = statement_bytes(samples.SAMPLES[name]())
    assert statement_bytes(parse_statement(data)) == data


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("passed", []),
        ("passed", ["subject", 0]),
        ("passed", ["subject", 0, "digest"]),
        ("passed", ["predicate"]),
        ("passed", ["predicate", "tool"]),
        ("passed", ["predicate", "rto"]),
        ("passed", ["predicate", "rpo"]),
        ("passed", ["predicate", "stages", 0]),
        ("failed", ["predicate", "stages", 7, "checks", 0]),
        ("unknown", ["predicate", "stages", 0, "error"]),
    ],
)
def test_a_key_that_nobody_knows_is_refused_wherever_it_stands(name: str, place: list[str | int]) -> None:
    loaded = json.loads(statement_bytes(samples.SAMPLES[name]()))
    table = loaded
    for step in place:
        table = table[step]
    table["surplus"] = 1
    with pytest.raises(OpsError, match="has the unknown key 'surplus'") as caught:
        parse_statement(json.dumps(loaded).encode())
    assert caught.value.code == "EVIDENCE_INVALID"


@given(st.floats(0, 1e6), st.integers(1, 100_000))
def test_a_time_near_its_objective_is_read_back_as_it_was(seconds: float, objective: int) -> None:
    record = dataclasses.replace(
        samples.passed(), rto=Objective(seconds=seconds, objective_seconds=objective)
    )
    data = statement_bytes(record)
    assert statement_bytes(parse_statement(data)) == data


@given(st.dictionaries(st.text(), st.one_of(st.floats(), st.text(), st.binary(), st.dates(), st.none())))
def test_odd_facts_do_not_cost_the_evidence(facts: dict[str, object]) -> None:
    stage = dataclasses.replace(samples.stage("select"), facts=facts)
    record = dataclasses.replace(samples.passed(), stages=(stage,))
    data = statement_bytes(record)
    assert statement_bytes(parse_statement(data)) == data


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_altered_byte_is_found(pristine: Path, data: st.DataObject) -> None:
    name = data.draw(
        st.sampled_from(
            [
                "1/evidence.json",
                "1/evidence.dsse.json",
                "1/report.html",
                "1/report.md",
                "1/drill.log",
                "ledger",
            ]
        )
    )
    relative = "ledger.jsonl" if name == "ledger" else f"drill-number-{name}"
    path = pristine / relative
    original = path.read_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != original[position]))
    try:
        path.write_bytes(original[:position] + bytes([value]) + original[position + 1 :])
        checks = verify_directory(pristine / "drill-number-1", PUBLIC)
        assert overall(checks) is Verdict.FAILED
    finally:
        path.write_bytes(original)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_altered_byte_of_the_ledger_is_found_without_a_key(pristine: Path, data: st.DataObject) -> None:
    path = pristine / "ledger.jsonl"
    original = path.read_bytes()
    # The last line is bound by the signed evidence of its own drill alone.
    position = data.draw(st.integers(0, original.index(b"\n")))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != original[position]))
    try:
        path.write_bytes(original[:position] + bytes([value]) + original[position + 1 :])
        assert overall(verify_ledger(path, None)) is Verdict.FAILED
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize(
    "damage", ["first removed", "middle removed", "swapped", "doubled", "cut", "emptied"]
)
def test_a_damaged_ledger_is_found(shelf: Path, damage: str) -> None:
    path = shelf / "ledger.jsonl"
    one, two, three = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        {
            "first removed": two + three,
            "middle removed": one + three,
            "swapped": two + one + three,
            "doubled": one + two + two + three,
            "cut": one + two + three[:-20],
            "emptied": b"",
        }[damage]
    )
    assert overall(verify_ledger(path, PUBLIC)) is Verdict.FAILED
    if damage != "emptied":
        with pytest.raises(OpsError) as caught:
            put(shelf, samples.passed("drill-number-3"))
        assert caught.value.code == "LEDGER_BROKEN"
        assert not (shelf / "drill-number-3").exists()


def test_a_forger_without_the_key_cannot_make_a_chain(shelf: Path) -> None:
    """Whoever can write the files removes the failed drill and binds the rest together again."""
    path = shelf / "ledger.jsonl"
    lines = ledger.read(path)
    forged = dataclasses.replace(lines[2].entry, prev=lines[0].sha256)
    path.write_bytes(ledger.encode(lines[0].entry) + b"\n" + ledger.encode(forged) + b"\n")
    shutil.rmtree(shelf / "drill-number-1")
    assert "ledger_signatures" in names(verify_ledger(path, PUBLIC), Verdict.FAILED)
    assert "ledger_entry" in names(verify_directory(shelf / "drill-number-2", PUBLIC), Verdict.FAILED)


def test_lines_cut_off_at_the_end_need_a_witness(shelf: Path) -> None:
    path = shelf / "ledger.jsonl"
    lines = ledger.read(path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert names(verify_ledger(path, PUBLIC), Verdict.FAILED) == {"directories"}
    shutil.rmtree(shelf / "drill-number-2")
    assert overall(verify_ledger(path, PUBLIC)) is Verdict.PASSED, "nothing here can show it any more"
    checks = verify_ledger(path, PUBLIC, expected_head=lines[2].sha256)
    assert names(checks, Verdict.FAILED) == {"ledger_head"}
    assert overall(verify_ledger(path, PUBLIC, expected_head=lines[1].sha256)) is Verdict.PASSED


def test_a_stripped_signature_is_found(shelf: Path) -> None:
    (shelf / "drill-number-2" / "evidence.dsse.json").unlink()
    assert "files" in names(verify_directory(shelf / "drill-number-2", PUBLIC), Verdict.FAILED)


@pytest.mark.parametrize("name", ["evidence.json", "report.html", "report.md", "drill.log"])
def test_a_missing_or_added_file_is_found(shelf: Path, name: str) -> None:
    (shelf / "drill-number-2" / name).unlink()
    assert overall(verify_directory(shelf / "drill-number-2", PUBLIC)) is Verdict.FAILED
    (shelf / "drill-number-1" / "added.txt").write_text("")
    assert names(verify_directory(shelf / "drill-number-1", PUBLIC), Verdict.FAILED) == {"files"}


def test_a_strangers_key_is_refused_and_none_decides_nothing(shelf: Path) -> None:
    directory = shelf / "latest"
    assert "signature" in names(verify_directory(directory, STRANGER), Verdict.FAILED)
    checks = verify_directory(directory, None)
    assert overall(checks) is Verdict.UNKNOWN
    assert names(checks, Verdict.UNKNOWN) == {"signature", "ledger_signatures"}


def test_unsigned_evidence_says_so(tmp_path: Path) -> None:
    directory = put(tmp_path / "evidence", samples.passed(), key=None)
    assert not (directory / "evidence.dsse.json").exists()
    assert "NÃO ASSINADA" in (directory / "report.html").read_text()
    assert "NOT SIGNED" in (directory / "report.html").read_text()
    assert overall(verify_directory(directory, PUBLIC)) is Verdict.UNKNOWN


def test_a_verdict_that_does_not_follow_is_refused() -> None:
    loaded = statement(samples.failed())
    loaded["predicate"]["verdict"] = "passed"
    with pytest.raises(OpsError, match="verdict") as caught:
        parse_statement(json.dumps(loaded).encode())
    assert caught.value.code == "EVIDENCE_INVALID"


def test_evidence_is_never_overwritten(shelf: Path) -> None:
    before = {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()}
    with pytest.raises(OpsError) as caught:
        put(shelf, samples.passed("drill-number-1"))
    assert caught.value.code == "EVIDENCE_EXISTS"
    assert before == {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()}


def test_the_chain_binds_each_drill_to_the_one_before(shelf: Path) -> None:
    lines = ledger.read(shelf / "ledger.jsonl")
    for number, line in enumerate(lines):
        loaded = json.loads((shelf / line.entry.drill_id / "evidence.json").read_text())
        assert loaded["predicate"]["prev"] == (lines[number - 1].sha256 if number else None)


def test_openssl_verifies_by_hand(shelf: Path, tmp_path: Path) -> None:
    """The commands of docs/evidence.md."""
    envelope = json.loads((shelf / "latest" / "evidence.dsse.json").read_text())
    payload = base64.b64decode(envelope["payload"])
    assert payload == (shelf / "latest" / "evidence.json").read_bytes()
    (tmp_path / "pae").write_bytes(pae(PAYLOAD_TYPE, payload))
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    (tmp_path / "pub").write_bytes(PUBLIC)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", tmp_path / "pub", "-rawin"]
    command += ["-in", tmp_path / "pae", "-sigfile", tmp_path / "sig"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_documented_commands_verify_by_hand(shelf: Path, root: Path, tmp_path: Path) -> None:
    text = (root / "docs/evidence.md").read_text()
    script = text.split("<!-- by-hand -->\n```sh\n")[1].split("```")[0]
    (shelf / "latest" / "evidence-signing.pub").write_bytes(PUBLIC)
    good = subprocess.run(
        ["bash", "-euc", script], cwd=shelf / "latest", capture_output=True, text=True, check=False
    )
    assert good.returncode == 0, good.stderr
    assert "Verified Successfully" in good.stdout
    (shelf / "latest" / "evidence-signing.pub").write_bytes(STRANGER)
    bad = subprocess.run(
        ["bash", "-euc", script], cwd=shelf / "latest", capture_output=True, text=True, check=False
    )
    assert bad.returncode != 0


def test_a_stopped_publication_leaves_no_directory(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pharma_ops.evidence.render.markdown", stop)
    with pytest.raises(KeyboardInterrupt):
        put(shelf, samples.passed("drill-number-3"))
    assert not list(shelf.glob("*number-3*"))
    assert not [path for path in shelf.iterdir() if path.name.startswith(".drill")]
    assert overall(verify_ledger(shelf / "ledger.jsonl", PUBLIC)) is Verdict.PASSED
