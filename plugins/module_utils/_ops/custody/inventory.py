# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of secrets: who owns each, since when its value is known, and when it is due. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from .. import clock
from ..config import Secret

DUE_SHARE = 0.8
"""From this share of its maximal age on, a secret is due: time to plan its rotation."""

Standing = Literal["fresh", "due", "overdue"]
History = Mapping[str, Mapping[str, str]]
"""name → fingerprint → when it was first seen (RFC 3339)."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A secret of this host, without its value."""

    name: str
    owner: str
    file: str
    created_at: datetime
    max_age_days: int
    fingerprint: str

    def age(self, now: datetime) -> timedelta:
        """How long its value has been known; never negative, whatever the clock did."""
        return max(now - self.created_at, timedelta())

    def standing(self, now: datetime) -> Standing:
        """Whether it must be replaced."""
        share = self.age(now) / timedelta(days=self.max_age_days)
        if share > 1:
            return "overdue"
        return "due" if share >= DUE_SHARE else "fresh"

    def as_dict(self) -> dict[str, Any]:
        """As it stands in inventory.json (docs/schemas/secret-inventory.schema.json)."""
        return {
            "name": self.name,
            "owner": self.owner,
            "file": self.file,
            "createdAt": clock.to_text(self.created_at),
            "maxAgeDays": self.max_age_days,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Entry:
        """What :meth:`as_dict` made.

        :raises KeyError, ValueError, TypeError: it is something else.
        """
        return cls(
            name=str(data["name"]),
            owner=str(data["owner"]),
            file=str(data["file"]),
            created_at=clock.from_text(data["createdAt"]),
            max_age_days=int(data["maxAgeDays"]),
            fingerprint=str(data["fingerprint"]),
        )


def value_of(secret: Secret, content: bytes) -> bytes:
    """What of a file is the value: of a key ring the line that signs, else all of it but a last line end."""
    if secret.ring:
        lines = [line.strip() for line in content.splitlines() if line.strip()]
        return lines[0] if lines else b""
    return content.rstrip(b"\r\n")


def remember(history: History, prints: Mapping[str, str], now: datetime) -> dict[str, dict[str, str]]:
    """The history with the fingerprints of now: a value that comes back keeps the time it was first seen."""
    grown = {name: dict(seen) for name, seen in history.items()}
    for name, found in prints.items():
        grown.setdefault(name, {}).setdefault(found, clock.to_text(now))
    return grown


def entries(secrets: Mapping[str, Secret], prints: Mapping[str, str], history: History) -> tuple[Entry, ...]:
    """The inventory, by name, of the configured secrets that have a fingerprint in ``prints``."""
    return tuple(
        Entry(
            name=name,
            owner=secret.owner,
            file=str(secret.file),
            created_at=clock.from_text(history[name][prints[name]]),
            max_age_days=secret.max_age_days,
            fingerprint=prints[name],
        )
        for name, secret in sorted(secrets.items())
        if name in prints
    )
