# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages as chat and paging services take them by webhook."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ..config import Webhook
from ..errors import OpsError
from . import http
from .message import Message

SLACK_HEADER_CHARACTERS = 150
SLACK_FIELDS = 10
NTFY_BYTES = 4000
"""ntfy turns a longer message into an attachment."""


@dataclass(frozen=True)
class Post:
    """Where a message goes and as what."""

    url: str
    body: dict[str, Any]


def send(name: str, settings: Webhook, message: Message) -> None:
    """Post a message to one webhook.

    :raises OpsError: ``NOTIFY_FAILED``, ``SECRET_MISSING``, ``SECRET_INVALID``; the address is in none.
    """
    post = shaped(settings, http.read_address(settings.url_file), message)
    http.post(
        f"the webhook {name}",
        post.url,
        {"Content-Type": "application/json; charset=utf-8", "User-Agent": "pharma-ops"},
        json.dumps(post.body, ensure_ascii=False).encode("utf-8", "replace"),
        ca_file=settings.ca_file,
    )


def shaped(settings: Webhook, url: str, message: Message) -> Post:
    """The message in the form of the service behind an address.

    :raises OpsError: ``SECRET_INVALID`` when the address of ntfy has no topic.
    """
    if settings.kind == "ntfy":
        parts = urlsplit(url)
        before, _slash, topic = parts.path.rstrip("/").rpartition("/")
        if not topic:
            raise OpsError(
                "SECRET_INVALID",
                f"The address in {settings.url_file} does not end in a topic of ntfy.",
                "Write it as https://ntfy.example.com/TOPIC.",
            )
        return Post(urlunsplit(parts._replace(path=f"{before}/")), ntfy(message, topic))
    return Post(url, _SHAPES[settings.kind](message))


def plain_json(message: Message) -> dict[str, Any]:
    """Our own form: title, text, and the facts with stable keys."""
    return {"title": message.title, "text": message.text, **message.data}


def ntfy(message: Message, topic: str) -> dict[str, Any]:
    """Publishing as JSON (https://docs.ntfy.sh/publish/#publish-as-json): to the root, the topic in the body."""
    text = message.text.encode()[:NTFY_BYTES].decode(errors="ignore")
    return {
        "topic": topic,
        "title": message.title,
        "message": text,
        "priority": 4 if message.urgent else 3,
        "tags": ["rotating_light" if message.urgent else "white_check_mark"],
    }


def slack(message: Message) -> dict[str, Any]:
    """Incoming webhook with Block Kit (https://api.slack.com/reference/block-kit/blocks).

    ``text`` is what notifications show.
    """
    escaped = _slack_escaped(message.cause)
    blocks: list[dict[str, Any]] = [
        {
            "type": "header",
            "text": {"type": "plain_text", "text": message.title[:SLACK_HEADER_CHARACTERS], "emoji": False},
        },
        _section(f"{escaped}\n*{message.action_label}:* {_slack_escaped(message.action)}"),
        {
            "type": "section",
            "fields": [
                {"type": "mrkdwn", "text": f"*{_slack_escaped(label)}*\n{_slack_escaped(value)}"}
                for label, value in message.facts[:SLACK_FIELDS]
            ],
        },
    ]
    if message.lines:
        # Backticks would end the block early.
        quoted = "\n".join(line.replace("`", "'") for line in message.lines)
        blocks.append(_section(f"```{_slack_escaped(quoted)}```"))
    return {"text": _slack_escaped(f"{message.title}: {message.cause}"), "blocks": blocks}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:3000]}}


def _slack_escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def teams(message: Message) -> dict[str, Any]:
    """An Adaptive Card as the workflow "When a Teams webhook request is received" takes it.

    https://learn.microsoft.com/power-automate/teams/send-a-message-in-teams: a message with attachments.
    """
    body: list[dict[str, Any]] = [
        _block(
            message.title,
            size="Large",
            weight="Bolder",
            color="Attention" if message.urgent else "Good",
            style="heading",
        ),
        _block(message.cause),
        _block(f"{message.action_label}: {message.action}", weight="Bolder"),
        {
            "type": "FactSet",
            "facts": [{"title": _marked(label), "value": _marked(value)} for label, value in message.facts],
        },
    ]
    body += [_block(line, fontType="Monospace", isSubtle=True, spacing="None") for line in message.lines]
    return {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "msteams": {"width": "Full"},
                    "body": body,
                },
            }
        ],
    }


def _block(text: str, **style: Any) -> dict[str, Any]:
    return {"type": "TextBlock", "text": _marked(text), "wrap": True, **style}


def _marked(text: str) -> str:
    """The text so that the card's Markdown shows it as it is."""
    return re.sub(r"([\\*_\[\]`~])", r"\\\1", text)


_SHAPES: Mapping[str, Callable[[Message], dict[str, Any]]] = {
    "json": plain_json,
    "slack": slack,
    "teams": teams,
}
