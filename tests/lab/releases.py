# SPDX-License-Identifier: GPL-3.0-or-later
"""Further releases of the backend, sound and broken ones, built from a copy of its tree without any registry."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = Path("src/pharma_backend")
_VERSION = re.compile(r'^__version__ = "(\d+)\.(\d+)\.(\d+)"$', re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

# What a release may do to a database that its predecessor still works with: add, and nothing else.
EXPAND = """-- The way by which a sale came, for the reports; the release before this one does not know it.
alter table pharmacy.sales add column channel text not null default 'counter' check (channel <> '');
alter table pharmacy.payments add column terminal text;
create table pharmacy.terminals (
  code text primary key check (code <> ''),
  store_id bigint not null references pharmacy.stores (id),
  created_at timestamptz not null default now()
);
grant select, insert, update on pharmacy.terminals to pharma_runtime;
"""

# The first payments work, as they would for any look at the release before it meets its users.
FAILS_PAYMENTS = """

_sound_pay = pay
_payments_tried = 0


async def pay(*args, **kwargs):
    global _payments_tried
    _payments_tried += 1
    if _payments_tried > 5:
        raise RuntimeError("the acquirer's answer has no field 'nsu'")
    return await _sound_pay(*args, **kwargs)
"""

NEVER_READY = """

Readiness.ok = property(lambda self: False)
"""


@dataclass(frozen=True)
class Variant:
    """A release that differs from the checkout's.

    :param step: by how much the last part of the version is raised.
    :param appended: text for the end of modules of the package.
    """

    name: str
    step: int
    appended: Mapping[str, str] = field(default_factory=dict)


SOUND = Variant("sound", 1)
PAYS_NOT = Variant("fails-payments", 2, {"sales.py": FAILS_PAYMENTS})
NOT_READY = Variant("never-ready", 3, {"readiness.py": NEVER_READY})


@dataclass(frozen=True)
class Built:
    """A release on the controller."""

    directory: Path
    version: str
    digest: str


def describe(directory: Path) -> Built:
    """A release that was built.

    :raises OSError: there is none.
    """
    identity = json.loads((directory / "release.json").read_text())
    return Built(directory, identity["version"], identity["digest"])


def raised(text: str, step: int) -> str:
    """The text of ``__init__.py`` with the last part of the version raised.

    :raises ValueError: it names no version of three numbers.
    """
    changed, count = _VERSION.subn(
        lambda match: f'__version__ = "{match[1]}.{match[2]}.{int(match[3]) + step}"', text
    )
    if count != 1:
        raise ValueError("__init__.py names no version of three numbers")
    return changed


def next_migration(names: list[str]) -> str:
    """The number of the migration that comes after those files, as four digits."""
    return f"{max(int(match[1]) for name in names if (match := _MIGRATION.fullmatch(name))) + 1:04d}"


def write_tree(backend: Path, variant: Variant, tree: Path) -> None:
    """Copy the backend's tree and change the copy into the variant; each has the same further migration."""
    shutil.copytree(
        backend, tree, ignore=shutil.ignore_patterns("__pycache__", "tests", ".*"), dirs_exist_ok=False
    )
    package = tree / PACKAGE
    init = package / "__init__.py"
    init.write_text(raised(init.read_text(), variant.step))
    migrations = package / "migrations"
    number = next_migration([path.name for path in migrations.iterdir()])
    (migrations / f"{number}_terminals.sql").write_text(EXPAND)
    for name, text in variant.appended.items():
        module = package / name
        module.write_text(module.read_text() + text)


def build(backend: Path, variant: Variant, base: Path, work: Path) -> Built:
    """Build a variant with the wheels of a release that is there; pip asks nobody for anything.

    :param base: the release whose wheels are used; its Python is the variant's.
    :param work: what was built there before from the same sources is used again.
    :raises subprocess.CalledProcessError: the build failed; its message is in the output.
    """
    python = json.loads((base / "release.json").read_text())["python"]
    tree = work / f"tree-{variant.name}"
    shutil.rmtree(tree, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    write_tree(backend, variant, tree)
    done = subprocess.run(
        [sys.executable, str(tree / "build_release.py"), "--python", python, "--out", str(work / "releases")],
        env=os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(base / "wheels")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, "build_release.py", done.stdout, done.stderr)
    shutil.rmtree(tree)
    return describe(Path(json.loads(done.stdout)["path"]))
