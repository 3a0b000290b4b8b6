# SPDX-License-Identifier: GPL-3.0-or-later
"""Every code of the backend is explained in docs/errors.md with its status, and nothing else is."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pharma_backend import problems
from pharma_backend.api import answers

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "backend/src").rglob("*.py"))
Row = tuple[str, str, str]
ROW = re.compile(r"^\| `([A-Z0-9_]+)` \|([^|]+)\|([^|]*)\|([^|]*)\|$", re.MULTILINE)


def table(heading: str) -> dict[str, Row]:
    """Code to its other three columns, of the section under a heading."""
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = ROW.findall(section)
    assert len({row[0] for row in rows}) == len(rows), "a code is explained twice"
    return {code: (second.strip(), cause.strip(), action.strip()) for code, second, cause, action in rows}


def problem_codes(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Code and status of each ``Problem(…)``, and of documents that are written by hand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Problem":
            code, status = node.args[:2]
            if isinstance(code, ast.Constant) and isinstance(status, ast.Constant):
                yield str(code.value), int(str(status.value))
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if ast.unparse(key or node) == "'code'" and isinstance(value, ast.Constant):
                    yield str(value.value), answers.STATUS[str(value.value)]


def command_codes(tree: ast.AST) -> Iterator[str]:
    """The code of each ``CommandError(…)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "CommandError":
            yield ast.literal_eval(node.args[0])


def trees() -> Iterator[ast.AST]:
    for path in SOURCES:
        yield ast.parse(path.read_text(encoding="utf-8"))


def test_the_source_the_catalogue_and_the_page_agree_on_answers() -> None:
    given = {pair for tree in trees() for pair in problem_codes(tree)}
    given |= {(code, status) for status, code in problems._HTTP_CODES.items()}
    assert given == set(answers.STATUS.items())
    explained = {code: status for code, (status, _, _) in table("Answers of the API").items()}
    assert explained == {code: str(status) for code, status in answers.STATUS.items()} | {"HTTP_ERROR": "any"}


def test_the_source_and_the_page_agree_on_commands() -> None:
    given = {code for tree in trees() for code in command_codes(tree)}
    assert given == table("Commands").keys()


@pytest.mark.parametrize("heading", ["Answers of the API", "Commands"])
def test_each_has_a_cause_and_what_to_do(heading: str) -> None:
    rows = table(heading)
    assert len(rows) > 20
    assert [code for code, (_, cause, action) in rows.items() if not cause or not action] == []


def test_a_code_is_found_however_it_is_given() -> None:
    source = """
raise Problem("A_CODE", 409, "title", **facts)
raise CommandError("B_CODE", f"{x}", "y")
answer = {"code": "INTERNAL"}
"""
    assert set(problem_codes(ast.parse(source))) == {("A_CODE", 409), ("INTERNAL", 500)}
    assert set(command_codes(ast.parse(source))) == {"B_CODE"}


def test_the_schema_of_problems_is_the_documented_one() -> None:
    documented = json.loads((ROOT / "docs/schemas/problem.schema.json").read_text())
    for key in ("type", "required", "properties", "title"):
        assert answers.PROBLEM[key] == documented[key]
