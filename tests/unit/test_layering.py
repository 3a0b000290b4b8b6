# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's house rules, read from its syntax trees: floors, relative imports, silence."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# A room's floor; modules at the top of the package are floor 1 (docs/architecture.md).
FLOORS = {
    "postgres": 2,
    "store": 2,
    "sealing": 2,
    "journey": 2,
    "telling": 2,
    "backup": 3,
    "evidence": 3,
    "custody": 3,
    "restoring": 4,
    "drill": 5,
    "estate": 5,
    "recover": 5,
    "release": 5,
    "cli": 6,
}
HEADER = [
    "# Copyright: Contributors to the pharma.hardening project",
    "# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
]
MAX_LINES = 450


def floor(module: tuple[str, ...]) -> int:
    """The floor of a module, given by its path below the engine."""
    return FLOORS[module[0]] if module and module[0] in FLOORS else 1


def imported(package: tuple[str, ...], node: ast.ImportFrom) -> Iterator[tuple[str, ...]]:
    """What a relative import may name, as paths below the engine."""
    base = package[: len(package) - node.level + 1] + tuple(
        (node.module or "").split(".") if node.module else ()
    )
    for alias in node.names:
        yield (*base, alias.name)


def complaints(source: str, module: tuple[str, ...], third_party: set[str]) -> list[str]:
    """What the house rules have against a module.

    :param module: path below the engine, ``("store", "s3")``.
    :param third_party: libraries that ``_deps`` knows.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += _import_complaints(node, module, third_party)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"print", "sys.exit", "exit", "quit", "os.system", "os.popen"}:
                found.append(f"line {node.lineno}: calls {called}")
            if any(word.arg == "shell" for word in node.keywords):
                found.append(f"line {node.lineno}: starts a shell")
    return found


def _import_complaints(
    node: ast.Import | ast.ImportFrom, module: tuple[str, ...], third_party: set[str]
) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and node.level:
        if node.level > len(module):
            yield f"line {node.lineno}: leaves the engine"
            return
        for target in imported(module[:-1], node):
            if floor(target) > floor(module):
                yield f"line {node.lineno}: imports {'.'.join(target)} from a floor above"
            elif floor(target) == floor(module) > 1 and target[0] != module[0]:
                yield f"line {node.lineno}: imports {'.'.join(target)} from the room next door"
        return
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    for name in names:
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | third_party:
            yield f"line {node.lineno}: imports {name}"


def modules(engine: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    for path in sorted(engine.rglob("*.py")):
        yield path, path.relative_to(engine).with_suffix("").parts


@pytest.fixture(scope="module")
def engine(root: Path) -> Path:
    return root / "plugins" / "module_utils" / "_ops"


@pytest.fixture(scope="module")
def third_party() -> set[str]:
    from pharma_ops._deps import PACKAGES

    # Stub packages that exist for the type checker only.
    return {*PACKAGES, "mypy_boto3_s3", "types_boto3_s3"}


def test_every_module_keeps_the_rules(engine: Path, third_party: set[str]) -> None:
    found = {
        str(path.relative_to(engine)): against
        for path, module in modules(engine)
        if (against := complaints(path.read_text(encoding="utf-8"), module, third_party))
    }
    assert found == {}


def test_every_room_has_a_floor(engine: Path) -> None:
    rooms = {path.parent.name for path in engine.glob("*/__init__.py")}
    assert rooms == set(FLOORS)


def test_the_engine_is_python_files_only(engine: Path) -> None:
    """A module's payload carries nothing else."""
    others = [path for path in engine.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]
    assert others == []


def test_plugin_files_carry_the_licence_and_stay_small(root: Path) -> None:
    wrong = []
    for path in sorted((root / "plugins").rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        start = 1 if lines and lines[0].startswith("#!") else 0
        if lines[start : start + 3] != HEADER:
            wrong.append(f"{path.relative_to(root)}: no licence header")
        if len(lines) > MAX_LINES:
            wrong.append(f"{path.relative_to(root)}: {len(lines)} lines")
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "module", "complaint"),
    [
        ("from ..drill import run", ("backup", "create"), "floor above"),
        ("from ..evidence.record import Verdict", ("backup", "create"), "room next door"),
        ("from ..cli import main", ("drill", "run"), "floor above"),
        ("from .postgres import catalog", ("log",), "floor above"),
        ("from ... import x", ("backup", "create"), "leaves the engine"),
        ("from ansible.module_utils.basic import AnsibleModule", ("log",), "imports ansible"),
        ("import ansible", ("log",), "imports ansible"),
        ("import requests", ("store", "s3"), "imports requests"),
        ("from pharma_ops import log", ("store", "s3"), "imports pharma_ops"),
        ("print('x')", ("drill", "run"), "calls print"),
        ("import sys\nsys.exit(1)", ("cli", "main"), "calls sys.exit"),
        ("import subprocess\nsubprocess.run('x', shell=True)", ("log",), "starts a shell"),
    ],
)
def test_a_breach_is_found(source: str, module: tuple[str, ...], complaint: str) -> None:
    assert any(complaint in found for found in complaints(source, module, {"boto3"}))


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from .. import clock\nfrom ..postgres.catalog import tables", ("backup", "create")),
        ("from .record import Verdict\nfrom . import ledger", ("evidence", "render")),
        ("from ..evidence.record import Verdict", ("drill", "run")),
        ("import os\nimport boto3", ("store", "s3")),
    ],
)
def test_what_the_rules_allow_is_allowed(source: str, module: tuple[str, ...]) -> None:
    assert complaints(source, module, {"boto3"}) == []
