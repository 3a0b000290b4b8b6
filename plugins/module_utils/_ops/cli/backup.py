# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops backup create|list|verify``; ``prune`` is in :mod:`.prune`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..backup import foreign
from ..backup.catalogue import SetInfo, list_sets, newest_complete
from ..backup.create import create_backup
from ..backup.place import place
from ..backup.result import StoreResult
from ..backup.verify import verify_set
from ..errors import ExitCode, OpsError
from ..store.base import ObjectStore
from ..store.open import open_store
from . import prune, seen, show

if TYPE_CHECKING:
    from .main import Session

LATEST = "latest"

WORK_DIR = "/var/tmp"  # noqa: S108 - only to make a private directory in it
"""Objects pass through here while they are checked; /tmp is often too small for a dump."""


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group ``backup``."""
    group = groups.add_parser("backup", help="make, list and verify backups")
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    making = _add(commands, "create", "make a backup of a database now, in every store", create)
    making.set_defaults(job="backup")
    making.add_argument("--database", help="name of the database (default: the only one of this host)")
    listing = _add(commands, "list", "list the backup sets in a store", list_command)
    check = _add(commands, "verify", "read a backup back, check signature and digests", verify)
    prune.register_in(commands)
    for parser in (listing, check):
        parser.add_argument("--database", help="name of the source database (default: the configured one)")
        parser.add_argument(
            "--store", help="name of the store (default: the drill's, else the backup's first)"
        )
    seen.add(commands)
    listing.add_argument(
        "--foreign",
        nargs="?",
        const="",
        metavar="NAME",
        help="list the dumps made by others instead: of the section [foreign.NAME], or of all",
    )
    check.add_argument("backup_id", nargs="?", default=LATEST, help="id of the backup (default: latest)")
    check.add_argument(
        "--signers", type=Path, metavar="FILE", help="public keys to trust (default: the drill's)"
    )


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    run: Callable[[Session, argparse.Namespace], ExitCode],
) -> argparse.ArgumentParser:
    from .main import common_options

    parser = commands.add_parser(name, help=text, description=text.capitalize(), parents=[common_options()])
    parser.set_defaults(run=run)
    return parser


def create(session: Session, arguments: argparse.Namespace) -> ExitCode:
    """Make a backup; 1 when a store has no set of it."""
    result = create_backup(session.config, session.log, session.progress, arguments.database)
    there = len(result.stores) - len(result.missing)
    width = max(len(store.name) for store in result.stores)
    lines = [
        (
            f"Backup {result.backup_id} of {result.database} is {result.verdict}: "
            f"whole in {there} of {len(result.stores)} stores."
        ),
        *(f"  {_mark(store)} {store.name:<{width}}  {_told(store)}" for store in result.stores),
        (
            f"{result.tables} tables, {result.rows} rows, {show.size(result.bytes)} encrypted "
            f"({result.compression}), {result.seconds:.1f} s; manifest sha256 {result.manifest_sha256}."
        ),
    ]
    lines += [f"The materialized view {name} was stale." for name in result.stale_views]
    lines += [f"Warning: {warning}." for warning in result.warnings]
    session.result(result.as_dict(), "\n".join(lines))
    return result.exit_code


def _mark(store: StoreResult) -> str:
    return show.MARKS["failed" if store.error else "passed"]


def _told(store: StoreResult) -> str:
    if store.error is None:
        return store.description
    return f"{store.error.code}: {store.error}"


def list_command(session: Session, arguments: argparse.Namespace) -> ExitCode:
    """List the sets of a database, oldest first."""
    if arguments.foreign is not None:
        return _list_foreign(session, arguments.foreign)
    store, database = place(session.config, arguments.store, arguments.database)
    sets = list_sets(store, database)
    head = f"{len(sets)} backup sets of {database} in {store.description}"
    lines = [f"{item.id}  {item.state:<10}  {show.size(item.bytes):>12}" for item in sets]
    session.result({"backups": [item.as_dict() for item in sets]}, "\n".join([head, *lines]))
    return ExitCode.PROVEN


def _list_foreign(session: Session, name: str) -> ExitCode:
    """List dumps made by others, oldest first; by what is missing they are told from sets."""
    names = [name] if name else sorted(session.config.foreign)
    if not names:
        foreign.source(session.config, "NAME")
    lines: list[str] = []
    dumps: list[foreign.ForeignDump] = []
    for each in names:
        spec = foreign.source(session.config, each)
        store = open_store(session.config.store(spec.store))
        found = foreign.list_dumps(store, each, spec)
        lines.append(f"{len(found)} foreign dumps of {each} in {store.description}")
        lines += [
            f"{item.id}  {foreign.KIND:<8}  {show.size(item.bytes):>12}  {item.key}"
            f"{'' if item.usable else '  (name cannot be asked for)'}"
            for item in found
        ]
        dumps += found
    lines.append("Without manifest and signature: a drill of one is limited (docs/adopting-dumps.md).")
    session.result({"backups": [item.as_dict() for item in dumps]}, "\n".join(lines))
    return ExitCode.PROVEN


def verify(session: Session, arguments: argparse.Namespace) -> ExitCode:
    """Check a set by reading it back."""
    store, database = place(session.config, arguments.store, arguments.database)
    backup_id = arguments.backup_id
    if backup_id == LATEST:
        backup_id = _newest(list_sets(store, database), store, database)
    signers = _signers(session, arguments.signers)
    with tempfile.TemporaryDirectory(prefix="pharma-ops-", dir=WORK_DIR) as work_dir:
        verified = verify_set(store, database, backup_id, signers, session.progress, Path(work_dir))
    session.result(
        verified.as_dict(),
        f"Backup {backup_id} of {database} is intact in {store.description}: signed by {verified.signer}, "
        f"{show.size(verified.bytes)} read back; manifest sha256 {verified.manifest_sha256}.",
    )
    return ExitCode.PROVEN


def _newest(sets: list[SetInfo], store: ObjectStore, database: str) -> str:
    newest = newest_complete(sets)
    if newest is None:
        raise OpsError(
            "BACKUP_MISSING",
            f"There is no complete backup of {database} in {store.description}.",
            "Make one with pharma-ops backup create.",
        )
    return newest.id


def _signers(session: Session, given: Path | None) -> bytes:
    drill = session.config.drill
    path = given or (drill.trusted_signers_file if drill else None)
    if path is None:
        raise OpsError(
            "TRUSTED_KEYS_MISSING",
            "No trusted signing key is configured on this host.",
            "Name a file of public keys with --signers.",
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise OpsError(
            "TRUSTED_KEYS_MISSING",
            f"The trusted keys {path} cannot be read: {error.strerror}.",
            "Name another file with --signers.",
        ) from error
