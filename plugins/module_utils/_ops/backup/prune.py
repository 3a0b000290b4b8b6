# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prunes one database's sets in one store: looks, decides, and removes what the plan lets go.

Of a set the manifest goes first, then its signature, then the objects: whoever interrupts it leaves
an unfinished set, which a later run sweeps, never one that looks whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from .. import clock
from ..errors import ExitCode, OpsError
from ..log import Log
from ..store.base import ObjectInfo, ObjectStore, UploadInfo
from .catalogue import SetInfo, checked_database, sets_of
from .manifest import MANIFEST_NAME, SIGNATURE_NAME
from .retention import Candidate, Decision, Plan, Policy, Seen, decide

Verdict = Literal["done", "blocked", "failed"]

# Requests at a time for the locks; a store answers each in some milliseconds, there may be thousands.
LOCK_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Before:
    """What earlier runs and other records know of a database's sets in a store.

    :ivar proofs: which drill proved a set, in words, by the set's id.
    :ivar seen: when an earlier run acted.
    :ivar proven: the id that an earlier run knew as the newest proven one.
    """

    proofs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    seen: tuple[Seen, ...] = ()
    proven: str | None = None


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is there and what becomes of it; nothing is touched yet.

    :ivar uploads: unfinished uploads whose grace is over; none when the plan is blocked.
    """

    database: str
    description: str
    sets: Mapping[str, SetInfo]
    plan: Plan
    uploads: tuple[UploadInfo, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the command and the module."""
        block = self.plan.block
        return {
            "database": self.database,
            "description": self.description,
            "blocked": block.error().as_dict() if block else None,
            "sets": [decision.as_dict() for decision in self.plan.decisions],
            "uploads": [
                {"key": upload.key, "started": clock.to_text(upload.started)} for upload in self.uploads
            ],
            "bytes_to_free": sum(one.bytes for one in self.plan.removed),
        }


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run did.

    :ivar removed: ids, oldest first.
    :ivar not_removed: why a set or an upload that should have gone is still there, by id or key.
    """

    survey: Survey
    removed: tuple[str, ...] = ()
    not_removed: Mapping[str, OpsError] = dataclasses.field(default_factory=dict)
    uploads_aborted: int = 0
    bytes_freed: int = 0

    @property
    def verdict(self) -> Verdict:
        """``blocked`` and ``failed`` both need a person."""
        if self.survey.plan.block:
            return "blocked"
        return "failed" if self.not_removed else "done"

    @property
    def error(self) -> OpsError | None:
        """The cause when it did not end well."""
        if self.survey.plan.block:
            return self.survey.plan.block.error()
        if not self.not_removed:
            return None
        name, first = next(iter(self.not_removed.items()))
        return OpsError(
            "RETENTION_NOT_REMOVED",
            f"{len(self.not_removed)} of {self.survey.database} in {self.survey.description} could not be "
            f"removed, {name} first: {first.message}",
            first.action,
            ExitCode.FAILED,
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the command and the module."""
        return self.survey.as_dict() | {
            "verdict": self.verdict,
            "removed": list(self.removed),
            "not_removed": {name: error.as_dict() for name, error in self.not_removed.items()},
            "uploads_aborted": self.uploads_aborted,
            "bytes_freed": self.bytes_freed,
        }


def survey(store: ObjectStore, database: str, policy: Policy, before: Before, now: datetime) -> Survey:
    """List, decide, and ask the store for the locks of what would go.

    :raises OpsError: codes that begin with ``STORE_``.
    """
    listing = list(store.list(f"{checked_database(database)}/"))
    sets = {one.id: one for one in sets_of(listing, database)}
    uploads = list(store.unfinished_uploads(f"{database}/"))
    touched = _last_touched(listing, uploads)
    candidates = [
        Candidate(
            id=one.id,
            state=one.state,
            started_at=one.started_at,
            bytes=one.bytes,
            changed_at=touched.get(one.prefix),
            proof=before.proofs.get(one.id, ""),
        )
        for one in sets.values()
    ]
    # The store's own clock: what it has taken is of the past.
    seen = (*before.seen, *(Seen(what=f"what {name} holds", at=at) for name, at in _newest(touched)))
    plan = decide(candidates, policy, now, seen=seen, proven_before=before.proven)
    if plan.removed:
        locks = _locks(store, [sets[one.id] for one in plan.removed])
        candidates = [dataclasses.replace(one, locked_until=locks.get(one.id)) for one in candidates]
        plan = decide(candidates, policy, now, seen=seen, proven_before=before.proven)
    sweeping = not plan.block and not store.discards_uploads
    stale = [upload for upload in uploads if sweeping and upload.started + policy.grace <= now]
    return Survey(
        database=database, description=store.description, sets=sets, plan=plan, uploads=tuple(stale)
    )


