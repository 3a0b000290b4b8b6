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
    "vault.yml": "vault_age_" + "identity: battery-staple\n",
    "vault2.yml": "vault_signing_" + "key: |\n  battery-staple\n",
    "clouds.py": 'aws_secret_access_key = "' + "wJalrXUtnF3MI/K7MDEN" + "G+bPxRfiCYzQ2kL9aB1c" + '"',
    "ci.py": 'TOKEN = "ghp_' + "k3J9x2Lq8Zr5Tn7Vb1Wc" + "4Yd6Hf0Gs9Pm2Qa8" + '"',
    "lab.py": 'TOKEN = "glpat-' + "k3J9x2Lq8Zr5Tn7Vb1Wc" + '"',
    "chat.py": 'TOKEN = "xoxb-' + "123456789012-123456789012-k3J9x2Lq8Zr5Tn7Vb1Wc4Yd6" + '"',
    "pay.py": 'KEY = "sk_live_' + "k3J9x2Lq8Zr5Tn7Vb1Wc4Yd6" + '"',
    "upload.cfg": "password = pypi-AgEIcHlwaS5vcmc" + "k3J9x2Lq8Zr5Tn7Vb1Wc4Yd6" * 4,
    "random.py": f'CODE = "{secrets.token_urlsafe(48).replace("-", "a").replace("_", "b")}A1z"',
    "digest.py": f'CODE = "{secrets.token_hex(32)}"',
    "rsa.pem": f"-----BEGIN RSA {'PRIVATE KEY'}-----\n{'MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn' * 2}",
    "redis.yml": "url: redis://default:" + "battery-staple@cache/0\n",
}

INNOCENT = {
    "vars.yml": "db_password: '{{ vault_password }}'\ndb_password_file: /etc/x\nupdate_password: on_create\n",
    "meta/argument_specs.yml": "password:\n  type: str\n  required: true\n",
    "app.py": 'DSN = f"postgresql://{user}:{password}@{host}/db"\npassword = read(path)\n',
    "README.md": "postgresql://user:***@host/db and postgresql://host/db\n",
    "test_signing.py": 'assert text.startswith("-----BEGIN PRIVATE KEY-----\\n")\n',
    "run.sh": 'password=$(openssl rand -hex 16)\nTOKEN="$1"\n',
    "vault.yml": 'vault_jwt_secret: ""\nvault_age_identity: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n',
    "main.yml": "a: \"{{ vault_jwt_secret }}\"\nvault_x: \"{{ lookup('env', 'X') }}\"\n",
    "encrypted.yml": "$ANSIBLE_VAULT;1.1;AES256\n61626364656667686970717273747576777879\n",
    "recipients.txt": "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq\n",
    "requirements.txt": f"httpx==0.28.1 --hash=sha256:{'0f' * 32}\n",
    "alphabet.py": 'LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"\n',
    "trace.py": 'TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"\n',
    "uuid.py": 'ID = "123e4567-e89b-12d3-a456-426614174000"\n',
    "paths.py": 'PATH = "/usr/local/lib/pharma-ops/pharma_ops/custody/fingerprint.py"\n',
    "cert.crt": "-----BEGIN CERTIFICATE-----\nMIIBhTCCASugAwIBAgIQIRi6zePL6mKjOipn\n-----END CERTIFICATE-----\n",
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_secret_is_found_and_not_repeated(finder: ModuleType, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(f"first line\n{PLANTED[name]}", encoding="utf-8")
    findings = finder.scan([path])
    assert [(finding.path, finding.line) for finding in findings] == [(path, 2)]
    assert "battery-staple" not in str(findings[0])


@pytest.mark.parametrize("name", INNOCENT)
def test_the_usual_innocents_are_not(finder: ModuleType, tmp_path: Path, name: str) -> None:
    path = tmp_path / Path(name).name
    path.write_text(INNOCENT[name], encoding="utf-8")
    assert finder.scan([path]) == []


def test_a_line_may_say_that_it_is_no_secret(finder: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "vars.yml"
    path.write_text("db_" + "password: battery-staple  # pragma: allowlist secret\n")
    assert finder.scan([path]) == []


def test_nothing_is_asked_over_the_network(finder: ModuleType) -> None:
    """detect-secrets can ask the services whether a token is alive; here it must not."""
    with finder.detectors():
        from detect_secrets.settings import get_settings

        assert not any("verify" in name or "verification" in name for name in get_settings().filters)


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
