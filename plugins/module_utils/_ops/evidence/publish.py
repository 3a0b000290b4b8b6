# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the evidence of a drill: the whole directory or nothing, then the ledger, then ``latest``."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .. import config
from ..errors import OpsError
from ..files import sha256_of, sync_directory
from ..sealing import signing
from . import envelope, ledger, render
from .format import Language
from .parse import parse_statement
from .record import DrillRecord, statement
from .view import Context

STATEMENT = "evidence.json"
ENVELOPE = "evidence.dsse.json"
REPORT_HTML = "report.html"
REPORT_MARKDOWN = "report.md"
LOG = "drill.log"
LATEST = "latest"
_LOCK = ".ledger.lock"


def publish(
    record: DrillRecord,
    *,
    evidence: config.Evidence,
    log_path: Path | None,
    signing_key: bytes | None,
) -> Path:
    """Write the evidence of a drill below ``evidence.dir``; returns its directory.

    ``record.prev`` is filled in here, under a lock, from the ledger. Without a signing key there is no
    envelope, and the report says so in words.

    :param log_path: the drill's log so far, copied as ``drill.log``.
    :param signing_key: PEM of an Ed25519 private key.
    :raises OpsError: ``EVIDENCE_EXISTS``, ``EVIDENCE_NOT_WRITTEN``, ``LEDGER_BROKEN``,
        ``SIGNING_KEY_INVALID``.
    """
    root = evidence.dir
    with _writing(root), _locked(root):
        lines = ledger.read(root / ledger.NAME)
        record = dataclasses.replace(record, prev=ledger.head(lines))
        target = root / record.drill_id
        if target.exists():
            raise OpsError(
                "EVIDENCE_EXISTS",
                f"There is evidence of a drill {record.drill_id} in {root} already.",
                "Evidence is never overwritten: find out why two drills have one id.",
            )
        building = Path(tempfile.mkdtemp(dir=root, prefix=f".{record.drill_id}."))
        try:
            _fill(building, record, evidence, log_path, signing_key, lines)
            files = {path.name: sha256_of(path) for path in sorted(building.iterdir())}
            entry = ledger.entry_of(record, files)
            if signing_key:
                entry = ledger.signed(entry, signing_key)
            building.chmod(0o755)
            sync_directory(building)
            building.rename(target)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        sync_directory(root)
        ledger.append(root / ledger.NAME, entry)
        _point_latest(root, record.drill_id)
    return target


def render_reports(statement_bytes: bytes, context: Context, language: Language) -> tuple[bytes, bytes]:
    """``report.html`` and ``report.md`` of the bytes of an ``evidence.json``.

    :raises OpsError: ``EVIDENCE_INVALID``.
    """
    record = parse_statement(statement_bytes)
    html = render.html(record, context, language)
    markdown = render.markdown(record, context, language)
    return html.encode(), markdown.encode()


def context_of(directory: Path, record: DrillRecord, timezone: str) -> Context:
    """What the report of a published drill was, or would be, rendered with.

    :raises OpsError: ``LEDGER_BROKEN``, ``EVIDENCE_MISSING``.
    """
    directory = directory.resolve()
    before = []
    key_id = None
    for line in ledger.read(directory.parent / ledger.NAME):
        if line.entry.drill_id == record.drill_id:
            key_id = line.entry.key_id
            break
        before.append(line.entry)
    return Context(
        history=tuple(before),
        evidence_sha256=sha256_of(directory / STATEMENT),
        key_id=key_id,
        timezone=timezone,
    )


def statement_bytes(record: DrillRecord) -> bytes:
    """The bytes of ``evidence.json``, which are what is signed: readable as they are."""
    text = json.dumps(statement(record), indent=2, ensure_ascii=False, allow_nan=False)
    # A name that is not UTF-8 arrives as lone surrogates, which no file can hold.
    return text.encode("utf-8", "replace") + b"\n"


def _fill(
    directory: Path,
    record: DrillRecord,
    evidence: config.Evidence,
    log_path: Path | None,
    signing_key: bytes | None,
    lines: tuple[ledger.Line, ...],
) -> None:
    payload = statement_bytes(record)
    key_id = signing.key_id(signing.public_of(signing_key)) if signing_key else None
    context = Context(
        history=tuple(line.entry for line in lines),
        evidence_sha256=_sha256(payload),
        key_id=key_id,
        timezone=evidence.timezone,
    )
    html, markdown = render_reports(payload, context, evidence.language)
    _write(directory / STATEMENT, payload)
    if signing_key:
        _write(directory / ENVELOPE, envelope.seal(payload, signing_key))
    _write(directory / REPORT_HTML, html)
    _write(directory / REPORT_MARKDOWN, markdown)
    if log_path is not None:
        _write(directory / LOG, log_path.read_bytes())


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _point_latest(root: Path, name: str) -> None:
    """Let ``latest`` point to a directory, by a rename, so that it always points to one."""
    link = root / f".{LATEST}.{name}"
    link.unlink(missing_ok=True)
    link.symlink_to(name, target_is_directory=True)
    link.replace(root / LATEST)
    sync_directory(root)


@contextlib.contextmanager
def _writing(root: Path) -> Iterator[None]:
    try:
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OpsError(
            "EVIDENCE_NOT_WRITTEN",
            f"The evidence cannot be written below {root}: {error.strerror or error}.",
            "Check the directory's space and owner; the drill's verdict is in its log and exit code.",
        ) from error


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    fd = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
