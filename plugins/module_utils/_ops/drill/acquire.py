# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages ``select``, ``fetch``, ``verify_artefacts`` and ``decrypt`` of a drill."""

from __future__ import annotations

from ..restoring import acquire
from ..restoring.context import needed
from ..restoring.runner import Report
from ..store.open import open_store
from . import identity
from .context import Drill


def select(drill: Drill, report: Report) -> None:
    """Choose the backup and look at its age."""
    settings = drill.settings
    store = open_store(drill.config.store(settings.store))
    drill.backup = acquire.select(
        store,
        settings.database,
        drill.backup_id,
        trusted_signers(drill),
        report,
        rpo_objective_seconds=settings.rpo_objective_seconds,
    )
    # An old backup is still worth proving; the missed objective fails the drill as a whole.
    if report.facts["ageSeconds"] > settings.rpo_objective_seconds:
        drill.log.warn("rpo_objective_missed", ageSeconds=report.facts["ageSeconds"])


def fetch(drill: Drill, report: Report) -> None:
    """Bring every object of the set into the drill's directory."""
    acquire.fetch(needed(drill.backup), drill.workspace.directory, drill.progress, report)


def verify_artefacts(drill: Drill, report: Report) -> None:
    """Check the digests of what was fetched, and the manifest's signature once more, from the store."""
    acquire.verify_artefacts(needed(drill.backup), drill.workspace.directory, trusted_signers(drill), report)


def decrypt(drill: Drill, report: Report) -> None:
    """Decrypt dump and globals; the plaintext must be what was encrypted on the source."""
    drill.dump, drill.globals_sql = acquire.decrypt(
        needed(drill.backup),
        drill.workspace.directory,
        drill.key,
        drill.user,
        drill.progress,
        report,
    )
    report.facts |= identity.facts(drill, report.facts["keyFingerprint"])
    if report.verdict == "passed":
        opener = f"{report.facts['keyFingerprint']} ({report.facts['keyRole']})"
        report.summary = (
            f"Dump and globals are what was encrypted on the source; the key {opener} opened them."
        )


def trusted_signers(drill: Drill) -> bytes:
    """The public keys whose manifests are believed.

    :raises OpsError: ``TRUSTED_KEYS_MISSING``.
    """
    return acquire.trusted_signers(drill.settings.trusted_signers_file)
