# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which key opens which set, as the signed manifests tell; and which sets still need a key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from .. import clock
from ..errors import OpsError
from ..store.base import ObjectInfo, ObjectStore
from .catalogue import SetInfo, is_set_id, sets_of
from .verify import read_manifest

_SESSIONS = 8
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Readable:
    """A complete set and whom it was encrypted for.

    :ivar recipients: fingerprints of its recipients; empty when ``problem`` is set.
    :ivar problem: why its manifest cannot be believed; empty: it can.
    """

    set: SetInfo
    recipients: tuple[str, ...]
    problem: str = ""

    @property
    def name(self) -> str:
        """``<database>/<id>``."""
        return self.set.prefix

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the command."""
        return {
            "backup_id": self.set.id,
            "database": self.set.database,
            "started_at": clock.to_text(self.set.started_at),
            "recipients": list(self.recipients),
            "problem": self.problem,
        }


def complete_sets(listing: Iterable[ObjectInfo]) -> list[SetInfo]:
    """The complete sets of every database in a listing of a whole store, oldest first."""
    by_database: dict[str, list[ObjectInfo]] = {}
    for item in listing:
        parts = item.key.split("/")
        if len(parts) >= 3 and is_set_id(parts[1]):
            by_database.setdefault(parts[0], []).append(item)
    found = [item for database, items in by_database.items() for item in sets_of(items, database)]
    return sorted((item for item in found if item.state == "complete"), key=lambda item: item.id)


def read(store: ObjectStore, sets: Sequence[SetInfo], trusted_signers_pem: bytes) -> list[Readable]:
    """Ask the manifests of sets for their recipients, in the order of ``sets``.

    :raises OpsError: the store does not answer; a manifest that is not to be believed is a ``problem``.
    """
    with ThreadPoolExecutor(max_workers=_SESSIONS) as pool:
        return list(pool.map(lambda item: _read(store, item, trusted_signers_pem), sets))


def _read(store: ObjectStore, item: SetInfo, trusted_signers_pem: bytes) -> Readable:
    try:
        manifest, _data, _signer = read_manifest(store, item.database, item.id, trusted_signers_pem)
    except OpsError as error:
        if error.code.startswith("STORE_") and error.code != "STORE_OBJECT_MISSING":
            raise
        return Readable(set=item, recipients=(), problem=str(error))
    return Readable(set=item, recipients=manifest.recipients)


def check_unneeded(sets: Sequence[Readable], fingerprint: str, left: Collection[str], where: str) -> None:
    """Refuse to give up a key that a complete set still needs, or may need.

    :param sets: every complete set there is.
    :param left: fingerprints of the keys that this host would still have.
    :param where: the store, for the message.
    :raises OpsError: ``BACKUP_MISSING`` when no set shows that a key that is left is in use,
        ``KEY_STILL_NEEDED`` with the names of the sets.
    """
    if not sets:
        raise OpsError(
            "BACKUP_MISSING",
            f"{where} has no complete backup, so nothing shows that another key of this host is in use.",
            "Make a backup for the new recipient first, or name the right store with --store.",
        )
    needing = [item for item in sets if needs(item, fingerprint, left)]
    if needing:
        names = ", ".join(item.name for item in needing[:_NAMED])
        more = f" and {len(needing) - _NAMED} more" if len(needing) > _NAMED else ""
        doubtful = sum(bool(item.problem) for item in needing)
        raise OpsError(
            "KEY_STILL_NEEDED",
            f"The key {fingerprint} is not removed: {len(needing)} complete set(s) in {where} need it: "
            f"{names}{more}"
            f"{f' ({doubtful} of them have a manifest that cannot be believed)' if doubtful else ''}.",
            "Keep it until retention has removed them; the escrow key is no reason to give it up earlier.",
        )


def needs(item: Readable, fingerprint: str, left: Collection[str]) -> bool:
    """Whether a set is opened by this key and by none that is left, or does not say by which."""
    if item.problem:
        return True
    return fingerprint in item.recipients and not set(left) & set(item.recipients)
