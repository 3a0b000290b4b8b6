# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person is told, and how it is shaped for each service."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pharma_ops.config import Webhook
from pharma_ops.errors import OpsError
from pharma_ops.telling import unit, webhook
from pharma_ops.telling.message import Failure, compose

AT = datetime(2026, 11, 25, 6, 0, 30, tzinfo=UTC)
FAILURE = Failure(
    job="backup",
    host="db1",
    environment="prod",
    at=AT,
    started_at=datetime(2026, 11, 25, 6, 0, 0, tzinfo=UTC),
    unit="pharma-backup.service",
    code="STORE_UNREACHABLE",
    cause="The store s3://b cannot be reached: refused.",
    action="Check the endpoint's name, port and firewall from this host, then run again.",
    stage="upload dump.age",
    result="exit-code (2)",
    run_id="0123456789abcdef",
)


def test_a_message_says_cause_stage_and_next_step() -> None:
    message = compose(FAILURE, "en")
    assert message.title == "[prod] Backup failed on db1: STORE_UNREACHABLE"
    assert message.text == (
        "The store s3://b cannot be reached: refused.\n\n"
        "Next step: Check the endpoint's name, port and firewall from this host, then run again.\n\n"
        "Stage:   upload dump.age\n"
        "Host:    db1 (prod)\n"
        "Started: 2026-11-25 06:00:00 UTC\n"
        "Ended:   2026-11-25 06:00:30 UTC\n"
        "Unit:    pharma-backup.service\n"
        "Result:  exit-code (2)\n"
        "Run:     0123456789abcdef\n"
    )


def test_in_portuguese() -> None:
    message = compose(FAILURE, "pt-BR")
    assert message.title == "[prod] Backup: falha em db1: STORE_UNREACHABLE"
    assert "Próximo passo: Check" in message.text
    assert "Etapa:     upload dump.age" in message.text


def test_both_languages_have_the_same_words() -> None:
    from pharma_ops.telling.message import _WORDS

    assert _WORDS["en"].keys() == _WORDS["pt-BR"].keys()
    assert _WORDS["en"]["jobs"].keys() == _WORDS["pt-BR"]["jobs"].keys()


def test_where_nothing_is_known_the_journal_is_the_next_step() -> None:
    bare = Failure(
        job="backup", host="db1", environment="prod", at=AT, unit="pharma-backup.service", lines=("a", "b")
    )
    text = compose(bare, "en").text
    assert text.startswith(
        "It ended without saying why.\n\nNext step: On the host, read: journalctl -u pharma-backup"
    )
    assert "Stage: not known\n" in text
    assert text.endswith("> a\n> b\n")


SECRETS = (
    "postgresql://u:hunter2@db/x",
    "password=hunter2",
    "password = 'hunter2 x'",
    "AGE-SECRET-KEY-1HUNTER2",
)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("place", ["cause", "action", "stage", "lines"])
def test_no_secret_is_told(secret: str, place: str) -> None:
    values: dict[str, Any] = {place: (secret,) if place == "lines" else f"It said {secret} and ended."}
    message = compose(Failure(job="backup", host="h", environment="lab", at=AT, **values), "en")
    everything = json.dumps([message.text, message.data, webhook.teams(message), webhook.slack(message)])
    assert "hunter2" not in everything.lower()


@given(cause=st.text(max_size=3000), stage=st.text(max_size=800))
def test_whatever_an_error_says_is_one_short_printable_line(cause: str, stage: str) -> None:
    message = compose(Failure(job="x", host="h", environment="lab", at=AT, cause=cause, stage=stage), "en")
    assert len(message.cause) <= 600
    assert message.cause.isprintable()
    assert all(value.isprintable() for _, value in message.facts)