def prune(store: ObjectStore, found: Survey, log: Log) -> Outcome:
    """Remove what the survey's plan lets go; a set that the store locks does not keep the others.

    Any other error ends the run: what refuses one removal refuses the next. A signal ends it where
    it is, and the next run goes on.
    """
    outcome = Outcome(survey=found)
    if found.plan.block:
        error = found.plan.block.error()
        log.error(
            "prune_blocked", error, database=found.database, store=found.description, action=error.action
        )
        return outcome
    for decision in found.plan.decisions:
        if decision.action == "remove":
            outcome = _removed(store, outcome, decision, log)
        if _is_hopeless(outcome):
            return outcome
    for upload in found.uploads:
        outcome = _aborted(store, outcome, upload, log)
        if _is_hopeless(outcome):
            break
    return outcome


def _is_hopeless(outcome: Outcome) -> bool:
    return any(error.code != "STORE_OBJECT_LOCKED" for error in outcome.not_removed.values())


def _removed(store: ObjectStore, outcome: Outcome, decision: Decision, log: Log) -> Outcome:
    one = outcome.survey.sets[decision.candidate.id]
    facts = {"database": one.database, "store": outcome.survey.description, "backupId": one.id}
    try:
        for name in removal_order(one):
            store.delete(f"{one.prefix}/{name}")
    except OpsError as error:
        log.error("backup_set_not_removed", error, **facts)
        return dataclasses.replace(outcome, not_removed={**outcome.not_removed, one.id: error})
    log.info("backup_set_removed", bytes=one.bytes, state=one.state, reasons=list(decision.reasons), **facts)
    return dataclasses.replace(
        outcome, removed=(*outcome.removed, one.id), bytes_freed=outcome.bytes_freed + one.bytes
    )


def _aborted(store: ObjectStore, outcome: Outcome, upload: UploadInfo, log: Log) -> Outcome:
    facts = {"key": upload.key, "started": clock.to_text(upload.started)}
    try:
        store.abort_upload(upload)
    except OpsError as error:
        log.error("upload_not_aborted", error, **facts)
        return dataclasses.replace(outcome, not_removed={**outcome.not_removed, upload.key: error})
    log.info("upload_aborted", **facts)
    return dataclasses.replace(outcome, uploads_aborted=outcome.uploads_aborted + 1)


def removal_order(one: SetInfo) -> list[str]:
    """The names of a set's objects in the order in which they go."""
    first = {MANIFEST_NAME: 0, SIGNATURE_NAME: 1}
    return sorted(one.objects, key=lambda name: (first.get(name, 2), name))


def _locks(store: ObjectStore, sets: list[SetInfo]) -> dict[str, datetime]:
    """Until when the store keeps some object of each set; sets that it lets go are left out."""
    keys = [(one.id, f"{one.prefix}/{name}") for one in sets for name in one.objects]
    found: dict[str, datetime] = {}
    with ThreadPoolExecutor(LOCK_THREADS, thread_name_prefix="locks") as pool:
        ends = pool.map(store.locked_until, [key for _id, key in keys])
        for (backup_id, _key), end in zip(keys, ends, strict=True):
            if end is not None:
                found[backup_id] = max(end, found.get(backup_id, end))
    return found


def _last_touched(listing: list[ObjectInfo], uploads: list[UploadInfo]) -> dict[str, datetime]:
    """When the store last took something, by the set's prefix."""
    moments = [(item.key, item.modified) for item in listing]
    moments += [(upload.key, upload.started) for upload in uploads]
    found: dict[str, datetime] = {}
    for key, moment in moments:
        prefix = "/".join(key.split("/")[:2])
        found[prefix] = max(moment, found.get(prefix, moment))
    return found


def _newest(touched: Mapping[str, datetime]) -> Iterator[tuple[str, datetime]]:
    if touched:
        yield max(touched.items(), key=lambda item: item[1])
