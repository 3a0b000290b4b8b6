# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops keys new|list|rotate|retire``: the age keys that open backups (docs/keys.md)."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import clock, config, locks
from ..backup import place, readers
from ..errors import ExitCode, OpsError
from ..sealing import keys, recipients
from ..sealing.keys import Identity
from ..sealing.recipients import Recipient
from ..store.base import ObjectStore
from ..store.open import open_store
from . import show

if TYPE_CHECKING:
    from .main import Session

LOCK = "keys"
SHOWN_SETS = 10
_ESCROW_STEPS = """\
For an escrow key: make it on a machine apart, print the file on paper twice, put the sheets into two safes in two
buildings, remove the file, and put the recipient into backup_escrow_recipients. docs/keys.md has the whole life.
For the key of a staging host: put the content of the file into the vault as staging_age_identity, remove the file, and
put the recipient into backup_recipients."""


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group ``keys``."""
    from .main import common_options

    group = groups.add_parser("keys", help="the keys that open backups")
    commands = group.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, text: str, epilog: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=text, description=text.capitalize() + ".", epilog=epilog, parents=[common_options()]
        )

    new = add("new", "make a pair; needs no configuration and no network")
    new.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="new file for the identity, 0600"
    )
    new.add_argument("--comment", default="", metavar="TEXT", help="one line above the key, such as its safe")
    new.set_defaults(run=_new)
    listing = add(
        "list",
        "show recipients, identities of this host, and which key opens which set",
        "Exit codes: 0 all is well, 1 there is no escrow recipient or this host cannot open the newest set, "
        "2 could not run.",
    )
    listing.add_argument(
        "--sets", type=int, default=SHOWN_SETS, metavar="N", help="how many of the newest sets"
    )
    listing.set_defaults(run=_list)
    rotate = add("rotate", "add a new identity to this host's, so that old sets stay readable")
    rotate.add_argument("--comment", default="", metavar="TEXT", help="one line above the key")
    rotate.set_defaults(run=_rotate)
    retire = add("retire", "remove an identity that no complete set needs any more")
    retire.add_argument("fingerprint", help="of its recipient, as pharma-ops keys list shows it")
    retire.set_defaults(run=_retire)
    listing.add_argument("--store", help="name of the store (default: the drill's)")
    retire.add_argument("--store", help="look into this store alone (default: every store of this host)")


def _new(session: Session, arguments: argparse.Namespace) -> ExitCode:
    path = arguments.out.absolute()
    if path.exists() or path.is_symlink():
        raise keys.exists(path)
    identity = keys.generate(arguments.comment)
    keys.write_new(path, identity)
    session.result(
        {"file": str(path), **_public(identity.recipient)},
        f"The identity is in {path}, readable by you alone. Whoever has it can read the backups.\n"
        f"Recipient    {identity.recipient.text}\n"
        f"Fingerprint  {identity.fingerprint}\n\n{_ESCROW_STEPS}",
    )
    return ExitCode.PROVEN


def _rotate(session: Session, arguments: argparse.Namespace) -> ExitCode:
    drill = _drill(session.config)
    with locks.held(session.config.lock_dir, LOCK, session.run_id):
        keys.read_identities(drill.identity_file)
        identity = keys.generate(arguments.comment)
        known = keys.add(drill.identity_file, identity)
    session.result(
        {"file": str(drill.identity_file), "identities": len(known), **_public(identity.recipient)},
        f"{drill.identity_file} has {len(known)} keys now; sets made so far stay readable.\n"
        f"Recipient    {identity.recipient.text}\n"
        f"Fingerprint  {identity.fingerprint}\n\n"
        "1. Put the recipient into backup_recipients, in the place of the old one, and the new key's lines of the\n"
        "   file into the vault (staging_age_identity holds old and new); run playbooks/site.yml.\n"
        "2. Make a backup and drill it: the report names the key that opened it.\n"
        "3. When retention has removed the old sets: pharma-ops keys retire FINGERPRINT.",
    )
    return ExitCode.PROVEN


def _retire(session: Session, arguments: argparse.Namespace) -> ExitCode:
    drill = _drill(session.config)
    with locks.held(session.config.lock_dir, LOCK, session.run_id):
        known = keys.read_identities(drill.identity_file)
        left = [item.fingerprint for item in known if item.fingerprint != arguments.fingerprint]
        if left and len(left) < len(known):
            names = [arguments.store] if arguments.store else sorted(session.config.stores)
            stores = [open_store(session.config.store(name)) for name in names]
            sets = [item for store in stores for item in _all_sets(store, _signers(drill))]
            where = " and ".join(store.description for store in stores)
            readers.check_unneeded(sets, arguments.fingerprint, left, where)
        keys.remove(drill.identity_file, arguments.fingerprint)
    session.result(
        {"file": str(drill.identity_file), "retired": arguments.fingerprint, "identities": len(left)},
        f"{arguments.fingerprint} is removed from {drill.identity_file}; no complete set needs it.\n"
        "Take it out of staging_age_identity in the vault too: else the role brings it back.",
    )
    return ExitCode.PROVEN


def _all_sets(store: ObjectStore, signers: bytes) -> list[readers.Readable]:
    return readers.read(store, readers.complete_sets(store.list()), signers)


@dataclass
class _Keys:
    """What ``list`` finds.

    :ivar given: the recipients of the host's backups; empty on a host that makes none.
    :ivar own: the identities of the host; empty on a host that opens none.
    :ivar sets: the newest complete sets, newest first.
    :ivar problems: what is not well, one sentence each.
    """

    given: tuple[Recipient, ...] = ()
    own: tuple[Identity, ...] = ()
    sets: list[readers.Readable] = field(default_factory=list)
    store: str = ""
    problems: list[str] = field(default_factory=list)


def _list(session: Session, arguments: argparse.Namespace) -> ExitCode:
    if arguments.sets < 0:
        raise OpsError("ARGUMENT_INVALID", f"--sets must not be {arguments.sets}.", "Correct it.")
    found = _Keys()
    settings = session.config
    if settings.backup is not None:
        found.given = recipients.load_recipients(settings.backup.recipients_file)
        if recipients.lacks_escrow(found.given):
            found.problems.append(f"{settings.backup.recipients_file} names no escrow recipient.")
    if settings.drill is not None:
        found.own = keys.read_identities(settings.drill.identity_file)
        _look_at_sets(found, settings, settings.drill, arguments)
    session.result(_as_dict(found), _text(found))
    return show.exit_code(not found.problems)


def _look_at_sets(
    found: _Keys, settings: config.Config, drill: config.Drill, arguments: argparse.Namespace
) -> None:
    store, database = place.place(settings, arguments.store)
    found.store = store.description
    sets = readers.complete_sets(store.list(f"{database}/"))
    newest = sets[::-1][: max(arguments.sets, 1)]
    found.sets = readers.read(store, newest, _signers(drill))
    if not found.sets:
        found.problems.append(f"{store.description} has no complete backup of {database}.")
    elif not _opened_by(found.sets[0], found.own):
        why = found.sets[0].problem or "it was encrypted for other recipients."
        found.problems.append(f"No key of this host opens the newest set {found.sets[0].name}: {why}")
    del found.sets[arguments.sets :]


def _opened_by(item: readers.Readable, own: Sequence[Identity]) -> list[str]:
    return [identity.fingerprint for identity in own if identity.fingerprint in item.recipients]


def _as_dict(found: _Keys) -> dict[str, Any]:
    return {
        "recipients": [_public(item) | {"role": item.role} for item in found.given],
        "identities": [
            _public(item.recipient)
            | {"created_at": clock.to_text(item.created_at) if item.created_at else None}
            for item in found.own
        ],
        "store": found.store or None,
        "sets": [item.as_dict() | {"opened_by": _opened_by(item, found.own)} for item in found.sets],
        "problems": found.problems,
    }


def _public(recipient: Recipient) -> dict[str, str]:
    return {"recipient": recipient.text, "fingerprint": recipient.fingerprint}


def _text(found: _Keys) -> str:
    parts = []
    if found.given:
        rows = [
            {"fingerprint": item.fingerprint, "role": item.role, "recipient": item.text}
            for item in found.given
        ]
        parts.append("Recipients of the backups of this host\n" + _table(rows))
    if found.own:
        rows = [
            {
                "fingerprint": item.fingerprint,
                "since": clock.to_text(item.created_at)[:10] if item.created_at else "unknown",
                "recipient": item.recipient.text,
            }
            for item in found.own
        ]
        parts.append("Identities of this host\n" + _table(rows))
    if found.sets:
        parts.append(f"The newest sets in {found.store}\n" + _table(_set_rows(found)))
    if not parts:
        parts.append("This host makes no backups and opens none.")
    return "\n\n".join([*parts, *(f"✗ {problem}" for problem in found.problems)])


def _set_rows(found: _Keys) -> list[dict[str, str]]:
    return [
        {
            "set": item.name,
            "this host's key": ", ".join(_opened_by(item, found.own)) or "none",
            "other recipients": item.problem
            or ", ".join(one for one in item.recipients if one not in _opened_by(item, found.own))
            or "none",
        }
        for item in found.sets
    ]


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    lines = [{name: name for name in widths}, *rows]
    return "\n".join(
        "  " + "  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip() for row in lines
    )


def _drill(settings: config.Config) -> config.Drill:
    if settings.drill is None:
        raise OpsError(
            "CONFIG_INVALID",
            "The configuration has no section [drill]: this host has no identity.",
            "Run this on the staging host; for a key apart use pharma-ops keys new.",
        )
    return settings.drill


def _signers(drill: config.Drill) -> bytes:
    try:
        return drill.trusted_signers_file.read_bytes()
    except OSError as error:
        raise OpsError(
            "TRUSTED_KEYS_MISSING",
            f"The trusted signers {drill.trusted_signers_file} cannot be read: {error.strerror}.",
            "Without them no manifest is believed; run the role pharma.hardening.staging.",
        ) from error
