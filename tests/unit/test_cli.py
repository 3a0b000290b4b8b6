# SPDX-License-Identifier: GPL-3.0-or-later
"""The command's frame: options, exit codes, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pharma_ops.cli import show
from pharma_ops.cli.main import build_parser, main


def test_options_may_stand_before_or_after_the_words() -> None:
    parser = build_parser()
    for words in (
        ["--json", "--config", "/x", "backup", "list"],
        ["backup", "list", "--json", "--config", "/x"],
    ):
        parsed = parser.parse_args(words)
        assert parsed.json
        assert parsed.config == Path("/x")
    assert not parser.parse_args(["backup", "list"]).json


def test_an_error_says_cause_and_next_step_and_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "no.toml"
    assert main(["backup", "create", "--config", str(missing)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "CONFIG_MISSING" in shown.err
    assert str(missing) in shown.err
    assert "Next: " in shown.err
    assert main(["backup", "create", "--json", "--config", str(missing)]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "CONFIG_MISSING"


def test_a_host_without_a_database_makes_no_backup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    path.write_text('environment = "lab"\n')
    assert main(["backup", "create", "--config", str(path)]) == 2
    assert "[databases.<name>]" in capsys.readouterr().err


def test_listing_and_verifying_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        f'environment = "lab"\n[databases.shop]\n[stores.offsite]\ntype = "local"\npath = "{tmp_path}"\n'
    )
    assert main(["backup", "list", "--json", "--config", str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == {"backups": []}
    assert main(["backup", "verify", "--config", str(path)]) == 2
    assert "no complete backup of shop" in capsys.readouterr().err


def test_sizes_for_a_person() -> None:
    assert [show.size(count) for count in (0, 1023, 1024, 5 << 20, 3 << 40)] == [
        "0 bytes", "1023 bytes", "1.0 KiB", "5.0 MiB", "3.0 TiB",
    ]  # fmt: skip
