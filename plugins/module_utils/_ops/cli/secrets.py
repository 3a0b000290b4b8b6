# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops secrets scan|list``: which secrets this host has, how old they are, and which are due."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .. import clock
from ..custody import record, scan
from ..custody.inventory import Entry
from ..errors import ExitCode
from . import show

if TYPE_CHECKING:
    from .main import Session

_MARKS = {"fresh": "✓", "due": "!", "overdue": "✗"}


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group ``secrets``."""
    from .main import common_options

    group = groups.add_parser("secrets", help="the inventory of secrets, without their values")
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    parser = commands.add_parser(
        "scan",
        help="read the configured secrets and write the inventory",
        description="Writes names, owners, ages and fingerprints; never a value.",
        epilog="Exit codes: 0 done, 1 the file of a secret is missing or empty, 2 could not run.",
        parents=[common_options()],
    )
    parser.set_defaults(run=_scan)
    parser = commands.add_parser(
        "list",
        help="show the inventory: age of each secret, and what is due",
        epilog="Exit codes: 0 no secret is overdue, 1 at least one is, 2 could not run.",
        parents=[common_options()],
    )
    parser.set_defaults(run=_list)


def _scan(session: Session, _arguments: argparse.Namespace) -> ExitCode:
    found = scan.scan(session.config, session.run_id)
    lines = [table(found.entries), *(f"✗ {name}: {why}" for name, why in sorted(found.missing.items()))]
    result = _result(found.entries) | {"missing": dict(found.missing), "changed": found.changed}
    session.result(result, "\n".join(lines))
    return show.exit_code(not found.missing)


def _list(session: Session, _arguments: argparse.Namespace) -> ExitCode:
    entries = scan.read(session.config)
    rotations = {name: record.load(session.config, name) for name in record.names(session.config)}
    states = {name: found.state for name, found in rotations.items() if found is not None}
    under_way = [
        f"rotation of {name}: {state}" for name, state in states.items() if state in ("running", "returning")
    ]
    session.result(_result(entries) | {"rotations": states}, "\n".join([table(entries), *under_way]))
    now = clock.now()
    return show.exit_code(all(entry.standing(now) != "overdue" for entry in entries))


def _result(entries: Sequence[Entry]) -> dict[str, Any]:
    now = clock.now()
    return {
        "secrets": [
            entry.as_dict() | {"ageDays": entry.age(now).days, "standing": entry.standing(now)}
            for entry in entries
        ]
    }


def table(entries: Sequence[Entry]) -> str:
    """The inventory for a person, what is most pressing first."""
    now = clock.now()
    rows: list[Mapping[str, str]] = [
        {
            "": _MARKS[entry.standing(now)],
            "secret": entry.name,
            "owner": entry.owner,
            "age": f"{entry.age(now).days} d",
            "standing": _words(entry, now - entry.created_at),
            "fingerprint": entry.fingerprint,
        }
        for entry in sorted(entries, key=lambda item: item.created_at + timedelta(days=item.max_age_days))
    ]
    if not rows:
        return "No secret is configured on this host."
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    header = {name: name for name in rows[0]}
    return "\n".join(
        "  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip()
        for row in [header, *rows]
    )


def _words(entry: Entry, age: timedelta) -> str:
    left = timedelta(days=entry.max_age_days) - age
    if left < timedelta():
        return f"overdue for {(-left).days} d"
    return (
        f"due within {left.days} d"
        if left < timedelta(days=entry.max_age_days * 0.2)
        else f"{left.days} d left"
    )
