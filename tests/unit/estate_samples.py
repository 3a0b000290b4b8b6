# SPDX-License-Identifier: GPL-3.0-or-later
"""A store with sets of many days, a signed ledger and a host's configuration, all in a directory of the test's."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pharma_ops.backup.catalogue import list_sets
from pharma_ops.evidence import ledger
from pharma_ops.evidence.record import Verdict
from pharma_ops.sealing import signing
from pharma_ops.store.local import LocalStore

DATABASE = "pharma"
STORE = "offsite-pruner"
RULES = "daily = 5\nweekly = 0\nmonthly = 0\nyearly = 0"
NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
WHOLE = ("globals.sql.age", "dump.age", "manifest.json.sig", "manifest.json")
CUT = WHOLE[:2]
PRIVATE, PUBLIC = signing.generate()
OTHER_PRIVATE, _ = signing.generate()


def id_of(moment: datetime) -> str:
    """An id of that moment."""
    return f"{moment:%Y%m%dT%H%M%SZ}-{int(moment.timestamp()) % 0xFFFFFF:06x}"


def put_set(
    root: Path,
    moment: datetime,
    names: Iterable[str] = WHOLE,
    *,
    bytes_each: int = 1000,
    database: str = DATABASE,
) -> str:
    """Objects of a set as a backup of that moment leaves them; returns the set's id."""
    store, backup_id = LocalStore(root), id_of(moment)
    for name in names:
        store.put_bytes(f"{database}/{backup_id}/{name}", b"x" * bytes_each)
        os.utime(root / database / backup_id / name, (moment.timestamp(), moment.timestamp()))
    return backup_id


def put_days(root: Path, days: int, *, now: datetime = NOW, **more: str) -> list[str]:
    """A whole set for each of so many days, the newest of this morning; ids, the oldest first."""
    first = now.replace(hour=5, minute=30)
    return [put_set(root, first - timedelta(days=days - 1 - number), **more) for number in range(days)]  # type: ignore[arg-type]


def ids(root: Path) -> list[str]:
    """The ids of the sets that are left, the oldest first."""
    return [one.id for one in list_sets(LocalStore(root), DATABASE)]


def put_upload(root: Path, key: str, moment: datetime) -> Path:
    """An upload that was begun and never ended, as a directory's store leaves it."""
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.with_name(f".incoming.{path.name}.abcdefgh")
    path.write_bytes(b"half")
    os.utime(path, (moment.timestamp(), moment.timestamp()))
    return path


def add_drill(
    path: Path,
    backup_id: str | None,
    *,
    finished: datetime = NOW - timedelta(hours=3),
    verdict: Verdict = Verdict.PASSED,
    scope: str = "full",
    key: bytes | None = PRIVATE,
) -> None:
    """A line of the ledger; without a key it is not signed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ledger.read(path)
    entry = ledger.Entry(
        drill_id=f"drill-{len(lines) + 1}",
        environment="lab",
        scope=scope,
        verdict=verdict,
        finished_at=finished,
        rto_seconds=1.0,
        rto_objective_seconds=2.0,
        rpo_seconds=1.0,
        rpo_objective_seconds=2.0,
        newest_change_at=None,
        backup_id=backup_id,
        prev=ledger.head(lines),
    )
    ledger.append(path, ledger.signed(entry, key) if key else entry)


@dataclass(frozen=True)
class Host:
    """A staging host: its store, its ledger and its configuration."""

    base: Path
    store: Path
    ledger: Path
    config: Path


def host(base: Path, retention: str = "", stores: str = "") -> Host:
    """A host whose policy prunes ``pharma`` in the store ``offsite-pruner``."""
    store = base / "store"
    store.mkdir()
    keys = base / "evidence.pub"
    keys.write_bytes(PUBLIC)
    config = base / "config.toml"
    config.write_text(
        f"""environment = "lab"
state_dir = "{base}/state"
lock_dir = "{base}/lock"
metrics_dir = "{base}/metrics"
[evidence]
dir = "{base}/evidence"
[stores.{STORE}]
type = "local"
path = "{store}"
{stores}
[retention]
stores = ["{STORE}"{', "second"' if stores else ""}]
databases = ["{DATABASE}"]
evidence_keys_file = "{keys}"
{retention}
"""
    )
    return Host(base=base, store=store, ledger=base / "evidence" / ledger.NAME, config=config)
