# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail, webhooks and dead man's switches against real servers with TLS on loopback."""

from __future__ import annotations

import email
import email.policy
import io
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import receivers
from pharma_ops import config
from pharma_ops.cli.main import main
from pharma_ops.config import Mail, Notify, Ping, Webhook
from pharma_ops.errors import ExitCode, OpsError
from pharma_ops.log import Log
from pharma_ops.telling import http, mail, ping, tell
from pharma_ops.telling.message import Failure, compose

AT = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
FAILURE = Failure(
    job="backup",
    host="db1",
    environment="prod",
    at=AT,
    code="STORE_FULL",
    cause="O disco está cheio.",
    action="Free it.",
)
TOKEN = "T0K3Nsecret"


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> receivers.Identity:
    return receivers.make_identity(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def web(identity: receivers.Identity) -> Iterator[receivers.WebReceiver]:
    with receivers.web(identity) as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(http.time, "sleep", pauses.append)
    monkeypatch.setattr(
        http.post, "__kwdefaults__", dict(http.post.__kwdefaults__) | {"sleep": pauses.append}
    )
    return pauses


@pytest.fixture
def hook(web: receivers.WebReceiver, identity: receivers.Identity, tmp_path: Path) -> Webhook:
    file = tmp_path / "url"
    file.write_text(f"{web.url}/hooks/{TOKEN}\n")
    return Webhook(url_file=file, ca_file=identity.certificate)


def told(notify: Notify) -> dict[str, Any]:
    return {delivery.channel: delivery for delivery in tell.tell(notify, FAILURE, AT)}


def test_a_webhook_gets_the_message(hook: Webhook, web: receivers.WebReceiver) -> None:
    assert told(Notify(webhooks={"chat": hook}))["webhook chat"].error is None
    (request,) = web.requests
    assert request.path == f"/hooks/{TOKEN}"
    assert request.headers["Content-Type"] == "application/json; charset=utf-8"
    assert json.loads(request.body)["error"]["message"] == "O disco está cheio."


def test_it_is_tried_again_when_that_may_help(
    hook: Webhook, web: receivers.WebReceiver, no_pauses: list[float]
) -> None:
    web.statuses, web.headers = [503, 429, 204], {"Retry-After": "7"}
    assert told(Notify(webhooks={"chat": hook}))["webhook chat"].error is None
    assert len(web.requests) == 3
    assert no_pauses == [7.0, 7.0]


@pytest.mark.parametrize(("status", "requests"), [(500, 3), (404, 1), (302, 1)])
def test_a_refusal_is_told_without_the_address(
    hook: Webhook, web: receivers.WebReceiver, status: int, requests: int
) -> None:
    web.statuses, web.headers = [status], {"Location": f"{web.url}/elsewhere"}
    error = told(Notify(webhooks={"chat": hook}))["webhook chat"].error
    assert error.code == "NOTIFY_FAILED"
    assert f"The webhook chat did not take the message: it answered {status}." in error.message
    assert len(web.requests) == requests
    assert TOKEN not in str(error)


def test_a_server_that_is_not_trusted_gets_nothing(hook: Webhook, web: receivers.WebReceiver) -> None:
    error = told(Notify(webhooks={"chat": Webhook(url_file=hook.url_file)}))["webhook chat"].error
    assert "CERTIFICATE_VERIFY_FAILED" in error.message
    assert TOKEN not in str(error)
    assert web.requests == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (f"http://127.0.0.1:1/{TOKEN}", "NOTIFY_FAILED"),
        (f"https://[{TOKEN}", "NOTIFY_FAILED"),
        (f"https://127.0.0.1:99999999/{TOKEN}", "NOTIFY_FAILED"),
        (f"ftp://127.0.0.1/{TOKEN}", "SECRET_INVALID"),
        (f"https://a/{TOKEN}\nhttps://b/", "SECRET_INVALID"),
        ("", "SECRET_INVALID"),
        (None, "SECRET_MISSING"),
    ],
)
def test_an_unusable_address_is_told_without_its_content(
    tmp_path: Path, content: str | None, code: str
) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_text(content)
    error = told(Notify(webhooks={"chat": Webhook(url_file=file)}))["webhook chat"].error
    assert error.code == code
    assert TOKEN not in str(error)


def test_one_dead_channel_silences_no_other(
    hook: Webhook, web: receivers.WebReceiver, tmp_path: Path
) -> None:
    dead = Webhook(url_file=tmp_path / "missing")
    relay = Mail(to=("ops@example.com",), sender="db1@example.com", host="127.0.0.1", port=free_port())
    deliveries = told(Notify(mail=relay, webhooks={"a": dead, "b": hook}))
    assert {name: delivery.error is None for name, delivery in deliveries.items()} == {
        "mail": False,
        "webhook a": False,
        "webhook b": True,
    }
    assert len(web.requests) == 1


