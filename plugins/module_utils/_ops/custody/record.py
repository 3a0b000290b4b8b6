# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of rotations on a host, and what they say of values that somebody wants to deploy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import files
from ..config import Config
from ..errors import OpsError
from . import rotation
from .fingerprint import fingerprint, host_key
from .rotation import Rotation


def record_path(config: Config, name: str) -> Path:
    """Where the record of the rotation of a secret lies."""
    return config.state_dir / "rotations" / f"{name}.json"


def load(config: Config, name: str) -> Rotation | None:
    """The record of the last rotation of a secret; None when there was none.

    :raises OpsError: ``ROTATION_RECORD_INVALID``.
    """
    path = record_path(config, name)
    try:
        return rotation.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise OpsError(
            "ROTATION_RECORD_INVALID",
            f"{path} is not a record of a rotation: {type(error).__name__}.",
            "Restore it from a copy. Without it nobody knows which of the two values is in force.",
        ) from error


def save(config: Config, record: Rotation) -> None:
    """Write the record.

    :raises OpsError: ``FILE_NOT_WRITTEN``.
    """
    path = record_path(config, record.name)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise OpsError(
            "FILE_NOT_WRITTEN", f"{path.parent} cannot be made: {error.strerror}.", "Run as root."
        ) from error
    text = json.dumps(rotation.as_dict(record), indent=1) + "\n"
    files.write_atomic(path, text.encode(), 0o644)


def names(config: Config) -> list[str]:
    """The secrets that were ever rotated on this host."""
    return sorted(path.stem for path in (config.state_dir / "rotations").glob("*.json"))


def prints(config: Config, values: Sequence[str]) -> tuple[str, ...]:
    """The host's fingerprints of values.

    :raises OpsError: ``FINGERPRINT_KEY_UNUSABLE``.
    """
    key = host_key(config.fingerprint_key_file)
    return tuple(fingerprint(key, value.encode()) for value in values)


def under_rotation(config: Config, candidates: Mapping[str, Sequence[str]]) -> list[str]:
    """Which of the secrets to deploy a running rotation manages: a deployment leaves their files alone.

    :param candidates: name of the rotation → the values to deploy (a ring, or one).
    :raises OpsError: ``SECRET_RETIRED``; ``ROTATION_OTHER``: a rotation is under way, and the value is neither of
        its two; ``ROTATION_RECORD_INVALID``, ``FINGERPRINT_KEY_UNUSABLE``.
    """
    left = []
    for name, values in sorted(candidates.items()):
        record = load(config, name)
        if record is None:
            continue
        given = set(prints(config, values))
        if given & set(record.retired):
            raise rotation.retired_error(name)
        if record.over:
            continue
        if not given <= {record.old, record.new}:
            raise OpsError(
                "ROTATION_OTHER",
                f"A rotation of {name} is under way, and the value to deploy is neither of its two.",
                "Finish the rotation or take it back (playbooks/rotate_secrets.yml), then deploy.",
            )
        left.append(name)
    return left
