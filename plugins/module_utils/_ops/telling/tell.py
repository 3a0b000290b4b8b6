# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells all channels of a host; one that fails keeps no other from hearing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from .. import clock
from ..config import Mail, Notify, Webhook
from ..errors import ExitCode, OpsError
from . import http, mail, webhook
from .message import Failure, compose


@dataclass(frozen=True)
class Delivery:
    """What became of a message at one channel; ``error`` None: it was taken.

    :ivar refused: recipients of a mail that the relay refused while it took others.
    """

    channel: str
    error: OpsError | None = None
    refused: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """JSON values."""
        return {
            "channel": self.channel,
            "taken": self.error is None,
            "refused": list(self.refused),
            "error": self.error.as_dict() if self.error else None,
        }


JOBS = ("backup", "seen", "drill", "prune")
"""Jobs that signal a dead man's switch."""


def check(notify: Notify) -> None:
    """Look at the channels without telling anybody, so that a mistake is found now and not at night.

    :raises OpsError: ``CONFIG_INVALID``, ``SECRET_MISSING``, ``SECRET_INVALID``.
    """
    if unknown := sorted(set(notify.pings) - set(JOBS)):
        raise OpsError(
            "CONFIG_INVALID",
            f"notify.pings.{unknown[0]} is of no job; there are {', '.join(JOBS)}.",
            "Correct the configuration and run again.",
        )
    trial = Failure(job="test", host="host", environment="lab", at=clock.now(), test=True)
    message = compose(trial, notify.language)
    if notify.mail is not None:
        mail.check(notify.mail, message)
    for hook in notify.webhooks.values():
        webhook.shaped(hook, http.read_address(hook.url_file), message)
    for ping in notify.pings.values():
        http.read_address(ping.url_file)


def tell(notify: Notify, failure: Failure, now: datetime) -> tuple[Delivery, ...]:
    """Give the message to every channel, mail first.

    :raises OpsError: ``NOTIFY_UNCONFIGURED`` when there is none.
    """
    if notify.mail is None and not notify.webhooks:
        raise OpsError(
            "NOTIFY_UNCONFIGURED",
            "Nobody is told of failures on this host: the configuration has no [notify.mail] and no [notify.webhooks].",
            "Set ops_notify_mail or ops_notify_webhooks of the role pharma.hardening.ops.",
            ExitCode.FAILED,
        )
    message = compose(failure, notify.language)

    def by_mail(settings: Mail) -> Callable[[], tuple[str, ...]]:
        return lambda: mail.send(settings, message, now)

    def by_webhook(name: str, settings: Webhook) -> Callable[[], tuple[str, ...]]:
        def send() -> tuple[str, ...]:
            webhook.send(name, settings, message)
            return ()

        return send

    channels = [("mail", by_mail(notify.mail))] if notify.mail else []
    channels += [
        (f"webhook {name}", by_webhook(name, settings)) for name, settings in sorted(notify.webhooks.items())
    ]
    return tuple(_deliver(channel, send) for channel, send in channels)


def _deliver(channel: str, send: Callable[[], tuple[str, ...]]) -> Delivery:
    try:
        return Delivery(channel, refused=send())
    except OpsError as error:
        return Delivery(channel, error)
    except Exception as error:  # noqa: BLE001 - a defect in one channel must not silence the others
        # Only its kind: what a library says may quote the address.
        return Delivery(
            channel, OpsError("NOTIFY_FAILED", f"{channel} ended with {type(error).__name__}.", "Report it.")
        )
