# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages by mail: plain text, sent through a relay that is encrypted as the configuration says."""

from __future__ import annotations

import smtplib
import socket
import ssl
from datetime import datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path

from .. import clock
from ..config import Mail
from ..errors import OpsError
from .http import failed
from .message import Message

TIMEOUT_SECONDS = 20.0
WHAT = "the mail relay"


def build(settings: Mail, message: Message, at: datetime) -> EmailMessage:
    """The mail: UTF-8 text, an id of its own, marked so that no holiday reply answers it.

    :raises OpsError: ``CONFIG_INVALID`` when an address is not one.
    """
    mail = EmailMessage(policy=policy.SMTP)
    try:
        mail["From"] = settings.sender
        mail["To"] = ", ".join(settings.to)
        if not settings.to or mail["From"].defects or mail["To"].defects or not _domains(mail):
            raise ValueError("an address is missing or malformed")
    except (ValueError, IndexError) as error:
        raise _invalid(f"the mail's sender or recipients are not addresses: {error}") from None
    mail["Subject"] = message.title
    mail["Date"] = format_datetime(at)
    mail["Message-ID"] = make_msgid(domain=mail["From"].addresses[0].domain)
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    if message.urgent:
        mail["Importance"] = "high"
    mail.set_content(message.text, subtype="plain", charset="utf-8", cte="quoted-printable")
    return mail


def _domains(mail: EmailMessage) -> bool:
    found = [mail[name].addresses for name in ("From", "To")]
    return all(found) and all(one.username and one.domain for some in found for one in some)


def send(settings: Mail, message: Message, at: datetime) -> tuple[str, ...]:
    """Give a mail to the relay; returns the recipients that it refused while it took others.

    :raises OpsError: ``NOTIFY_FAILED``, ``CONFIG_INVALID``, ``SECRET_MISSING``.
    """
    mail = build(settings, message, at)
    password = _password(settings)
    try:
        with _connection(settings) as relay:
            if settings.user:
                relay.login(settings.user, password)
            return tuple(sorted(relay.send_message(mail)))
    except (smtplib.SMTPException, OSError) as error:
        raise failed(WHAT, _reason(error)) from error


def check(settings: Mail, message: Message) -> None:
    """Look at addresses and password without asking the relay.

    :raises OpsError: ``CONFIG_INVALID``, ``SECRET_MISSING``, ``SECRET_INVALID``.
    """
    build(settings, message, clock.now())
    _password(settings)


def _connection(settings: Mail) -> smtplib.SMTP:
    trust = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    if settings.security == "tls":
        return smtplib.SMTP_SSL(settings.host, settings.port, timeout=TIMEOUT_SECONDS, context=trust)
    relay = smtplib.SMTP(settings.host, settings.port, timeout=TIMEOUT_SECONDS)
    if settings.security == "starttls":
        try:
            relay.starttls(context=trust)
        except BaseException:
            relay.close()
            raise
    return relay


def _password(settings: Mail) -> str:
    if not settings.user:
        return ""
    if settings.security == "none":
        raise _invalid("a mail user needs security = starttls or tls: no password goes over an open line")
    if settings.password_file is None:
        raise _invalid("a mail user needs password_file")
    return _read(settings.password_file)


def _read(path: Path) -> str:
    try:
        password = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise OpsError(
            "SECRET_MISSING",
            f"The password of the mail relay in {path} cannot be read: {error.strerror}.",
            "Deploy it with the role pharma.hardening.ops.",
        ) from None
    if not password or not password.isascii() or b"\n" in password:
        raise OpsError(
            "SECRET_INVALID",
            f"{path} does not hold a password: one line of ASCII, which is all that smtplib sends.",
            "Write the password alone into it, or choose another one.",
        )
    return password.decode()


def _reason(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        answers = "; ".join(
            f"{who}: {code} {text.decode('ascii', 'replace')}"
            for who, (code, text) in sorted(error.recipients.items())
        )
        return f"it refuses every recipient ({answers})"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"it refuses user and password ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        said = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
        return f"it answered {error.smtp_code} {said}"
    if isinstance(error, socket.gaierror):
        return f"its name is not known: {error.strerror}"
    return f"{type(error).__name__}: {error}"


def _invalid(message: str) -> OpsError:
    return OpsError(
        "CONFIG_INVALID",
        f"{message[:1].upper()}{message[1:]}.",
        "Correct [notify.mail] in the configuration.",
    )
