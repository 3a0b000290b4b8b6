# SPDX-License-Identifier: GPL-3.0-or-later
"""The release: its lock, and its identity once installed. Building one needs pip's registry: make release."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from pharma_backend import __version__, release
from pharma_backend.errors import CommandError

BACKEND = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_release", BACKEND / "build_release.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_dependencies_are_those_that_the_lock_was_made_of() -> None:
    declared = tomllib.loads((BACKEND / "pyproject.toml").read_text())["project"]["dependencies"]
    lines = (BACKEND / "requirements.in").read_text().splitlines()
    assert declared == [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_the_lock_is_whole_for_the_target(builder: ModuleType, python: str) -> None:
    chosen = builder.select((BACKEND / "requirements.txt").read_text(), python)
    pins = re.findall(r"^(\S+)==", chosen, re.MULTILINE)
    assert {"fastapi", "psycopg", "psycopg-binary", "uvicorn", "orjson"} <= set(pins)
    assert "tzdata" not in pins, "a package for Windows"
    assert ";" not in chosen
    for block in re.split(r"^(?=\S)", chosen, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block


def test_a_line_that_pins_nothing_is_refused(builder: ModuleType) -> None:
    with pytest.raises(builder.BuildError, match="not an exact pin"):
        builder.select("fastapi>=0.1\n", "3.13")


def test_a_release_with_an_altered_file_is_not_whole(builder: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    wheel = tmp_path / "wheels/pharma_backend-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    builder._describe(tmp_path, "3.13")
    assert builder.is_whole(tmp_path)
    identity = json.loads((tmp_path / "release.json").read_text())
    assert identity["digest"] == builder.sha256(tmp_path / "SHA256SUMS")
    wheel.write_bytes(b"other")
    assert not builder.is_whole(tmp_path)
    wheel.write_bytes(b"wheel")
    (tmp_path / "wheels/more").write_bytes(b"")
    assert not builder.is_whole(tmp_path)


def test_identity_of_a_development_tree(tmp_path: Path) -> None:
    found = release.identify(tmp_path)
    assert (found.development, found.digest, found.version) == (True, "0" * 64, __version__)


def test_identity_of_an_installed_release(tmp_path: Path) -> None:
    data = {"name": "pharma-backend", "version": __version__, "digest": "ab" * 32, "python": "3.13"}
    (tmp_path / "release.json").write_text(json.dumps(data))
    assert release.identify(tmp_path).label == f"{__version__}+abababababab"
    assert not release.identify(tmp_path).development


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"name": "x"}', '{"name":"x","version":"9","digest":"z","python":"3"}']
)
def test_a_false_identity_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "release.json").write_text(text)
    with pytest.raises(CommandError) as refused:
        release.identify(tmp_path)
    assert refused.value.code == "RELEASE_INVALID"


def test_this_interpreter_is_not_a_release() -> None:
    assert not (Path(sys.prefix) / "release.json").exists()
