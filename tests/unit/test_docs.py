# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation points to exists."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
# Paths of the checkout as they stand in running text and in messages of the programs.
NAMED = re.compile(r"\b((?:docs|roles|playbooks|plugins|tests|lab|backend|molecule)/[\w./-]*\w)")
TARGET = re.compile(r"\bmake ((?:[a-z]+-)?[a-z]+)\b")


def tracked(root: Path, *patterns: str) -> list[Path]:
    """Files that git tracks or would add, links left out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns]
    names = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.split(b"\0")
    paths = [root / name.decode() for name in names if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def dead_links(page: Path, text: str) -> Iterator[str]:
    """Relative links of a page that lead nowhere."""
    for link in LINK.findall(text):
        if "://" not in link and not link.startswith("mailto:") and not (page.parent / link).exists():
            yield link


def test_every_link_leads_somewhere(root: Path) -> None:
    pages = tracked(root, "*.md")
    assert len(pages) > 5
    dead = {
        str(page.relative_to(root)): list(dead_links(page, page.read_text(encoding="utf-8")))
        for page in pages
    }
    assert {page: links for page, links in dead.items() if links} == {}


def test_a_dead_link_is_found(root: Path) -> None:
    text = "[a](docs/nowhere.md) [b](README.md) [c](https://example.com/x) [d](README.md#limits)"
    assert list(dead_links(root / "README.md", text)) == ["docs/nowhere.md"]


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/16_hardening_producao/LEIAME.md", "docs/index.md"]
)
def test_files_that_a_page_names_exist(root: Path, page: str) -> None:
    text = (root / page).read_text(encoding="utf-8")
    assert sorted({name for name in NAMED.findall(text) if not (root / name).exists()}) == []


def test_documents_that_messages_name_exist(root: Path) -> None:
    named = {
        name
        for path in tracked(root, "plugins/*.py", "backend/*.py", "roles/*", "lab/*", "backend/*.yaml")
        for name in re.findall(r"\bdocs/[\w./-]+\.(?:md|json)\b", path.read_text(encoding="utf-8"))
    }
    assert named
    assert sorted(name for name in named if not (root / name).exists()) == []


def test_the_make_targets_of_the_readme_exist(root: Path) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        named = set(TARGET.findall((root / page).read_text(encoding="utf-8")))
        assert {"test"} <= named <= targets
