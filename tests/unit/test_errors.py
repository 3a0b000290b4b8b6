# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error code of the engine is explained in docs/errors.md, and nothing else is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pharma_ops.errors import ExitCode, OpsError
from pharma_ops.restoring.runner import FAILED_CODES

# Two words at least; not the environment of libpq (PGCONNECT_TIMEOUT).
CODE = re.compile(r"^(?!PG)[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+$")
# Constants in upper snake case that are no error codes.
NOT_CODES = frozenset(
    {
        "CREDENTIALS_DIRECTORY",
        "DATABASE_URL",
        "JWT_SECRET",
        "MONITOR_INVOCATION_ID",
        "MONITOR_UNIT",
        "REFRESH_SECRET",
        "SUDO_USER",
    }
)

# Tables that speak of codes which others give.
SPEAKING = frozenset({"texts_en.py", "texts_pt.py"})


def codes(tree: ast.AST) -> Iterator[str]:
    """Codes that a module gives to an error: the first argument of ``OpsError``, every ``code=`` and its
    default, and the first argument of ``check`` and of functions that end in an error.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            given = [word.value for word in node.keywords if word.arg in {"code", "error_code"}]
            candidates = [*node.args[:2], *given]
            if ast.unparse(node.func) == "OpsError" and node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value)
        elif isinstance(node, ast.FunctionDef):
            candidates = [*node.args.defaults, *(value for value in node.args.kw_defaults if value)]
        elif isinstance(node, ast.Dict):
            candidates = [*(key for key in node.keys if key), *node.values]
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.Return | ast.IfExp | ast.Tuple):
            candidates = list(ast.iter_child_nodes(node))
        else:
            continue
        yield from (
            value.value
            for value in candidates
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and CODE.match(value.value)
        )


def documented(text: str) -> dict[str, tuple[str, str]]:
    """Code → (cause, what to do), from the rows of the tables."""
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \|([^|]*)\|([^|]*)\|$", text, re.MULTILINE)
    assert len({row[0] for row in rows}) == len(rows), "a code is documented twice"
    return {code: (cause.strip(), action.strip()) for code, cause, action in rows}


@pytest.fixture(scope="module")
def used(root: Path) -> set[str]:
    found: set[str] = set()
    for path in (root / "plugins").rglob("*.py"):
        if path.name not in SPEAKING:
            found.update(codes(ast.parse(path.read_text(encoding="utf-8"))))
    return found - NOT_CODES


@pytest.fixture(scope="module")
def explained(root: Path) -> dict[str, tuple[str, str]]:
    return documented((root / "docs/errors.md").read_text(encoding="utf-8"))


def test_every_code_is_explained(used: set[str], explained: dict[str, tuple[str, str]]) -> None:
    assert sorted(used - set(explained)) == []


def test_nothing_else_is(used: set[str], explained: dict[str, tuple[str, str]]) -> None:
    assert sorted(set(explained) - used - {"INTERNAL"}) == []


def test_tables_speak_of_codes_that_there_are(root: Path, used: set[str]) -> None:
    spoken = set(FAILED_CODES)
    for name in SPEAKING:
        path = root / "plugins/module_utils/_ops/evidence" / name
        spoken.update(codes(ast.parse(path.read_text(encoding="utf-8"))))
    assert sorted(spoken - used - NOT_CODES) == []


def test_each_has_a_cause_and_what_to_do(explained: dict[str, tuple[str, str]]) -> None:
    assert explained
    assert [code for code, (cause, action) in explained.items() if not cause or not action] == []


@pytest.mark.parametrize(
    "source",
    [
        'raise OpsError("DISK_FULL", "x")',
        'raise OpsError("FULL", "x")',
        'child.check("DISK_FULL")',
        'run(["x"], code="DISK_FULL")',
        'def f(*, code: str = "DISK_FULL"): ...',
        'CODES = {"NoSuchBucket": "DISK_FULL"}',
        'code = "DISK_FULL" if x else "y"',
    ],
)
def test_a_code_is_found_however_it_is_given(source: str) -> None:
    assert set(codes(ast.parse(source))) in ({"DISK_FULL"}, {"FULL"})


def test_an_error_speaks_of_object_cause_and_next_step() -> None:
    error = OpsError("STORE_UNREACHABLE", "The store s3://b is away.", "Check the network.")
    assert str(error) == "The store s3://b is away. Check the network."
    assert error.exit_code is ExitCode.COULD_NOT_RUN
    assert error.as_dict() == {
        "code": "STORE_UNREACHABLE",
        "message": "The store s3://b is away.",
        "action": "Check the network.",
    }
