# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks evidence as a stranger would: with the files and the public key alone, without network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from ..errors import OpsError
from . import envelope, ledger
from .parse import parse_statement
from .publish import ENVELOPE, REPORT_HTML, STATEMENT
from .record import Check, DrillRecord, Verdict

_DIGEST_IN_REPORT = '<meta name="evidence-sha256" content="{}">'


def verify_directory(path: Path, public_keys_pem: bytes | None) -> list[Check]:
    """Check one drill's directory and its place in the ledger beside it.

    Nothing is raised for evidence that is wrong: every finding is a check. ``unknown`` means that it
    could not be decided: no public key was given, or the evidence was never signed.
    """
    path = path.resolve()
    statement = _read(path / STATEMENT)
    sealed = _read(path / ENVELOPE)
    checks = [_form(statement), _signature(sealed, public_keys_pem), _payload(statement, sealed)]
    checks.append(_report(statement, _read(path / REPORT_HTML)))
    lines, chain = _chain(path.parent / ledger.NAME)
    checks.append(chain)
    if lines is not None:
        checks += _place(path, statement, lines, public_keys_pem)
    return checks


def verify_ledger(path: Path, public_keys_pem: bytes | None, expected_head: str | None = None) -> list[Check]:
    """Check a whole ledger: chain, signatures, and the directories that stand beside it.

    :param path: ``ledger.jsonl``.
    :param expected_head: digest of a line that was the last one once; it must still be in the ledger.
    """
    lines, chain = _chain(path)
    if lines is None:
        return [chain]
    checks = [chain, _line_signatures(lines, public_keys_pem), _directories(path.parent, lines)]
    if expected_head is not None:
        found = any(line.sha256 == expected_head for line in lines)
        checks.append(
            _check(
                "ledger_head",
                found,
                f"a line with the digest {expected_head}",
                "it is there" if found else "no such line: lines are missing at the end",
            )
        )
    return checks


def overall(checks: list[Check]) -> Verdict:
    """Failed when one check failed, unknown when one is undecided, else passed."""
    verdicts = {check.verdict for check in checks}
    if Verdict.FAILED in verdicts:
        return Verdict.FAILED
    return Verdict.PASSED if verdicts == {Verdict.PASSED} else Verdict.UNKNOWN


def _form(statement: bytes | None) -> Check:
    expected = "an in-toto statement of a drill whose verdict follows from its stages"
    if statement is None:
        return _check("statement", False, expected, f"no {STATEMENT}")
    return _attempt("statement", expected, lambda: f"verdict {parse_statement(statement).verdict.value}")


def _signature(sealed: bytes | None, keys: bytes | None) -> Check:
    expected = "an envelope signed by a trusted key"
    if sealed is None:
        return _check("signature", None, expected, f"no {ENVELOPE}: the evidence is not signed")
    if keys is None:
        observed = _attempt("signature", expected, lambda: str(len(envelope.payload_of(sealed))))
        if observed.verdict is Verdict.FAILED:
            return observed
        return _check("signature", None, expected, "no public key was given to check it with")
    return _attempt(
        "signature", expected, lambda: f"signed by the key {envelope.open_sealed(sealed, keys).key_id}"
    )


def _payload(statement: bytes | None, sealed: bytes | None) -> Check:
    expected = f"the envelope's payload is exactly the bytes of {STATEMENT}"
    if sealed is None:
        return _check("payload", None, expected, "the evidence is not signed")

    def compare() -> str:
        if envelope.payload_of(sealed) != statement:
            raise OpsError("PAYLOAD_DIFFERS", "they differ", "Trust the payload of the envelope alone.")
        return "equal"

    return _attempt("payload", expected, compare)


def _report(statement: bytes | None, report: bytes | None) -> Check:
    digest = hashlib.sha256(statement or b"").hexdigest()
    expected = f"{REPORT_HTML} was made of evidence with the digest {digest}"
    if report is None:
        return _check("report", False, expected, f"no {REPORT_HTML}")
    named = _DIGEST_IN_REPORT.format(digest).encode() in report
    return _check("report", named, expected, "it names this digest" if named else "it names another digest")


