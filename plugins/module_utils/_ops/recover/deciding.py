# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages ``select``, ``preflight`` and ``confirm``: nothing is touched before all three have passed."""

from __future__ import annotations

import os
from pathlib import Path

from .. import clock
from ..backup import catalogue
from ..errors import OpsError
from ..evidence import ledger, proofs
from ..postgres import programs
from ..restoring import acquire, host
from ..restoring.context import needed
from ..restoring.runner import Report
from ..store.base import ObjectStore
from ..store.open import open_store
from . import debian, record
from .context import Preview, Recovery, Request
from .debian import DebianCluster

_SHOWN = 5


def select(recovery: Recovery, report: Report) -> None:
    """Choose the set: the named one, the newest one that was proven, or the newest one."""
    request = recovery.request
    store = open_store(recovery.config.store(request.store))
    wanted = request.backup_id
    if request.ledger is not None:
        wanted = newest_proven(store, request.database, request.ledger, _evidence_keys(request))
        report.facts["provenBy"] = str(request.ledger)
    recovery.backup = acquire.select(
        store,
        request.database,
        wanted,
        acquire.trusted_signers(request.signers_file),
        report,
        rpo_objective_seconds=request.rpo_objective_seconds,
    )
    release = recovery.backup.manifest.release
    if release is not None:
        report.facts["release"] = f"{release.name} {release.version}"


def _evidence_keys(request: Request) -> bytes:
    """The public keys of the drills whose proofs count.

    :raises OpsError: ``TRUSTED_KEYS_MISSING``.
    """
    try:
        if request.evidence_keys_file is not None:
            return request.evidence_keys_file.read_bytes()
        reason = "none is named"
    except OSError as error:
        reason = f"{request.evidence_keys_file} cannot be read: {error.strerror}"
    raise OpsError(
        "TRUSTED_KEYS_MISSING",
        f"No public key says whose proofs in {request.ledger} count: {reason}.",
        "Name the public half of the key that signs the evidence with --evidence-keys.",
    )


def newest_proven(store: ObjectStore, database: str, path: Path, public_keys_pem: bytes) -> str:
    """The newest complete set of a store that a full drill of a ledger proved, by a line that a trusted key signed.

    :raises OpsError: ``NO_PROVEN_BACKUP``, ``LEDGER_MISSING``, ``LEDGER_BROKEN``.
    """
    if not path.is_file():
        raise OpsError(
            "LEDGER_MISSING", f"There is no ledger {path}.", "Bring ledger.jsonl from the staging host."
        )
    proven = proofs.proven(ledger.read(path), public_keys_pem)
    there = [item for item in catalogue.list_sets(store, database) if item.id in proven]
    newest = catalogue.newest_complete(there)
    if newest is None:
        raise OpsError(
            "NO_PROVEN_BACKUP",
            f"None of the sets of {database} in {store.description} is proven by {path} "
            f"({len(proven)} sets are, of any database).",
            "Recover the newest set instead: it is compared with its manifest before it takes the place.",
        )
    return newest.id


def preflight(recovery: Recovery, report: Report) -> None:
    """Versions, extensions, locale, disk, keys, the place of the data, and what else lives in the cluster."""
    if os.geteuid() != 0:
        raise OpsError(
            "NOT_ROOT", "Only root may set a data directory aside.", "Run it with sudo on the database host."
        )
    manifest = needed(recovery.backup).manifest
    recovery.bin_dir = host.server(manifest.server_version, report)
    host.extensions(manifest.content.extensions, recovery.bin_dir, report)
    locale = manifest.content.locale
    host.locale({locale.get("collate", ""), locale.get("ctype", "")}, report)
    host.opening_key(recovery.request.identity, manifest, report)
    cluster = debian.find(
        programs.major_of(manifest.server_version), recovery.request.cluster, recovery.bin_dir
    )
    recovery.cluster = cluster
    recovery.was_running = cluster.running
    recovery.earlier = record.unfinished(record.read_all(recovery.config.state_dir), cluster.data)
    _place(cluster, report)
    _disk(recovery, cluster, report)
    _others(recovery, cluster, report)
    aside = recovery.aside(cluster)
    report.facts |= {"cluster": cluster.title, "dataDirectory": str(cluster.data)}
    report.facts |= {"setAsideAs": str(aside) if aside else "nothing is there", "running": cluster.running}
    if recovery.earlier is not None:
        report.facts["interruptedRecovery"] = told(recovery.earlier)
    if report.verdict == "passed":
        report.summary = (
            f"{len(report.checks)} preconditions are met; the cluster {cluster.title} is "
            f"{'running' if cluster.running else 'down' if cluster.configured else 'not there yet'}."
            f"{f' {told(recovery.earlier)}' if recovery.earlier else ''}"
        )


