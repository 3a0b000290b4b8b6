# SPDX-License-Identifier: GPL-3.0-or-later
"""The check for committed secrets: planted ones are found, the usual innocents are not."""

from __future__ import annotations

import importlib.util
import secrets
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def finder(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("find_secrets", root / "tests/tools/find_secrets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["find_secrets"] = module
    spec.loader.exec_module(module)
    return module


# Written in two halves, or this file would be a finding itself.
PLANTED = {
    "key.txt": f"-----BEGIN OPENSSH {'PRIVATE KEY'}-----\n{'b3BlbnNzaC1rZXktdjEAAAAABG5vbmUA' * 2}",
    "key.py": 'KEY = "-----BEGIN ' + 'PRIVATE KEY-----\\nMC4CAQAwBQYDK2VwBCIEIPhPe0iF2Nq8H7r6yB1kzXxY"',
    "identity.md": "AGE-SECRET-" + "KEY-1" + "Q" * 58,
    "notes.py": "KEY = 'AKIA" + "J7QX2M4T8W1Z5B9C'",
    "token.json": f"eyJhbGciOiJIUzI1NiJ9.{'eyJzdWIiOiIxMjM0NTY3ODkwIn0'}.dozjgNryP4J3jVmNHl0w5N",
    "app.py": 'DSN = "postgresql://pharma:' + 'battery-staple@db1/pharma"',
    "vars.yml": "postgresql_password: " + "battery-staple\n",
    "list.yaml": "  - db_secret: '" + "battery-staple'\n",
    ".env": "JWT_SECRET=" + "battery-staple\n",
    "config.toml": 'secret_key = "' + 'battery-staple"\n',
}

INNOCENT = {
    "vars.yml": "db_password: '{{ vault_password }}'\ndb_password_file: /etc/x\nupdate_password: on_create\n",
    "meta/argument_specs.yml": "password:\n  type: str\n  required: true\n",
    "app.py": 'DSN = f"postgresql://{user}:{password}@{host}/db"\npassword = read(path)\n',
    "README.md": "postgresql://user:***@host/db and postgresql://host/db\n",
    "test_signing.py": 'assert text.startswith("-----BEGIN PRIVATE KEY-----\\n")\n',
    "run.sh": 'password=$(openssl rand -hex 16)\nTOKEN="$1"\n',
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_secret_is_found_and_not_repeated(finder: ModuleType, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(f"first line\n{PLANTED[name]}", encoding="utf-8")
    findings = finder.scan([path])
    assert [(finding.path, finding.line) for finding in findings] == [(path, 2)]
    assert "battery-staple" not in str(findings[0])


@pytest.mark.parametrize("name", INNOCENT)
def test_the_usual_innocents_are_not(finder: ModuleType, name: str) -> None:
    assert list(finder.find(Path(name), INNOCENT[name])) == []


def test_a_secret_in_a_binary_file_is_found(finder: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"\xff\xfe\n" + PLANTED["identity.md"].encode())
    assert len(finder.scan([path])) == 1


def test_a_file_that_git_would_add_is_scanned(root: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("/ignored.yml\n")
    for name in ("new.yml", "ignored.yml"):
        (tmp_path / name).write_text(f"admin_password: {secrets.token_hex(8)}\n")
    script = root / "tests/tools/find_secrets.py"
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == "new.yml:1: literal value of admin_password\n"
