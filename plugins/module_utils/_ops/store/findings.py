# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be said of a store's protection: pure, from its section and what the store answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .. import config
from .base import Protection
from .s3_options import ARCHIVES


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing to know; a ``warning`` is to be put right, a ``note`` is to be known."""

    level: Literal["warning", "note"]
    text: str
    action: str = ""


def findings(spec: config.Store, protection: Protection, wanted_days: int = 0) -> list[Finding]:
    """What is to be said of a store.

    :param wanted_days: for how many days at least an object should be locked; 0: as long as the section says.
    """
    found = list(_of_section(spec))
    if spec.type == "local":
        text = "A directory locks nothing: whoever is root on this host can remove every set in it."
        return [*found, Finding(level="note", text=text, action="Keep another store off site.")]
    return [*found, *_of_bucket(spec, protection), *_of_lock(spec, protection, wanted_days)]


def _of_section(spec: config.Store) -> Iterator[Finding]:
    if (spec.endpoint or "").startswith("http://"):
        yield Finding(
            level="warning",
            text="The endpoint is http://: who listens sees which sets there are and when they are made.",
            action="Use https:// and name the authority with ca_file.",
        )
    if spec.storage_class.lower() in ARCHIVES:
        yield Finding(
            level="warning",
            text=f"Objects of the class {spec.storage_class} cannot be read for hours after they are asked for.",
            action="Use a class that is read at once; a drill and a recovery need that.",
        )


def _of_bucket(spec: config.Store, protection: Protection) -> Iterator[Finding]:
    what = "container" if spec.type == "azure" else "bucket"
    if protection.versioning is False:
        yield Finding(
            level="warning",
            text=f"The {what} keeps no versions: what is overwritten or deleted is gone.",
            action=f"Switch versioning on for the {what}.",
        )
    if protection.locking is False:
        yield Finding(
            level="warning",
            text=f"The {what} cannot lock objects: nothing stops a stolen pruning key.",
            action=f"Make a new {what} with Object Lock; on AWS it can be switched on later, too.",
        )
    if None in (protection.versioning, protection.locking):
        yield Finding(
            level="note",
            text=f"This identity may not ask for the {what}'s versioning and lock.",
            action="Look at the container in the portal: Azure tells it to nobody who has a SAS token."
            if spec.type == "azure"
            else "Run the check with the reader's or the pruner's identity.",
        )


def _of_lock(spec: config.Store, protection: Protection, wanted_days: int) -> Iterator[Finding]:
    if not protection.locking:
        return
    if protection.lock_days is None:
        text = "The default retention is not told: it may be shorter than what is wanted."
        yield Finding(level="note", text=text, action="Look at the immutability policy of the container.")
        return
    default = protection.lock_days
    if not spec.lock_days and not default:
        yield Finding(
            level="warning",
            text="Objects are uploaded without a lock: neither the bucket nor the store's section sets one.",
            action="Give the bucket a default retention, or the section lock_mode and lock_days.",
        )
        return
    wanted = max(wanted_days, spec.lock_days)
    if default < wanted:
        # radosgw 18 takes the lock that an upload in parts asks for and forgets it (docs/stores.md).
        who = (
            "other programs' uploads, and with radosgw large ones," if spec.lock_days >= wanted else "uploads"
        )
        yield Finding(
            level="warning",
            text=f"The bucket's default retention is {days(default)}, wanted are {days(wanted)}: {who} get less.",
            action="Raise the bucket's default retention.",
        )
    modes = {spec.lock_mode or protection.lock_mode, protection.lock_mode} - {"", None}
    if "GOVERNANCE" in modes:
        yield Finding(
            level="note",
            text="In the mode GOVERNANCE an administrator with s3:BypassGovernanceRetention can remove sets.",
            action="Use COMPLIANCE where nobody at all may.",
        )


def days(count: int) -> str:
    """A number of days for a person."""
    return "none" if not count else "1 day" if count == 1 else f"{count} days"
