# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides from the record what the report says, in one language."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from . import texts_en, texts_pt, texts_recovery
from .format import Format, Language
from .ledger import Entry
from .record import Check, DrillRecord, Objective, StageResult, Verdict
from .texts import StageTexts, Texts
from .view import CheckRow, Context, DrillRow, StageRow, Tile, View

CATALOGUES: dict[Language, Texts] = {"pt-BR": texts_pt.TEXTS, "en": texts_en.TEXTS}
SHOWN_CHECKS = 8
SHOWN_DRILLS = 20
TABLE_DRILLS = 6
NAMES = 2

_ORDER = (Verdict.FAILED, Verdict.UNKNOWN, Verdict.NOT_RUN, Verdict.PASSED)
_SIZES = {"bytes", "freeBytes", "neededBytes"}
_AGES = {"ageSeconds"}
_ROWS = re.compile(r"\b(\d[\d,]*) rows\b")


def build(record: DrillRecord, context: Context, language: Language) -> View:
    """The view of a drill in a language."""
    return _Builder(record, context, language).view()


class _Builder:
    def __init__(self, record: DrillRecord, context: Context, language: Language) -> None:
        self.record = record
        self.context = context
        self.language = language
        self.texts = CATALOGUES[language]
        if record.scope == "recovery":
            self.texts = texts_recovery.of_recovery(self.texts, language)
        self.words = self.texts.words
        self.format = Format(language, context.timezone)

    def view(self) -> View:
        record = self.record
        decisive = record.decisive_stage
        database = record.backup.get("database")
        place = self.words.get(f"environment_{record.environment}", record.environment)
        parts = [f"{self.words['database']} {database}" if database else "", place, record.host]
        problem = decisive.error if decisive and decisive.error else None
        return View(
            language=self.language,
            words=self.words,
            title=self.words["title"],
            context=" · ".join(part for part in parts if part),
            drill_id=record.drill_id,
            kind=record.verdict.value,
            word=self.texts.verdicts[record.verdict.value],
            sentence=self._sentence(decisive),
            original=(problem["message"] if problem else decisive.summary) if decisive else "",
            tiles=self._tiles(),
            todo=self._todo(decisive),
            command=self._command(decisive),
            advice=problem["action"] if problem else "",
            runbook=f"{self.words['runbook_page']}#{decisive.name if decisive else record.verdict.value}",
            stages=self._stages(),
            drills=self._drills(),
            objective_seconds=record.rto.objective_seconds,
            objective=self.words["objective"].format(
                value=self.format.duration(record.rto.objective_seconds)
            ),
            facts=self._facts(),
            digests=self._digests(),
        )

    def _sentence(self, decisive: StageResult | None) -> str:
        record = self.record
        if decisive:
            return self._stage_sentence(decisive)
        if record.verdict in (Verdict.PASSED, Verdict.LIMITED):
            return self.words[f"sentence_{record.verdict.value}"]
        objectives = (("rto", record.rto), ("rpo", record.rpo))
        for name, objective in (("rpo_limited", record.rpo),) if record.scope == "dump" else objectives:
            if objective.met is False and objective.seconds is not None:
                return self.words[f"sentence_{name}"].format(
                    value=self.format.duration(objective.seconds),
                    objective=self.format.duration(objective.objective_seconds),
                )
        for stage in record.stages:
            if stage.required and stage.verdict is Verdict.NOT_RUN:
                return self.words["sentence_not_run"].format(stage=self._label(stage))
        return self.words["sentence_unmeasured"]

    def _stage_sentence(self, stage: StageResult) -> str:
        texts = self.texts.stages.get(stage.name)
        bad = _not_passed(stage)
        if stage.error and not bad and (known := self.texts.errors.get(stage.error["code"])):
            return f"{known} ({self.words['col_stage'].lower()}: {self._label(stage)})."
        state = "failed" if stage.verdict is Verdict.FAILED else "unknown"
        if texts is None:
            return self.words[f"sentence_stage_{state}"].format(stage=stage.name)
        sentence = texts.failed if state == "failed" else texts.unknown
        if not bad:
            return sentence.replace(": {names}", "")
        names = ", ".join(self._name(check.name) for check in bad[:NAMES])
        return sentence.format(names=names + (f" (+{len(bad) - NAMES})" if len(bad) > NAMES else ""))

    def _tiles(self) -> tuple[Tile, ...]:
        record = self.record
        return (
            self._objective_tile("rto", record.rto),
            self._objective_tile("rpo", record.rpo),
            self._last_proven_tile(),
            self._proven_until_tile(),
        )

    def _objective_tile(self, name: str, objective: Objective) -> Tile:
        kind, state = {
            True: ("passed", self.words["met"]),
            False: ("failed", self.words["missed"]),
            None: ("not_run", self.words["not_measured"]),
        }[objective.met]
        return Tile(
            label=self.words[name],
            value="—" if objective.seconds is None else self.format.duration(objective.seconds),
            note=self.words["objective"].format(value=self.format.duration(objective.objective_seconds)),
            kind=kind,
            state=state,
        )

    def _last_proven_tile(self) -> Tile:
        label = self.words["last_proven"]
        if self.record.verdict is Verdict.PASSED:
            when = self.format.local(self.record.finished_at)
            return Tile(label=label, value=self.words["this_drill"], note=when, kind="passed")
        proven = self._proven()
        if proven is None:
            return Tile(
                label=label, value=self.words["never"], note=self.words["never_note"], kind=self._alarm
            )
        age = (self.record.finished_at - proven.finished_at).total_seconds()
        return Tile(
            label=label,
            value=self.words["ago"].format(age=self.format.duration(max(age, 0))),
            note=self.format.local(proven.finished_at),
        )

    def _proven_until_tile(self) -> Tile:
        label = self.words["proven_until"]
        basis = None
        if self.record.verdict is Verdict.PASSED:
            until: datetime | None = self.record.newest_change_at
            basis = self.words.get(f"basis_{self.record.rpo_basis}")
        else:
            proven = self._proven()
            until = proven.newest_change_at if proven else None
        if until is None:
            return Tile(label=label, value="—", note=self.words["nothing_proven"], kind=self._alarm)
        date, _space, rest = self.format.local(until).partition(" ")
        clock, _space, zone = rest.partition(" ")
        return Tile(label=label, value=f"{date} {clock}", note=" · ".join(x for x in (zone, basis) if x))

    @property
    def _alarm(self) -> str:
        """A dump file beside the backups says nothing of them, so it is no reason for an alarm."""
        return "failed" if self.record.scope == "full" else ""

    def _proven(self, *, but: object = None) -> Entry | None:
        """The newest entry that passed, but for those of one backup."""
        passed = (entry for entry in reversed(self.context.history) if entry.verdict is Verdict.PASSED)
        return next((entry for entry in passed if but is None or entry.backup_id != but), None)

    def _todo(self, decisive: StageResult | None) -> tuple[str, ...]:
        record = self.record
        if record.verdict is Verdict.PASSED:
            return (self.words["todo_passed"],)
        if decisive and (known := self._error_action(decisive)):
            first = known
        elif decisive and decisive.name in self.texts.stages:
            first = self.texts.stages[decisive.name].action
        elif record.verdict is Verdict.LIMITED:
            first = self.words["todo_limited"]
        elif record.rto.met is False:
            first = self.words["todo_rto"]
        elif record.rpo.met is False:
            first = self.words["todo_rpo"]
        else:
            first = self.words["todo_other"]
        if record.scope == "dump":
            return (first,)
        # What failed now is no way out, though it was proven before.
        proven = self._proven(but=record.backup.get("id") if record.verdict is Verdict.FAILED else None)
        if proven is None:
            return (first, self.words["use_none"])
        fallback = self.words["use_proven"].format(
            backup=proven.backup_id or proven.drill_id, date=self.format.day(proven.finished_at)
        )
        return (first, fallback)

    def _error_action(self, stage: StageResult) -> str:
        """What to do about an error whose cause lies outside the stage that met it."""
        code = stage.error["code"] if stage.error else ""
        known = (text for start, text in self.texts.error_actions.items() if code.startswith(start))
        return next(known, "")

    def _command(self, decisive: StageResult | None) -> str:
        if self.record.verdict is Verdict.PASSED:
            return ""
        if decisive and decisive.name in self.texts.stages:
            return self.texts.stages[decisive.name].command
        return self.words["command"]

    def _stages(self) -> tuple[StageRow, ...]:
        def rank(stage: StageResult) -> int:
            if stage.verdict is Verdict.NOT_RUN and not stage.required:
                return len(_ORDER)
            return _ORDER.index(stage.verdict)

        return tuple(self._stage(stage) for stage in sorted(self.record.stages, key=rank))

    def _stage(self, stage: StageResult) -> StageRow:
        observed, foreign = self._observed(stage)
        bad = _not_passed(stage)
        ran = stage.verdict is not Verdict.NOT_RUN
        return StageRow(
            name=stage.name,
            label=self._label(stage),
            kind=stage.verdict.value,
            word=self.texts.states[stage.verdict.value],
            optional=not stage.required,
            expected=self._expected(stage),
            observed=observed,
            foreign=foreign and self.language != "en",
            evidence=self._evidence(stage, len(bad)),
            time=self.format.duration(stage.seconds) if ran else "—",
            exact=self.format.exact(stage.seconds) if ran else "",
            problems=tuple(self._check(check) for check in bad[:SHOWN_CHECKS]),
            more=(
                self.words["more_checks"].format(count=len(bad) - SHOWN_CHECKS)
                if len(bad) > SHOWN_CHECKS
                else ""
            ),
        )

    def _expected(self, stage: StageResult) -> str:
        texts: StageTexts | None = self.texts.stages.get(stage.name)
        usual = texts.expected if texts else ""
        return self.words.get(f"{self.record.backup.get('kind')}_{stage.name}", usual)

    def _observed(self, stage: StageResult) -> tuple[str, bool]:
        """What was seen, and whether that is in the tool's own English."""
        if stage.verdict is Verdict.NOT_RUN and (stage.required or self.language != "en"):
            return self.words["not_run_after" if stage.required else "not_applicable"], False
        if stage.error:
            return stage.error["message"], True
        if self.language == "en" and stage.summary:
            return stage.summary, False
        known = [
            f"{self.texts.facts[key]}: {self._fact(key, value)}"
            for key, value in stage.facts.items()
            if key in self.texts.facts and not isinstance(value, dict | list)
        ]
        if known:
            return " · ".join(known[:4]), False
        if stage.verdict is Verdict.PASSED:
            return self.words["as_expected"], False
        return stage.summary, True

    def _fact(self, key: str, value: Any) -> str:
        if key == "keyRole":
            return self.words.get(f"role_{value}", str(value))
        if isinstance(value, bool) or not isinstance(value, int | float):
            return str(value)
        if key in _SIZES:
            return self.format.size(value)
        if key in _AGES:
            return self.format.duration(value)
        return self.format.number(value, 0 if isinstance(value, int) else 1)

    def _evidence(self, stage: StageResult, bad: int) -> str:
        if stage.error:
            return stage.error["code"]
        count = len(stage.checks)
        if bad:
            return self.words["checks_some"].format(bad=bad, count=count)
        if count == 0:
            return self.words["no_checks"]
        return self.words["checks_one" if count == 1 else "checks_all"].format(count=count)

    def _check(self, check: Check) -> CheckRow:
        return CheckRow(
            name=self._name(check.name),
            kind=check.verdict.value,
            word=self.texts.states[check.verdict.value],
            expected=self._quantity(check.expected),
            observed=self._quantity(check.observed),
            detail=check.detail,
        )

    def _name(self, name: str) -> str:
        """The name of a check; those of the comparison begin with the kind of the object."""
        for known, translated in self.texts.kinds.items():
            if name == known or name.startswith((f"{known} ", f"{known}:")):
                return translated + name[len(known) :]
        return name

    def _quantity(self, text: str) -> str:
        """``603,412 rows`` and ``absent`` in the language of the report; everything else as it is."""
        if text == "absent":
            return self.words["absent"]
        rows = self.texts.facts["rows"]
        return _ROWS.sub(lambda found: f"{self.format.number(int(found[1].replace(',', '')))} {rows}", text)

    def _label(self, stage: StageResult) -> str:
        texts = self.texts.stages.get(stage.name)
        return texts.label if texts else stage.name

    def _drills(self) -> tuple[DrillRow, ...]:
        record = self.record
        rows = [
            self._drill(
                entry.finished_at,
                entry.verdict,
                (entry.rto_seconds, entry.rpo_seconds),
                entry.backup_id,
                current=False,
            )
            for entry in self.context.history[-(SHOWN_DRILLS - 1) :]
        ]
        times = (record.rto.seconds, record.rpo.seconds)
        backup = record.backup.get("id")
        rows.append(self._drill(record.finished_at, record.verdict, times, backup, current=True))
        return tuple(rows)

    def _drill(
        self,
        moment: datetime,
        verdict: Verdict,
        times: tuple[float | None, float | None],
        backup: str | None,
        *,
        current: bool,
    ) -> DrillRow:
        rto, rpo = ("—" if seconds is None else self.format.duration(seconds) for seconds in times)
        return DrillRow(
            date=self.format.day(moment),
            kind=verdict.value,
            word=self.texts.verdicts[verdict.value].lower(),
            rto=rto,
            rpo=rpo,
            backup=backup or "—",
            seconds=times[0],
            current=current,
        )

    def _facts(self) -> tuple[tuple[str, str], ...]:
        record, words = self.record, self.words
        exact = [
            f"{name} {self.format.exact(objective.seconds)}"
            for name, objective in (("RTO", record.rto), ("RPO", record.rpo))
            if objective.seconds is not None
        ]
        whole = (record.finished_at - record.started_at).total_seconds()
        exact.append(f"{words['duration_total']} {self.format.exact(whole)}")
        key = self.context.key_id
        stated = record.backup.get("missingProofs")
        missing = stated if isinstance(stated, list) else []
        return (
            (words["manifest"], self._backup()),
            *((words["missing_proofs"], words.get(f"missing_{code}", str(code))) for code in missing),
            (words["release"], self._release()),
            (words["started"], self._both(record.started_at)),
            (words["finished"], self._both(record.finished_at)),
            (words["all_exact"], " · ".join(exact)),
            (words["host"], f"{record.host} · pharma-ops {record.tool_version}"),
            (words["signature"], words["signed"].format(key=key) if key else words["unsigned"]),
        )

    def _backup(self) -> str:
        backup = self.record.backup
        parts = [str(backup[key]) for key in ("id", "file", "sourceHost", "store") if backup.get(key)]
        if version := backup.get("serverVersion"):
            parts.append(f"PostgreSQL {version}")
        parts += [
            f"{self.format.number(backup[key])} {self.texts.facts[key]}"
            for key in ("tables", "rows")
            if isinstance(backup.get(key), int)
        ]
        if isinstance(backup.get("bytes"), int):
            parts.append(self.format.size(backup["bytes"]))
        return " · ".join(parts) or "—"

    def _release(self) -> str:
        parts = [str(self.record.release[key]) for key in ("name", "version") if self.record.release.get(key)]
        return " ".join(parts) or self.words["no_release"]

    def _both(self, moment: datetime) -> str:
        utc = self.format.utc(moment)
        return f"{self.format.local(moment, named=True)} · {utc}" if self.format.has_local_time else utc

    def _digests(self) -> tuple[tuple[str, str], ...]:
        rows = [("evidence.json", self.context.evidence_sha256)]
        rows += [(subject.name, subject.sha256) for subject in self.record.subjects]
        if self.record.prev:
            rows.append((self.words["prev"], self.record.prev))
        return tuple(rows)


def _not_passed(stage: StageResult) -> list[Check]:
    bad = [check for check in stage.checks if check.verdict is not Verdict.PASSED]
    return sorted(bad, key=lambda check: _ORDER.index(check.verdict))