def test_a_host_that_tells_nobody_says_so() -> None:
    with pytest.raises(OpsError) as raised:
        told(Notify())
    assert raised.value.code == "NOTIFY_UNCONFIGURED"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def settings(receiver: receivers.MailReceiver, tmp_path: Path, **more: Any) -> Mail:
    file = tmp_path / "password"
    file.write_text("pa55\n")
    given: dict[str, Any] = {
        "to": ("ops@example.com", "boss@example.com"),
        "sender": "pharma-ops <db1@example.com>",
        "host": "127.0.0.1",
        "port": receiver.port,
        "ca_file": receiver.identity.certificate,
        "password_file": file,
    }
    return Mail(**given | more)


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_a_mail_arrives_as_the_configuration_says(
    identity: receivers.Identity, tmp_path: Path, security: Any
) -> None:
    encrypted = security != "none"
    with receivers.relay(
        identity, implicit=security == "tls", password="pa55" if encrypted else None
    ) as receiver:
        given = settings(receiver, tmp_path, security=security, user="relay-user" if encrypted else "")
        assert mail.send(given, compose(FAILURE, "pt-BR"), AT) == ()
    (taken,) = receiver.mails
    assert (taken.encrypted, taken.user) == (encrypted, "relay-user" if encrypted else "")
    assert (taken.sender, taken.recipients) == ("db1@example.com", ["ops@example.com", "boss@example.com"])
    read = email.message_from_bytes(taken.data, policy=email.policy.default)
    assert read["Subject"] == "[prod] Backup: falha em db1: STORE_FULL"
    assert read["Message-ID"].endswith("@example.com>")
    assert read["Date"].datetime == AT
    assert read["Auto-Submitted"] == "auto-generated"
    assert read.get_content_type() == "text/plain"
    assert read.get_content_charset() == "utf-8"
    assert "O disco está cheio." in read.get_content()
    assert all(len(line) < 998 for line in taken.data.split(b"\r\n"))


def test_a_relay_without_the_encryption_asked_for_gets_no_mail(
    identity: receivers.Identity, tmp_path: Path
) -> None:
    with receivers.relay(identity, starttls=False) as receiver, pytest.raises(OpsError) as raised:
        mail.send(settings(receiver, tmp_path, security="starttls"), compose(FAILURE, "en"), AT)
    assert raised.value.code == "NOTIFY_FAILED"
    assert receiver.mails == []


def test_a_relay_that_is_not_trusted_gets_no_mail(identity: receivers.Identity, tmp_path: Path) -> None:
    with receivers.relay(identity, implicit=True) as receiver, pytest.raises(OpsError) as raised:
        mail.send(settings(receiver, tmp_path, security="tls", ca_file=None), compose(FAILURE, "en"), AT)
    assert "CERTIFICATE_VERIFY_FAILED" in raised.value.message
    assert receiver.mails == []


def test_a_password_never_goes_over_an_open_line(identity: receivers.Identity, tmp_path: Path) -> None:
    with receivers.relay(identity, password="x") as receiver, pytest.raises(OpsError) as raised:
        mail.send(settings(receiver, tmp_path, user="relay-user"), compose(FAILURE, "en"), AT)
    assert raised.value.code == "CONFIG_INVALID"


def test_a_password_that_smtp_cannot_carry_is_refused(identity: receivers.Identity, tmp_path: Path) -> None:
    with receivers.relay(identity) as receiver, pytest.raises(OpsError) as raised:
        given = settings(receiver, tmp_path, security="starttls", user="relay-user")
        (tmp_path / "password").write_text("pä55")
        mail.send(given, compose(FAILURE, "en"), AT)
    assert raised.value.code == "SECRET_INVALID"
    assert "pä55" not in str(raised.value)


def test_a_wrong_password_is_told_without_it(identity: receivers.Identity, tmp_path: Path) -> None:
    with receivers.relay(identity, password="other") as receiver, pytest.raises(OpsError) as raised:
        given = settings(receiver, tmp_path, security="starttls", user="relay-user")
        mail.send(given, compose(FAILURE, "en"), AT)
    assert "refuses user and password (535)" in raised.value.message
    assert "pa55" not in str(raised.value)


def test_refused_recipients_are_named(identity: receivers.Identity, tmp_path: Path) -> None:
    with receivers.relay(identity, refuse=frozenset({"boss@example.com"})) as receiver:
        assert mail.send(settings(receiver, tmp_path), compose(FAILURE, "en"), AT) == ("boss@example.com",)
        assert receiver.mails[0].recipients == ["ops@example.com"]
        with pytest.raises(OpsError) as raised:
            mail.send(settings(receiver, tmp_path, to=("boss@example.com",)), compose(FAILURE, "en"), AT)
    assert "boss@example.com: 550 no such user" in raised.value.message


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": ()},
        {"to": ("nobody",)},
        {"sender": ""},
        {"sender": "x"},
        {"to": ("a@b.c\nBcc: e@f.g",)},
        {"sender": "a@"},
    ],
)
def test_what_is_no_address_is_refused(wrong: dict[str, Any]) -> None:
    given = Mail(**{"to": ("ops@example.com",), "sender": "db1@example.com"} | wrong)
    with pytest.raises(OpsError) as raised:
        mail.build(given, compose(FAILURE, "en"), AT)
    assert raised.value.code == "CONFIG_INVALID"