# What the services' documentation says of a message, as far as we use it.
SLACK_TEXT = {
    "type": "object",
    "required": ["type", "text"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["mrkdwn", "plain_text"]},
        "text": {"type": "string", "minLength": 1, "maxLength": 3000},
        "emoji": {"type": "boolean"},
    },
}
SLACK = {
    "type": "object",
    "required": ["text", "blocks"],
    "additionalProperties": False,
    "properties": {
        "text": {"type": "string", "minLength": 1},
        "blocks": {
            "type": "array",
            "maxItems": 50,
            "items": {
                "oneOf": [
                    {
                        "type": "object",
                        "required": ["type", "text"],
                        "additionalProperties": False,
                        "properties": {
                            "type": {"const": "header"},
                            "text": {
                                "allOf": [
                                    SLACK_TEXT,
                                    {
                                        "properties": {
                                            "type": {"const": "plain_text"},
                                            "text": {"maxLength": 150},
                                        }
                                    },
                                ]
                            },
                        },
                    },
                    {
                        "type": "object",
                        "required": ["type"],
                        "additionalProperties": False,
                        "anyOf": [{"required": ["text"]}, {"required": ["fields"]}],
                        "properties": {
                            "type": {"const": "section"},
                            "text": SLACK_TEXT,
                            "fields": {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": 10,
                                "items": {
                                    "allOf": [SLACK_TEXT, {"properties": {"text": {"maxLength": 2000}}}]
                                },
                            },
                        },
                    },
                ]
            },
        },
    },
}
TEAMS = {
    "type": "object",
    "required": ["type", "attachments"],
    "additionalProperties": False,
    "properties": {
        "type": {"const": "message"},
        "attachments": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["contentType", "content"],
                "properties": {
                    "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                    "contentUrl": {"type": "null"},
                    "content": {
                        "type": "object",
                        "required": ["type", "version", "body"],
                        "properties": {
                            "type": {"const": "AdaptiveCard"},
                            "version": {"enum": ["1.2", "1.3", "1.4", "1.5"]},
                            "body": {
                                "type": "array",
                                "items": {
                                    "oneOf": [
                                        {
                                            "required": ["type", "text"],
                                            "properties": {
                                                "type": {"const": "TextBlock"},
                                                "text": {"type": "string", "minLength": 1},
                                                "color": {
                                                    "enum": [
                                                        "Default",
                                                        "Dark",
                                                        "Light",
                                                        "Accent",
                                                        "Good",
                                                        "Warning",
                                                        "Attention",
                                                    ]
                                                },
                                                "size": {
                                                    "enum": [
                                                        "Default",
                                                        "Small",
                                                        "Medium",
                                                        "Large",
                                                        "ExtraLarge",
                                                    ]
                                                },
                                                "weight": {"enum": ["Default", "Lighter", "Bolder"]},
                                                "fontType": {"enum": ["Default", "Monospace"]},
                                                "style": {"enum": ["default", "heading", "columnHeader"]},
                                                "spacing": {
                                                    "enum": [
                                                        "Default",
                                                        "None",
                                                        "Small",
                                                        "Medium",
                                                        "Large",
                                                        "ExtraLarge",
                                                        "Padding",
                                                    ]
                                                },
                                            },
                                        },
                                        {
                                            "required": ["type", "facts"],
                                            "properties": {
                                                "type": {"const": "FactSet"},
                                                "facts": {
                                                    "type": "array",
                                                    "items": {
                                                        "type": "object",
                                                        "required": ["title", "value"],
                                                        "maxProperties": 2,
                                                    },
                                                },
                                            },
                                        },
                                    ]
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
NTFY = {
    "type": "object",
    "required": ["topic"],
    "additionalProperties": False,
    "properties": {
        "topic": {"type": "string", "pattern": "^[-_A-Za-z0-9]{1,64}$"},
        "message": {"type": "string"},
        "title": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "priority": {"type": "integer", "minimum": 1, "maximum": 5},
    },
}


def hook(kind: Any) -> Webhook:
    return Webhook(url_file=Path("/x"), kind=kind)


@pytest.mark.parametrize(("kind", "schema"), [("slack", SLACK), ("teams", TEAMS), ("ntfy", NTFY)])
@pytest.mark.parametrize("lines", [(), ("one", "`two` <b>")])
def test_payloads_are_what_the_services_document(
    kind: str, schema: dict[str, Any], lines: tuple[str, ...]
) -> None:
    failure = Failure(
        job="backup", host="h", environment="lab", at=AT, cause="x" * 900, stage="y" * 500, lines=lines
    )
    for one in (FAILURE, failure):
        post = webhook.shaped(hook(kind), "https://h.example/base/topic_1?auth=k", compose(one, "pt-BR"))
        Draft202012Validator(schema).validate(post.body)
        assert len(json.dumps(post.body)) < 28_000


def test_ntfy_is_posted_to_the_root_with_the_topic_in_the_body() -> None:
    post = webhook.shaped(hook("ntfy"), "https://ntfy.example/pharma-x1?auth=k", compose(FAILURE, "pt-BR"))
    assert post.url == "https://ntfy.example/?auth=k"
    assert (post.body["topic"], post.body["priority"]) == ("pharma-x1", 4)
    with pytest.raises(OpsError) as raised:
        webhook.shaped(hook("ntfy"), "https://ntfy.example/", compose(FAILURE, "en"))
    assert raised.value.code == "SECRET_INVALID"


def test_a_message_is_shown_as_it_is_whatever_the_service_reads_into_it() -> None:
    odd = Failure(job="backup", host="h", environment="lab", at=AT, cause="<!channel> & *all* [x](y)")
    message = compose(odd, "en")
    assert "&lt;!channel&gt; &amp; *all*" in webhook.slack(message)["blocks"][1]["text"]["text"]
    assert (
        r"<!channel> & \*all\* \[x\](y)"
        in webhook.teams(message)["attachments"][0]["content"]["body"][1]["text"]
    )


def test_our_own_form_has_stable_keys() -> None:
    body = webhook.plain_json(compose(FAILURE, "pt-BR"))
    assert body["event"] == "job_failed"
    assert body["error"] == {"code": FAILURE.code, "message": FAILURE.cause, "action": FAILURE.action}
    assert (body["stage"], body["job"], body["startedAt"]) == (
        "upload dump.age",
        "backup",
        "2026-11-25T06:00:00.000Z",
    )
    trial = webhook.plain_json(
        compose(Failure(job="test", host="h", environment="lab", at=AT, test=True), "en")
    )
    assert (trial["event"], trial["error"]["code"]) == ("test", None)


def line(msg: str, level: str = "info", error: dict[str, Any] | None = None, **meta: Any) -> str:
    data: dict[str, Any] = {"level": level, "msg": msg, "meta": meta, "requestId": "run-12345"}
    return json.dumps(data | ({"error": error} if error else {}))


ERROR = {"code": "STORE_FULL", "type": "OpsError", "message": "No space for x. Free space."}


def test_the_last_error_that_was_logged_is_the_cause() -> None:
    lines = [
        line("step_started", step="dump"),
        "Traceback of something else",
        line("step_started", step="upload"),
        line("command_failed", "error", ERROR, action="Free space."),
        "STORE_FULL: No space for x.",
        "Next: Free space.",
        line("ping_failed", "error", {"code": "NOTIFY_FAILED", "type": "OpsError", "message": "m"}),
    ]
    found = unit.cause_of(lines, "exit-code")
    assert found == unit.Cause(
        code="STORE_FULL", message="No space for x.", action="Free space.", stage="upload", run_id="run-12345"
    )


def test_what_went_wrong_beside_the_work_is_the_cause_only_when_nothing_else_is() -> None:
    aside = line("metrics_not_written", "error", {"code": "DISK_FULL", "type": "OpsError", "message": "m"})
    cause = line("backup_partial", "error", ERROR, action="Free space.")
    assert unit.cause_of([cause, aside]).code == "STORE_FULL"
    assert unit.cause_of([aside]).code == "DISK_FULL"


@pytest.mark.parametrize(("begun", "stage"), [(0, "start"), (1, "dump"), (2, "publish")])
def test_a_partial_backup_failed_where_its_first_store_did(begun: int, stage: str) -> None:
    steps = [line("step_started", step="dump"), line("step_started", step="publish")]
    dropped = line("store_failed", "error", ERROR, action="Free space.", store="offsite")
    partial = line("backup_partial", "error", ERROR | {"code": "BACKUP_PARTIAL"}, action="Free space.")
    found = unit.cause_of([*steps[:begun], dropped, *steps[begun:], dropped, partial], "exit-code")
    assert (found.code, found.stage) == ("BACKUP_PARTIAL", stage)


def test_a_printed_error_does_when_nothing_was_logged() -> None:
    found = unit.cause_of(["CONFIG_INVALID: unknown key x.", "Next: Correct it.", "Main process exited"])
    assert (found.code, found.message, found.action) == ("CONFIG_INVALID", "unknown key x.", "Correct it.")
    assert found.stage == "start"


def test_without_an_error_the_last_lines_are_quoted() -> None:
    found = unit.cause_of([str(number) for number in range(9)] + ["", "{not json"])
    assert found == unit.Cause(lines=("5", "6", "7", "8", "{not json"))


def test_a_drill_is_told_by_its_verdict() -> None:
    lines = [
        line("stage_error", "error", ERROR, stage="fetch", action="Free space."),
        line("stage_started", stage="teardown"),
        line("drill_finished", verdict="unknown", cause="fetch: No space for x."),
    ]
    found = unit.cause_of(lines, "exit-code")
    assert (found.code, found.stage, found.message, found.action) == (
        "STORE_FULL",
        "fetch",
        "No space for x.",
        "Free space.",
    )
    missed = unit.cause_of(
        [line("drill_finished", verdict="failed", cause="RPO objective missed: 9 s of 1 s.")]
    )
    assert (missed.message, missed.stage) == ("RPO objective missed: 9 s of 1 s.", "verdict")


@pytest.mark.parametrize(("result", "code"), [("timeout", "JOB_TIMEOUT"), ("oom-kill", "JOB_OUT_OF_MEMORY")])
def test_what_systemd_did_goes_before_what_the_program_said(result: str, code: str) -> None:
    found = unit.cause_of(
        [line("step_started", step="dump"), "INTERRUPTED: The run was interrupted."], result
    )
    assert (found.code, found.stage) == (code, "dump")


@given(st.lists(st.text() | st.dictionaries(st.text(), st.integers() | st.text()).map(json.dumps)))
def test_any_journal_gives_a_cause(lines: list[str]) -> None:
    assert isinstance(unit.cause_of(lines), unit.Cause)


def test_units_and_their_jobs() -> None:
    assert unit.job_of("pharma-backup@pharma.service") == "backup"
    assert unit.job_of("pharma-seen.service") == "seen"
    assert unit.job_of("nginx.service") == "nginx.service"
    for wrong in ("--help", "x", "a b.service", "-x.service", "x;y.service"):
        with pytest.raises(OpsError):
            unit.checked(wrong)


def test_what_systemd_shows() -> None:
    shown = "Result=exit-code\nExecMainStatus=2\nInvocationID=0af\nExecMainStartTimestamp=Wed 2026-11-25 06:00:00 UTC\n"
    found = unit.parse_show("x.service", shown)
    assert (found.words, found.invocation) == ("exit-code (2)", "0af")
    assert found.started_at == datetime(2026, 11, 25, 6, tzinfo=UTC)
    assert unit.parse_show("x.service", "") == unit.Ended(unit="x.service")