def _chain(path: Path) -> tuple[tuple[ledger.Line, ...] | None, Check]:
    expected = "every line bound to the line before it"
    if not path.exists():
        return None, _check("ledger", None, expected, f"there is no {path}: what came before is not shown")
    try:
        lines = ledger.read(path)
    except OpsError as error:
        return None, _check("ledger", False, expected, error.message)
    if not lines:
        return None, _check("ledger", False, expected, f"there is no line in {path}")
    return lines, _check("ledger", True, expected, f"{len(lines)} lines, head {ledger.head(lines)}")


def _place(
    path: Path, statement: bytes | None, lines: tuple[ledger.Line, ...], keys: bytes | None
) -> list[Check]:
    line = next((line for line in lines if line.entry.drill_id == path.name), None)
    if line is None:
        return [_check("ledger_entry", False, f"a line for {path.name}", "there is none")]
    return [
        _entry(line, statement),
        _files(path, line.entry),
        _line_signatures(lines, keys),
    ]


def _entry(line: ledger.Line, statement: bytes | None) -> Check:
    expected = "the ledger says of this drill what its evidence says"

    def compare() -> str:
        record = parse_statement(statement or b"")
        if _essence(ledger.entry_of(record, {})) != _essence(line.entry):
            raise OpsError("LEDGER_DIFFERS", f"line {line.number} says something else", "")
        return f"line {line.number}"

    return _attempt("ledger_entry", expected, compare)


def _essence(entry: ledger.Entry) -> tuple[object, ...]:
    return (
        entry.drill_id,
        entry.environment,
        entry.scope,
        entry.verdict,
        entry.finished_at,
        entry.rto_seconds,
        entry.rto_objective_seconds,
        entry.rpo_seconds,
        entry.rpo_objective_seconds,
        entry.newest_change_at,
        entry.backup_id,
        entry.prev,
    )


def _files(path: Path, entry: ledger.Entry) -> Check:
    there = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir() if file.is_file()
    }
    wrong = sorted(
        name for name in there.keys() | entry.files.keys() if there.get(name) != entry.files.get(name)
    )
    expected = f"{len(entry.files)} files with the digests of the ledger"
    return _check(
        "files", not wrong, expected, f"not as recorded: {', '.join(wrong)}" if wrong else "as recorded"
    )


def _line_signatures(lines: tuple[ledger.Line, ...], keys: bytes | None) -> Check:
    name, expected = "ledger_signatures", "every line signed by a trusted key"
    if keys is None:
        return _check(name, None, expected, "no public key was given to check them with")
    unsigned = 0
    for line in lines:
        if line.entry.key_id is None:
            unsigned += 1
            continue
        try:
            ledger.check_signature(line.entry, keys)
        except OpsError as error:
            return _check(name, False, expected, f"line {line.number}: {error.message}")
    if unsigned:
        return _check(name, None, expected, f"{unsigned} of {len(lines)} lines are not signed")
    return _check(name, True, expected, f"{len(lines)} lines")


def _directories(root: Path, lines: tuple[ledger.Line, ...]) -> Check:
    """A directory without a line: the end of the ledger was cut, or a drill was stopped while it wrote."""
    known = {line.entry.drill_id for line in lines}
    strays = sorted(
        path.parent.name
        for path in root.glob(f"*/{STATEMENT}")
        if not path.parent.is_symlink()
        and not path.parent.name.startswith(".")
        and path.parent.name not in known
    )
    observed = f"without a line: {', '.join(strays)}" if strays else "all of them"
    return _check("directories", not strays, "a line for every drill's directory", observed)


def _attempt(name: str, expected: str, look: Callable[[], str]) -> Check:
    try:
        return _check(name, True, expected, look())
    except OpsError as error:
        return _check(name, False, expected, error.message)


def _check(name: str, met: bool | None, expected: str, observed: str) -> Check:
    verdict = {True: Verdict.PASSED, False: Verdict.FAILED, None: Verdict.UNKNOWN}[met]
    return Check(name=name, verdict=verdict, expected=expected, observed=observed)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def record_in(path: Path) -> DrillRecord:
    """The record of a drill's directory.

    :raises OpsError: ``EVIDENCE_MISSING``, ``EVIDENCE_INVALID``.
    """
    data = _read(path / STATEMENT)
    if data is None:
        raise OpsError(
            "EVIDENCE_MISSING",
            f"There is no readable {STATEMENT} in {path}.",
            "Name the directory of one drill, for example evidence/latest.",
        )
    return parse_statement(data)
