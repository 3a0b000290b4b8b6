# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prunes every database in every store that the host's policy names, with the proofs of its ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import clock, config, locks, metrics
from ..backup import prune, pruned
from ..backup.catalogue import checked_database
from ..backup.retention import Policy, Seen
from ..errors import ExitCode, OpsError
from ..evidence import ledger, proofs
from ..log import Log
from ..sealing import signing
from ..store.base import ObjectStore
from ..store.open import open_store


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What became of a database's sets in a store: an outcome, or the error that left none."""

    database: str
    store: str
    outcome: prune.Outcome | None = None
    error: OpsError | None = None

    @property
    def exit_code(self) -> ExitCode:
        """0 done, 1 blocked or not all removed, 2 could not run."""
        if self.outcome is None:
            return ExitCode.COULD_NOT_RUN
        return ExitCode.PROVEN if self.outcome.verdict == "done" else ExitCode.FAILED

    @property
    def problem(self) -> OpsError | None:
        """The cause when it did not end well."""
        return self.error or (self.outcome.error if self.outcome else None)

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the command and the module."""
        problem = self.problem
        shown = {"store": self.store, "error": problem.as_dict() if problem else None}
        if self.outcome is None:
            return shown | {"database": self.database, "verdict": "failed"}
        return shown | self.outcome.as_dict()


@dataclass(frozen=True)
class _Proofs:
    """What the ledger vouches for: proofs in words by the set's id, and that its last drill is past."""

    words: dict[str, str]
    seen: tuple[Seen, ...]


def look(settings: config.Config, *, store: str | None = None, database: str | None = None) -> list[Pruned]:
    """What :func:`run` would do now; nothing is touched.

    :raises OpsError: ``CONFIG_INVALID``, ``LEDGER_BROKEN``, ``TRUSTED_KEYS_MISSING``,
        ``TRUSTED_KEYS_INVALID``. What goes wrong with one store is in its result.
    """
    policy, known = _prepared(settings)
    found = []
    for name, of in places(settings, store, database):
        try:
            surveyed = _survey(settings, policy, known, name, of)[1]
            found.append(Pruned(database=of, store=name, outcome=prune.Outcome(survey=surveyed)))
        except OpsError as error:
            found.append(Pruned(database=of, store=name, error=error))
    return found


def run(
    settings: config.Config, log: Log, *, store: str | None = None, database: str | None = None
) -> list[Pruned]:
    """Prune, put each result on record, then publish the metrics.

    :raises OpsError: see :func:`look`; ``FILE_NOT_WRITTEN``. What goes wrong with one store is in its
        result and does not keep the others.
    """
    policy, known = _prepared(settings)
    found = [
        _pruned(settings, policy, known, log, name, of) for name, of in places(settings, store, database)
    ]
    metrics.publish(settings.metrics_dir, pruned.METRICS_JOB, pruned.gauges(_records(settings)))
    return found


def places(settings: config.Config, store: str | None, database: str | None) -> list[tuple[str, str]]:
    """Names of store and database, in the order in which they are pruned.

    :raises OpsError: ``CONFIG_INVALID``.
    """
    section = _section(settings)
    databases = section.databases
    if not databases and settings.drill and settings.drill.database:
        databases = (settings.drill.database,)
    databases = databases or tuple(settings.databases)
    stores = (store,) if store else section.stores
    databases = (database,) if database else databases
    if not stores or not databases:
        raise OpsError(
            "CONFIG_INVALID",
            f"retention.{'databases' if stores else 'stores'} names none, so there is nothing to prune.",
            "Run the role pharma.hardening.retention on this host, or name one with --store and --database.",
        )
    for name in stores:
        settings.store(name)
    return [(name, checked_database(of)) for name in stores for of in databases]


def _section(settings: config.Config) -> config.Retention:
    if settings.retention is None:
        raise OpsError(
            "CONFIG_INVALID",
            "The configuration has no section [retention], so this host prunes nothing.",
            "Run the role pharma.hardening.retention on the host that should prune.",
        )
    return settings.retention


def _prepared(settings: config.Config) -> tuple[Policy, _Proofs]:
    section = _section(settings)
    policy = Policy.of(section)
    lines = ledger.read(settings.evidence.dir / ledger.NAME)
    if not lines:
        return policy, _Proofs({}, ())
    entries = proofs.proven(lines, _trusted_keys(section.evidence_keys_file, settings.evidence))
    words = {
        backup_id: f"{entry.drill_id} on {entry.finished_at.astimezone(policy.zone):%Y-%m-%d}"
        for backup_id, entry in entries.items()
    }
    last = max(entries.values(), key=lambda entry: entry.finished_at, default=None)
    seen = (Seen(what=f"the drill {last.drill_id}", at=last.finished_at),) if last else ()
    return policy, _Proofs(words, seen)


def _trusted_keys(path: Path | None, evidence: config.Evidence) -> bytes:
    """The public keys of the drills; without a file of them, the half of this host's own key."""
    try:
        if path is not None:
            return path.read_bytes()
        return signing.public_of(evidence.signing_key_file.read_bytes())
    except OSError as error:
        raise OpsError(
            "TRUSTED_KEYS_MISSING",
            f"The public keys of the drills, {error.filename}, cannot be read: {error.strerror}.",
            "Name a file of them with retention.evidence_keys_file; without it no proof counts, so nothing is "
            "removed.",
        ) from error


def _survey(
    settings: config.Config, policy: Policy, known: _Proofs, name: str, database: str
) -> tuple[ObjectStore, prune.Survey]:
    before = pruned.read(settings.state_dir, database, name)
    client = open_store(settings.store(name))
    knowledge = prune.Before(
        proofs=known.words,
        seen=(*known.seen, *(before.seen() if before else ())),
        proven=before.newest_proven if before else None,
    )
    return client, prune.survey(client, database, policy, knowledge, clock.now())


def _pruned(
    settings: config.Config, policy: Policy, known: _Proofs, log: Log, name: str, database: str
) -> Pruned:
    try:
        with locks.held(settings.lock_dir, f"prune-{database}-{name}", log.run_id):
            return _under_lock(settings, policy, known, log, name, database)
    except OpsError as error:
        log.error("prune_failed", error, database=database, store=name)
        return Pruned(database=database, store=name, error=error)


def _under_lock(
    settings: config.Config, policy: Policy, known: _Proofs, log: Log, name: str, database: str
) -> Pruned:
    now = clock.now()
    before = pruned.read(settings.state_dir, database, name)
    try:
        client, found = _survey(settings, policy, known, name, database)
    except OpsError as error:
        record = pruned.failed(before, database, name, name, now, error)
        pruned.write(settings.state_dir, record)
        raise
    outcome = prune.prune(client, found, log)
    pruned.write(settings.state_dir, pruned.updated(before, name, outcome))
    log.info(
        "prune_finished",
        database=database,
        store=name,
        verdict=outcome.verdict,
        removed=len(outcome.removed),
        bytesFreed=outcome.bytes_freed,
    )
    return Pruned(database=database, store=name, outcome=outcome)


def _records(settings: config.Config) -> Iterator[pruned.Record]:
    """All that is on record, also of places that this run left out; what is damaged has been told before."""
    for name, database in places(settings, None, None):
        try:
            record = pruned.read(settings.state_dir, database, name)
        except OpsError:
            continue
        if record is not None:
            yield record