def switch(hook: Webhook) -> Notify:
    return Notify(pings={"backup": Ping(url_file=hook.url_file, ca_file=hook.ca_file)})


def test_a_switch_hears_of_start_and_success(hook: Webhook, web: receivers.WebReceiver) -> None:
    log = Log("lab", "run-12345", [])
    assert ping.watched(switch(hook), "backup", log, lambda: ExitCode.PROVEN) is ExitCode.PROVEN
    assert [request.path for request in web.requests] == [f"/hooks/{TOKEN}/start", f"/hooks/{TOKEN}"]


def test_a_switch_hears_of_every_kind_of_failure(hook: Webhook, web: receivers.WebReceiver) -> None:
    log = Log("lab", "run-12345", [])

    def ends(error: BaseException) -> Any:
        def run() -> ExitCode:
            raise error

        return run

    assert ping.watched(switch(hook), "backup", log, lambda: ExitCode.FAILED) is ExitCode.FAILED
    for error in (
        OpsError("STORE_FULL", "password=hunter2 is full.", "Free it."),
        KeyboardInterrupt(),
        ValueError("x"),
    ):
        with pytest.raises(type(error)):
            ping.watched(switch(hook), "backup", log, ends(error))
    failures = [request for request in web.requests if request.path.endswith("/fail")]
    assert [request.body.decode() for request in failures] == [
        "backup ended with exit code 1.",
        "STORE_FULL: password=*** is full.\nFree it.",
        "The run was interrupted.",
        "A defect ended the run.",
    ]


def test_a_switch_that_does_not_answer_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"http://127.0.0.1:{free_port()}/{TOKEN}")
    stream = io.StringIO()
    notify = Notify(pings={"backup": Ping(url_file=file)})
    assert ping.watched(notify, "backup", Log("lab", "run-12345", [stream]), lambda: ExitCode.PROVEN) == 0
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["msg"], line["meta"]["signal"]) for line in lines] == [
        ("ping_failed", "start"),
        ("ping_failed", "success"),
    ]
    assert TOKEN not in stream.getvalue()


def test_a_query_stays_behind_the_path() -> None:
    assert ping.address("https://h/x?rid=1", "fail") == "https://h/x/fail?rid=1"
    assert ping.address("https://h/x/", "start") == "https://h/x/start"
    assert ping.address("https://h/x", "success") == "https://h/x"


def test_the_command_tells_and_says_who_took_it(
    hook: Webhook, web: receivers.WebReceiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        f'environment = "lab"\n[notify.webhooks.chat]\nurl_file = "{hook.url_file}"\nca_file = "{hook.ca_file}"\n'
    )
    assert main(["notify", "--test", "--config", str(path)]) == 0
    assert "✓ webhook chat took it" in capsys.readouterr().out
    assert json.loads(web.requests[0].body)["event"] == "test"
    web.statuses = [403]
    assert main(["notify", "--test", "--json", "--config", str(path)]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["deliveries"][0]["error"]["code"] == "NOTIFY_FAILED"
    assert TOKEN not in shown.out + shown.err
    assert main(["notify", "--unit=--help", "--config", str(path)]) == 2


def test_a_command_with_a_switch_signals_how_it_ended(
    hook: Webhook, web: receivers.WebReceiver, tmp_path: Path
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        f'environment = "lab"\n[notify.pings.backup]\nurl_file = "{hook.url_file}"\nca_file = "{hook.ca_file}"\n'
    )
    assert config.load(path).notify.pings
    assert main(["backup", "create", "--config", str(path)]) == 2
    assert [request.path.rpartition("/")[2] for request in web.requests] == ["start", "fail"]
    assert b"CONFIG_INVALID" in web.requests[1].body


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('[notify.pings.bakup]\nurl_file = "{url}"', "CONFIG_INVALID"),
        ('[notify.pings.backup]\nurl_file = "/nowhere"', "SECRET_MISSING"),
        ('[notify.webhooks.chat]\nurl_file = "{config}"', "SECRET_INVALID"),
        ('[notify.mail]\nto = ["nobody"]\nsender = "a@example.com"', "CONFIG_INVALID"),
        ('[notify.mail]\nto = ["a@example.com"]\nsender = "a@example.com"\nuser = "u"', "CONFIG_INVALID"),
        ('[seen]\nstores = ["nowhere"]\ndatabases = ["a"]', "CONFIG_INVALID"),
    ],
)
def test_a_mistake_is_found_when_the_configuration_is_checked(
    hook: Webhook, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: str
) -> None:
    path = tmp_path / "config.toml"
    right = f'environment = "lab"\n[notify.webhooks.right]\nurl_file = "{hook.url_file}"\n'
    path.write_text(right)
    assert main(["config", "check", "--config", str(path)]) == 0
    path.write_text(right + text.format(url=hook.url_file, config=path))
    assert main(["config", "check", "--config", str(path)]) == 2
    assert code in capsys.readouterr().err
