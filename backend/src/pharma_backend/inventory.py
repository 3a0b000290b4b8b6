# SPDX-License-Identifier: GPL-3.0-or-later
"""The ages of the secrets, from the inventory that ``pharma-ops secrets scan`` writes. It holds no values."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from . import metrics

_DAY = 86_400


def ages(document: Any, now: datetime) -> dict[str, tuple[float, float]]:
    """Age and maximal age in seconds of each secret, by its name.

    :raises ValueError: the document is no inventory.
    """
    try:
        return {
            str(entry["name"]): (
                (now - datetime.fromisoformat(entry["createdAt"])).total_seconds(),
                float(entry["maxAgeDays"]) * _DAY,
            )
            for entry in document["secrets"]
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"no inventory of secrets: {error}") from error


def sample(path: Path, now: datetime) -> None:
    """Set the metrics from the file; one that cannot be used leaves no ages, and says so."""
    try:
        found = ages(json.loads(path.read_bytes()), now)
    except (OSError, ValueError):
        found = {}
        metrics.SECRET_INVENTORY.set(0)
    else:
        metrics.SECRET_INVENTORY.set(1)
    metrics.SECRET_AGE.clear()
    metrics.SECRET_MAX_AGE.clear()
    for name, (age, maximum) in found.items():
        metrics.SECRET_AGE.labels(name).set(age)
        metrics.SECRET_MAX_AGE.labels(name).set(maximum)
