# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON lines of the operations tools (docs/schemas/log-line.schema.json).

``msg`` is an event name in snake_case and ``meta`` holds its facts; a line never carries a secret
because callers pass facts, not formatted sentences.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from . import clock
from .errors import OpsError

SERVICE = "pharma-ops"
MAX_LINE_BYTES = 32 * 1024
MAX_STACK_FRAMES = 40
_EVENT = re.compile(r"^[a-z][a-z0-9_]*$")
# Foreign libraries put connection strings into their messages.
_PASSWORD = re.compile(r"(?i)(://[^:/@\s]*:)[^@\s]+(?=@)|(\bpassword\s*=\s*)('[^']*'|\S+)")
_IDENTITY = re.compile(r"(?i)AGE-SECRET-KEY-[0-9A-Z]+")


@dataclass
class Log:
    """Writes lines to every open stream; a stream that cannot be written never stops the work.

    :param env: ``prod``, ``staging`` or ``lab``.
    :param run_id: stands in ``requestId``.
    """

    env: str
    run_id: str
    streams: list[TextIO] = field(default_factory=lambda: [sys.stderr])

    def info(self, event: str, **meta: Any) -> None:
        """Write a line of level ``info``."""
        self._write("info", event, meta, None)

    def warn(self, event: str, **meta: Any) -> None:
        """Write a line of level ``warn``."""
        self._write("warn", event, meta, None)

    def error(self, event: str, error: BaseException, **meta: Any) -> None:
        """Write a line of level ``error`` with the error's code and its stack without locals.

        The next step of an :class:`OpsError` stands in ``meta.action``.
        """
        action = error.action if isinstance(error, OpsError) else ""
        self._write("error", event, ({"action": scanned(action)} if action else {}) | meta, error)

    def to_file(self, path: Path) -> TextIO:
        """Add a file (append mode) to the streams; the caller closes it."""
        stream = path.open("a", encoding="utf-8", buffering=1)
        self.streams.append(stream)
        return stream

    def _write(self, level: str, event: str, meta: dict[str, Any], error: BaseException | None) -> None:
        if not _EVENT.match(event):
            raise ValueError(f"log event {event!r} is not snake_case")
        line: dict[str, Any] = {
            "ts": clock.to_text(clock.now()),
            "level": level,
            "service": SERVICE,
            "env": self.env,
            "requestId": self.run_id,
            "route": f"{SERVICE}@{socket.gethostname()}",
            "msg": event,
            "meta": meta,
        }
        if error is not None:
            line["error"] = _describe(error)
        text = _encode(line)
        for stream in self.streams:
            try:
                stream.write(text + "\n")
            except (OSError, ValueError):
                continue


def scanned(text: str) -> str:
    """The text without the passwords and private keys that foreign libraries put into their messages."""
    text = _PASSWORD.sub(lambda found: f"{found[1] or found[2]}***", text)
    return _IDENTITY.sub("AGE-SECRET-KEY-***", text)


def _describe(error: BaseException) -> dict[str, Any]:
    """An error's code, type, message without passwords, and its innermost frames without locals."""
    frames = traceback.extract_tb(error.__traceback__)[-MAX_STACK_FRAMES:]
    return {
        "code": error.code if isinstance(error, OpsError) else "INTERNAL",
        "type": type(error).__name__,
        "message": scanned(str(error)[:2000]),
        "stack": [f"{frame.filename}:{frame.lineno} {frame.name}"[:200] for frame in frames],
    }


def _encode(line: dict[str, Any]) -> str:
    """One line of valid JSON below :data:`MAX_LINE_BYTES`; what does not fit is named as left out."""
    try:
        text = _dump(line)
    except ValueError:  # a float that JSON does not have, or an object that holds itself
        text = _dump(line | {"meta": {"unserializable": sorted(line["meta"])}})
    if len(text.encode()) >= MAX_LINE_BYTES:
        text = _dump(line | {"meta": {"truncated": True}})
    if len(text.encode()) >= MAX_LINE_BYTES:
        text = _dump(line | {"meta": {"truncated": True}, "error": line["error"] | {"stack": []}})
    return text


def _dump(line: dict[str, Any]) -> str:
    text = json.dumps(line, ensure_ascii=False, separators=(",", ":"), default=str, allow_nan=False)
    # A file name that is not UTF-8 arrives as lone surrogates, which no stream can write.
    return text.encode("utf-8", "replace").decode()
