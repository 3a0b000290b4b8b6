# SPDX-License-Identifier: GPL-3.0-or-later
"""One repository, two ways to run it: the checkout through committed links, and the built tarball."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

RunAnsible = Callable[..., subprocess.CompletedProcess[str]]

LINKS = {
    "collections/ansible_collections/pharma/hardening/README.md": "../../../../README.md",
    "collections/ansible_collections/pharma/hardening/galaxy.yml": "../../../../galaxy.yml",
    "collections/ansible_collections/pharma/hardening/meta": "../../../../meta",
    "collections/ansible_collections/pharma/hardening/plugins": "../../../../plugins",
    "collections/ansible_collections/pharma/hardening/roles": "../../../../roles",
    "playbooks/collections": "../collections",
}
# Top-level entries that the collection consists of; anything else in a tarball was not meant to be there.
COLLECTION = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "COPYING",
    "FILES.json",
    "MANIFEST.json",
    "README.md",
    "changelogs",
    "docs",
    "meta",
    "playbooks",
    "plugins",
    "requirements.yml",
    "roles",
}


@pytest.mark.parametrize("link", LINKS)
def test_the_checkouts_links_are_committed_as_links(root: Path, link: str) -> None:
    assert str((root / link).readlink()) == LINKS[link]
    assert (root / link).exists()
    entry = subprocess.run(
        ["git", "ls-files", "--stage", link], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert entry.startswith("120000 ")


def test_no_other_link_leads_back_into_the_checkout(root: Path) -> None:
    entries = subprocess.run(
        ["git", "ls-files", "--stage"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    links = {entry.partition("\t")[2] for entry in entries if entry.startswith("120000 ")}
    assert links == set(LINKS)


def test_the_tarball_holds_the_collection_and_nothing_else(root: Path, tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
        manifest = archive.extractfile("MANIFEST.json")
        assert manifest is not None
        info = json.load(manifest)["collection_info"]
    assert {name.partition("/")[0] for name in names} <= COLLECTION
    assert {"plugins", "roles", "meta", "playbooks", "README.md", "COPYING"} <= {
        n.partition("/")[0] for n in names
    }
    assert not [name for name in names if "cache" in name or name.startswith("playbooks/collections")]
    galaxy = yaml.safe_load((root / "galaxy.yml").read_text(encoding="utf-8"))
    assert (info["namespace"], info["name"], info["version"]) == ("pharma", "hardening", galaxy["version"])
    assert info["license"] == ["GPL-3.0-or-later"]


def test_the_engine_and_the_collection_have_one_version(root: Path) -> None:
    import pharma_ops

    galaxy = yaml.safe_load((root / "galaxy.yml").read_text(encoding="utf-8"))
    assert pharma_ops.__version__ == galaxy["version"]


def test_the_installed_collection_lists_every_module(
    run_ansible: RunAnsible, root: Path, installed: Path, tmp_path: Path
) -> None:
    done = run_ansible(
        "ansible-doc",
        *("-t", "module", "--list", "--json", "pharma.hardening"),
        cwd=tmp_path,
        ANSIBLE_COLLECTIONS_PATH=str(installed),
    )
    assert done.returncode == 0, done.stderr
    modules = {path.stem for path in (root / "plugins/modules").glob("[!_]*.py")}
    assert modules
    assert set(json.loads(done.stdout)) == {f"pharma.hardening.{name}" for name in modules}


def test_the_installed_collection_lists_every_role(
    run_ansible: RunAnsible, root: Path, installed: Path, tmp_path: Path
) -> None:
    """A role is listed when its argument specification can be read from the installed copy."""
    done = run_ansible(
        "ansible-doc",
        *("-t", "role", "--list", "--json", "pharma.hardening"),
        cwd=tmp_path,
        ANSIBLE_COLLECTIONS_PATH=str(installed),
    )
    assert done.returncode == 0, done.stderr
    roles = {path.parent.parent.name for path in (root / "roles").glob("*/tasks/main.yml")}
    assert roles
    listed = json.loads(done.stdout)
    assert {name for name, spec in listed.items() if spec["entry_points"]} == {
        f"pharma.hardening.{name}" for name in roles
    }


def test_a_play_from_elsewhere_resolves_roles_and_modules(
    run_ansible: RunAnsible, root: Path, installed: Path, tmp_path: Path
) -> None:
    roles = sorted(path.parent.parent.name for path in (root / "roles").glob("*/tasks/main.yml"))
    play = [
        {
            "name": "All roles",
            "hosts": "all",
            "gather_facts": False,
            "roles": [f"pharma.hardening.{r}" for r in roles],
        }
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play), encoding="utf-8")
    # The third-party collections come with the interpreter's own environment.
    done = run_ansible(
        "ansible-playbook",
        *("-i", "localhost,", "--syntax-check", "play.yml"),
        cwd=tmp_path,
        ANSIBLE_COLLECTIONS_PATH=str(installed),
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play[0] | {"roles": ["pharma.hardening.nowhere"]}]))
    missing = run_ansible(
        "ansible-playbook",
        *("-i", "localhost,", "--syntax-check", "play.yml"),
        cwd=tmp_path,
        ANSIBLE_COLLECTIONS_PATH=str(installed),
    )
    assert missing.returncode != 0
    assert "pharma.hardening.nowhere" in missing.stderr


def used(root: Path, *directories: str) -> set[str]:
    """Third-party collections whose modules or plugins are named in the YAML files of directories."""
    name = re.compile(
        r"\b((?:community\.[a-z]+|ansible\.(?:posix|utils)|containers\.podman|awx\.awx|amazon\.aws))\.[a-z_]+"
    )
    return {
        found
        for directory in directories
        for path in (root / directory).rglob("*.yml")
        for found in name.findall(path.read_text(encoding="utf-8"))
    }


def test_third_party_collections_are_named_where_they_are_needed(root: Path) -> None:
    required = yaml.safe_load((root / "requirements.yml").read_text(encoding="utf-8"))["collections"]
    galaxy = yaml.safe_load((root / "galaxy.yml").read_text(encoding="utf-8"))
    assert set(galaxy["dependencies"]) == used(root, "roles", "playbooks")
    assert {entry["name"] for entry in required} == used(root, "roles", "playbooks", "lab")


def test_their_versions_are_those_that_the_tests_run_with(
    run_ansible: RunAnsible, root: Path, tmp_path: Path
) -> None:
    required = yaml.safe_load((root / "requirements.yml").read_text(encoding="utf-8"))["collections"]
    done = run_ansible("ansible-galaxy", "collection", "list", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    installed = {
        name: info["version"] for path in json.loads(done.stdout).values() for name, info in path.items()
    }
    assert {entry["name"]: str(entry["version"]) for entry in required}.items() <= installed.items()
