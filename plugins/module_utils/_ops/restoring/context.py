# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup set that is restored, and what a stage needs that an earlier one has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from ..backup.manifest import Manifest
from ..errors import OpsError
from ..store.base import ObjectStore

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Backup:
    """The set: its manifest, the manifest's bytes and signature, where they came from."""

    store: ObjectStore
    manifest: Manifest
    manifest_bytes: bytes
    manifest_sha256: str
    signer: str

    @property
    def prefix(self) -> str:
        """Key prefix of the set's objects."""
        return f"{self.manifest.database}/{self.manifest.id}"


def needed(value: _Value | None) -> _Value:
    """What a stage before has found.

    :raises OpsError: ``STAGE_ORDER``; stages run in an order in which this cannot happen.
    """
    if value is None:
        raise OpsError(
            "STAGE_ORDER", "A stage ran before the one that it depends on.", "Report it as a defect."
        )
    return value
