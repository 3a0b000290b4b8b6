# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the inventory of a host: reads every configured secret, keeps its fingerprint, forgets its value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import clock, files
from ..config import Config, Secret
from ..errors import OpsError
from ..locks import held
from .fingerprint import fingerprint, host_key
from .inventory import Entry, entries, remember, value_of


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What a scan found; ``missing``: name → why its file could not be read."""

    entries: tuple[Entry, ...]
    missing: Mapping[str, str]
    changed: bool = False


def inventory_path(config: Config) -> Path:
    """Where the inventory lies; readable by every process of the host."""
    return config.state_dir / "secrets" / "inventory.json"


def scan(config: Config, run_id: str, now: datetime | None = None) -> Inventory:
    """Read all secrets and write the inventory. It is the only thing of them that is written.

    :raises OpsError: ``FINGERPRINT_KEY_UNUSABLE``, ``INVENTORY_INVALID``, ``FILE_NOT_WRITTEN``,
        ``LOCK_HELD``.
    """
    path = inventory_path(config)
    seen = path.with_name("seen.json")
    with held(config.lock_dir, "secrets", run_id):
        _make_directory(path.parent)
        prints, missing = _fingerprints(config.secrets, host_key(config.fingerprint_key_file))
        history = remember(_history(seen), prints, now or clock.now())
        found = entries(config.secrets, prints, history)
        _write_when_other(seen, history)
        changed = _write_when_other(path, {"secrets": [entry.as_dict() for entry in found]})
    return Inventory(entries=found, missing=missing, changed=changed)


def read(config: Config) -> tuple[Entry, ...]:
    """The inventory as the last scan wrote it.

    :raises OpsError: ``INVENTORY_MISSING``, ``INVENTORY_INVALID``.
    """
    path = inventory_path(config)
    data = _json(path)
    if data is None:
        raise OpsError(
            "INVENTORY_MISSING",
            f"There is no inventory of secrets at {path}.",
            "Run: pharma-ops secrets scan",
        )
    try:
        return tuple(Entry.from_dict(item) for item in data["secrets"])
    except (KeyError, ValueError, TypeError) as error:
        raise _invalid(path) from error


def _fingerprints(secrets: Mapping[str, Secret], key: bytes) -> tuple[dict[str, str], dict[str, str]]:
    prints: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name, secret in sorted(secrets.items()):
        try:
            value = value_of(secret, secret.file.read_bytes())
        except OSError as error:
            missing[name] = f"{secret.file}: {error.strerror}"
            continue
        if value:
            prints[name] = fingerprint(key, value)
        else:
            missing[name] = f"{secret.file}: it is empty"
    return prints, missing


def _history(path: Path) -> dict[str, dict[str, str]]:
    data = _json(path)
    if data is None:
        return {}
    try:
        for times in data.values():
            for moment in times.values():
                clock.from_text(moment)
    except (AttributeError, ValueError, TypeError) as error:
        raise _invalid(path) from error
    return data


def _json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _invalid(path) from error
    if not isinstance(data, dict):
        raise _invalid(path)
    return data


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        # The umask of a unit or of an operator must not hide the inventory from the service that shows it.
        path.chmod(0o755)
    except OSError as error:
        raise OpsError(
            "FILE_NOT_WRITTEN", f"{path} cannot be made: {error.strerror}.", "Run as root."
        ) from error


def _write_when_other(path: Path, data: Mapping[str, Any]) -> bool:
    text = (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()
    if path.exists() and path.read_bytes() == text:
        return False
    files.write_atomic(path, text, 0o644)
    return True


def _invalid(path: Path) -> OpsError:
    return OpsError(
        "INVENTORY_INVALID",
        f"{path} is not what a scan writes.",
        "Restore it from a copy, or remove it: ages then begin at the next scan.",
    )
