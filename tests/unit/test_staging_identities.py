# SPDX-License-Identifier: GPL-3.0-or-later
"""The role staging never takes an identity off a host: what it writes beside what is there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pharma_ops.sealing import keys

OLD, NEW, OTHER = (keys.generate(name) for name in ("old", "new", "other"))

PLAY = """\
- hosts: localhost
  gather_facts: false
  vars_files: [%s]
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    staging_store: {name: offsite, type: local}
  tasks:
    - ansible.builtin.copy:
        content: "{{ __staging_identity_content }}"
        dest: "{{ item.dest }}"
        mode: "0600"
      vars:
        staging_age_identity: "{{ item.given }}"
        __staging_identities: "{{ {'content': item.there | b64encode} if item.there else {'skipped': true} }}"
      loop: "{{ cases }}"
"""

CASES: list[tuple[str, str, list[str]]] = [
    # given, there, what the host has then
    (OLD.text, "", [OLD.fingerprint]),
    (OLD.text.splitlines()[-1], "", [OLD.fingerprint]),
    (OLD.text, OLD.text, [OLD.fingerprint]),
    (OLD.text, OLD.text + NEW.text, [OLD.fingerprint, NEW.fingerprint]),
    (OLD.text + NEW.text, OLD.text, [OLD.fingerprint, NEW.fingerprint]),
    (NEW.text, OLD.text, [OLD.fingerprint, NEW.fingerprint]),
    (OTHER.text, OLD.text + NEW.text, [OLD.fingerprint, NEW.fingerprint, OTHER.fingerprint]),
    (NEW.text, "garbage\n", [NEW.fingerprint]),
]


@pytest.fixture(scope="module")
def written(
    root: Path,
    tmp_path_factory: pytest.TempPathFactory,
    run_ansible: Callable[..., subprocess.CompletedProcess[str]],
) -> list[Path]:
    """The identity file that the role would write in each case."""
    directory = tmp_path_factory.mktemp("role")
    (directory / "play.yml").write_text(PLAY % (root / "roles/staging/vars/main.yml"))
    files = [directory / f"case{number}" for number in range(len(CASES))]
    cases = [
        {"given": given, "there": there, "dest": str(path)}
        for (given, there, _), path in zip(CASES, files, strict=True)
    ]
    (directory / "cases.json").write_text(json.dumps({"cases": cases}))
    words = ["-i", "localhost,", "-c", "local", "-e", "@cases.json", "play.yml"]
    done = run_ansible("ansible-playbook", *words, cwd=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return files


@pytest.mark.parametrize("number", range(len(CASES)))
def test_what_was_on_the_host_stays_and_what_is_given_comes(written: list[Path], number: int) -> None:
    _given, there, expected = CASES[number]
    found = keys.read_identities(written[number])
    assert [identity.fingerprint for identity in found] == expected
    if len(keys.parse_identities(there, "there") if "SECRET" in there else ()) == len(expected):
        # Nothing was lacking, so the task changes nothing.
        assert written[number].read_text().strip() == there.strip()
