# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person is told of a job that failed: one sentence of cause, the stage, the next step. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from .. import clock
from ..log import scanned

Language = Literal["pt-BR", "en"]
SCHEMA_VERSION = 1
CAUSE_CHARACTERS = 600
LINE_CHARACTERS = 300
LINES = 5


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run of a job that failed, or (``test``) a trial of the channels.

    :ivar job: backup, seen, drill, prune, secrets, or the name of another unit.
    :ivar code: of the error; empty when nothing more than the end of the process is known.
    :ivar cause: one English sentence, as the error says it; empty: not known.
    :ivar action: the next step, in English; empty: not known.
    :ivar stage: what the job was doing; empty: not known.
    :ivar result: how systemd says that the unit ended, ``exit-code (1)``; empty: not known.
    :ivar lines: the last lines of the journal, when there is no error to quote.
    """

    job: str
    host: str
    environment: str
    at: datetime
    unit: str = ""
    code: str = ""
    cause: str = ""
    action: str = ""
    stage: str = ""
    started_at: datetime | None = None
    result: str = ""
    run_id: str = ""
    lines: tuple[str, ...] = ()
    test: bool = False


@dataclass(frozen=True, kw_only=True)
class Message:
    """What goes to the channels, in one language and without a secret.

    :ivar facts: pairs of a label and a value, in the order in which they are read.
    :ivar data: the same for programs, with stable English keys.
    """

    title: str
    cause: str
    facts: tuple[tuple[str, str], ...]
    action_label: str
    action: str
    lines: tuple[str, ...]
    data: Mapping[str, Any]
    urgent: bool

    @property
    def text(self) -> str:
        """Everything but the title, as plain text."""
        width = max((len(label) for label, _value in self.facts), default=0) + 1
        parts = [
            self.cause,
            f"{self.action_label}: {self.action}",
            "\n".join(f"{label + ':':<{width}} {value}" for label, value in self.facts),
        ]
        if self.lines:
            parts.append("\n".join(f"> {line}" for line in self.lines))
        return "\n\n".join(parts) + "\n"


def compose(failure: Failure, language: Language) -> Message:
    """The message about a failure.

    What the error says is quoted in English, as it stands in docs/errors.md; everything round it is in
    the language asked for.
    """
    words = _WORDS[language]
    job = words["jobs"].get(failure.job, failure.job)
    where = {"job": job, "host": failure.host, "env": failure.environment}
    title = words["test_title" if failure.test else "title"].format(**where)
    if failure.code:
        title += f": {failure.code}"
    cause = _line(failure.cause, CAUSE_CHARACTERS) or words["test_cause" if failure.test else "no_cause"]
    action = _line(failure.action, CAUSE_CHARACTERS) or words["test_action" if failure.test else "no_action"]
    action = action.format(unit=failure.unit or "UNIT") if not failure.action else action
    return Message(
        title=title,
        cause=cause,
        facts=_facts(failure, words),
        action_label=words["action"],
        action=action,
        lines=tuple(_line(line, LINE_CHARACTERS) for line in failure.lines[-LINES:]),
        data=_data(failure, cause, action),
        urgent=not failure.test,
    )


def _facts(failure: Failure, words: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = (
        (words["stage"], _line(failure.stage, LINE_CHARACTERS) or ("" if failure.test else words["unknown"])),
        (words["host"], f"{failure.host} ({failure.environment})"),
        (words["started"], _moment(failure.started_at)),
        (words["ended"], _moment(failure.at)),
        (words["unit"], failure.unit),
        (words["result"], failure.result),
        (words["run"], failure.run_id),
    )
    return tuple((label, value) for label, value in found if value)


def _data(failure: Failure, cause: str, action: str) -> dict[str, Any]:
    return {
        "schemaVersion": SCHEMA_VERSION,
        "event": "test" if failure.test else "job_failed",
        "job": failure.job,
        "host": failure.host,
        "environment": failure.environment,
        "at": clock.to_text(failure.at),
        "startedAt": clock.to_text(failure.started_at) if failure.started_at else None,
        "unit": failure.unit or None,
        "stage": _line(failure.stage, LINE_CHARACTERS) or None,
        "error": {"code": failure.code or None, "message": cause, "action": action},
        "result": failure.result or None,
        "runId": failure.run_id or None,
    }


def _moment(moment: datetime | None) -> str:
    return clock.to_text(moment)[:19].replace("T", " ") + " UTC" if moment else ""


def _line(text: str, limit: int) -> str:
    """One line without passwords and control characters, cut where it is too long."""
    plain = "".join(char if char.isprintable() else " " for char in scanned(text))
    folded = " ".join(plain.split())
    return folded if len(folded) <= limit else folded[: limit - 1] + "…"


_WORDS: Mapping[Language, Mapping[str, Any]] = {
    "en": {
        "title": "[{env}] {job} failed on {host}",
        "test_title": "[{env}] Test message from {host}",
        "no_cause": "It ended without saying why.",
        "test_cause": "This is a trial of the channels: nothing has failed.",
        "no_action": "On the host, read: journalctl -u {unit} -n 100",
        "test_action": "Nothing is to be done.",
        "action": "Next step",
        "stage": "Stage",
        "unknown": "not known",
        "host": "Host",
        "started": "Started",
        "ended": "Ended",
        "unit": "Unit",
        "result": "Result",
        "run": "Run",
        "jobs": {
            "backup": "Backup",
            "seen": "Read-back of the backups",
            "drill": "Restore drill",
            "prune": "Pruning of old backups",
            "secrets": "Inventory of secrets",
            "verify": "Verification of the evidence",
        },
    },
    "pt-BR": {
        "title": "[{env}] {job}: falha em {host}",
        "test_title": "[{env}] Mensagem de teste de {host}",
        "no_cause": "Terminou sem dizer a causa.",
        "test_cause": "Este é um teste dos canais: nada falhou.",
        "no_action": "No host, leia: journalctl -u {unit} -n 100",
        "test_action": "Não há nada a fazer.",
        "action": "Próximo passo",
        "stage": "Etapa",
        "unknown": "desconhecida",
        "host": "Host",
        "started": "Início",
        "ended": "Fim",
        "unit": "Unidade",
        "result": "Resultado",
        "run": "Execução",
        "jobs": {
            "backup": "Backup",
            "seen": "Releitura dos backups",
            "drill": "Teste de restauração",
            "prune": "Remoção de backups antigos",
            "secrets": "Inventário de segredos",
            "verify": "Verificação das evidências",
        },
    },
}
