# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles keep their contract: specs equal defaults, files are marked, no role knows a group."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path.name for path in Path(__file__).parents[2].joinpath("roles").iterdir() if path.is_dir())
STEPS = ["preflight.yml", "install.yml", "configure.yml", "service.yml"]


def load(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options(root: Path, role: str) -> dict[str, Any]:
    """The options that a role's argument_specs document."""
    specs = load(root / "roles" / role / "meta/argument_specs.yml")
    found: dict[str, Any] = specs["argument_specs"]["main"]["options"]
    return found


def differences(documented: dict[str, Any], defaults: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Variables whose documented default is not the one in force; ``...`` stands for none at all."""
    wanted = {name: option.get("default", ...) for name, option in documented.items()}
    return {
        name: (wanted.get(name, ...), defaults.get(name, ...))
        for name in wanted.keys() | defaults.keys()
        if wanted.get(name, ...) != defaults.get(name, ...)
    }


@pytest.mark.parametrize("role", ROLES)
def test_documented_defaults_are_the_defaults(root: Path, role: str) -> None:
    assert differences(options(root, role), load(root / "roles" / role / "defaults/main.yml")) == {}


def test_a_wrong_or_missing_default_is_seen() -> None:
    documented = {"a": {"default": 1}, "b": {}}
    assert differences(documented, {"a": 1}) == {}
    assert differences(documented, {"a": 2, "c": 3}) == {"a": (1, 2), "c": (..., 3)}


@pytest.mark.parametrize("role", ROLES)
def test_public_variables_carry_the_name_of_the_role(root: Path, role: str) -> None:
    assert [name for name in options(root, role) if not name.startswith(f"{role}_")] == []
    internal = load(root / "roles" / role / "vars/main.yml")
    assert [name for name in internal if not name.startswith(f"__{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_goes_through_the_four_steps_in_order(root: Path, role: str) -> None:
    tasks = load(root / "roles" / role / "tasks/main.yml")
    assert [task["ansible.builtin.import_tasks"] for task in tasks] == STEPS


@pytest.mark.parametrize("role", ROLES)
def test_every_file_that_is_written_says_who_manages_it(root: Path, role: str) -> None:
    templates = root.joinpath("roles", role, "templates").glob("*")
    fragments = {"hardening.j2", "words.j2"}
    marked = {path.name: "{{ ansible_managed }}" in path.read_text() for path in templates}
    assert [name for name, mark in marked.items() if not mark and name not in fragments] == []


@pytest.mark.parametrize("role", ROLES)
def test_no_role_reads_the_inventory_of_others(root: Path, role: str) -> None:
    known = re.compile(r"\bgroups\b(?!:)|\bgroup_names\b|\bhostvars\b")
    found = [
        f"{path.name}:{number}"
        for path in root.joinpath("roles", role).rglob("*")
        if path.is_file() and path.suffix in {".yml", ".j2"}
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if known.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("role", ROLES)
def test_no_secret_is_a_default(root: Path, role: str) -> None:
    defaults = load(root / "roles" / role / "defaults/main.yml")
    secret = re.compile(r"password|secret|private_key|signing_key|identity|_url$")
    assert {name: value for name, value in defaults.items() if secret.search(name) and value} == {}


def test_both_roles_describe_a_store_alike(root: Path) -> None:
    writer = options(root, "backup")["backup_stores"]["options"]
    reader = options(root, "staging")["staging_store"]["options"]
    of_uploads = {"storage_class", "lock_mode", "lock_days", "bandwidth_limit", "sse_kms_key_id"}
    assert {name: option for name, option in writer.items() if name not in of_uploads} == reader


def test_the_pruner_describes_its_stores_like_them(root: Path) -> None:
    stores = options(root, "retention")["retention_stores"]
    assert stores["options"] == options(root, "staging")["staging_store"]["options"]


def test_two_roles_on_one_host_write_the_same_rule_for_new_clusters(root: Path) -> None:
    first, second = (
        root.joinpath("roles", role, "templates/createcluster.conf.j2").read_text()
        for role in ("postgresql", "staging")
    )
    assert first == second