def told(earlier: record.Record) -> str:
    """What an interrupted recovery left, in one sentence."""
    if earlier.aside is None:
        return f"{earlier.recovery_id} was interrupted ({earlier.step}); there was no older data."
    if earlier.aside.exists():
        return f"{earlier.recovery_id} was interrupted ({earlier.step}); the data from before it is {earlier.aside}."
    return f"{earlier.recovery_id} was interrupted ({earlier.step}) before {earlier.data} was set aside."


def _place(cluster: DebianCluster, report: Report) -> None:
    """Setting aside is a rename, which neither a mount point nor another filesystem allows."""
    data = cluster.data
    parent = _existing(data.parent)
    movable = not data.exists() or (not data.is_mount() and data.stat().st_dev == parent.stat().st_dev)
    report.check(
        "data directory can be renamed",
        True if movable else None,
        "no mount point, on the filesystem of its parent",
        f"{data} is {'fine' if movable else 'a mount point: move the data into a directory below it'}",
    )


def _disk(recovery: Recovery, cluster: DebianCluster, report: Report) -> None:
    """The old data stay where they are, so all that the new needs must be free beside them."""
    manifest = needed(recovery.backup).manifest
    dump_bytes = sum(entry.plaintext_bytes for entry in manifest.objects)
    copies = dump_bytes + sum(entry.bytes for entry in manifest.objects)
    place = _existing(cluster.data.parent)
    host.disk(place, cluster.data.parent, copies, dump_bytes, report)


def _others(recovery: Recovery, cluster: DebianCluster, report: Report) -> None:
    """A cluster is set aside whole: the other databases in it would go out of service with it."""
    found = cluster.databases()
    if isinstance(found, int):
        alone, seen = found <= 1, f"{found} databases (the server is down)"
    else:
        others = sorted(set(found) - {recovery.dbname})
        alone, seen = not others, ", ".join(others) or "none"
    report.check(
        "other databases of the cluster",
        True if alone or recovery.request.others_too else None,
        "may go out of service (--others-too)" if recovery.request.others_too else "none",
        seen,
    )


def confirm(recovery: Recovery, report: Report) -> None:
    """The database's name must be given, and nobody may be connected.

    :raises OpsError: ``RECOVERY_NOT_CONFIRMED``, ``SESSIONS_EXIST``.
    """
    cluster, manifest = needed(recovery.cluster), needed(recovery.backup).manifest
    preview = Preview(
        database=manifest.database,
        backup_id=manifest.id,
        newest_change_at=clock.to_text(manifest.newest_change_at),
        age_seconds=(clock.now() - manifest.newest_change_at).total_seconds(),
        cluster=cluster.title,
        data=cluster.data,
        aside=recovery.aside(cluster),
    )
    typed = recovery.request.confirm(preview)
    if typed != manifest.database:
        raise OpsError(
            "RECOVERY_NOT_CONFIRMED",
            f"The recovery of {manifest.database} was not confirmed: {typed!r} is not its name. "
            "Nothing was touched.",
            f"Type the name, or give --confirm {manifest.database}.",
        )
    refuse_sessions(cluster)
    recovery.confirmed = True
    report.check("confirmed by the database's name", True, manifest.database, typed)
    report.check("sessions", True, "none", "none")
    report.summary = f"The recovery of {manifest.database} is confirmed; nobody is connected."


def refuse_sessions(cluster: DebianCluster) -> None:
    """Nobody may lose work by a server that stops.

    :raises OpsError: ``SESSIONS_EXIST``, ``CLUSTER_UNREACHABLE``.
    """
    who = cluster.sessions()
    if who:
        more = f" and {len(who) - _SHOWN} more" if len(who) > _SHOWN else ""
        raise OpsError(
            "SESSIONS_EXIST",
            f"The cluster {cluster.title} is in use by {', '.join(who[:_SHOWN])}{more}.",
            "Stop the application first (playbooks/recover.yml does), or stop the cluster.",
        )


def _existing(path: Path) -> Path:
    """The path, or the nearest of its parents that is there."""
    return next(place for place in (path, *path.parents) if place.exists())
