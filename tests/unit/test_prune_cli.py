# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-ops backup prune``: what people and programs see, and how it ends."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from estate_samples import CUT, DATABASE, NOW, RULES, Host, add_drill, host, put_days, put_set, put_upload

from pharma_ops import clock, config
from pharma_ops.backup.catalogue import list_sets
from pharma_ops.cli.main import build_parser, main
from pharma_ops.cli.prune import text_of
from pharma_ops.estate import pruning
from pharma_ops.store.local import LocalStore

DAY = timedelta(days=1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    return host(tmp_path, RULES)


def count(here: Host) -> int:
    return len(list_sets(LocalStore(here.store), DATABASE))


def test_a_dry_run_shows_the_plan_and_removes_nothing(here: Host, capsys: pytest.CaptureFixture[str]) -> None:
    made = put_days(here.store, 8)
    add_drill(here.ledger, made[0])
    put_set(here.store, NOW - 20 * DAY, CUT)
    put_upload(here.store, f"{DATABASE}/20261101T053000Z-abcdef/dump.age", NOW - 9 * DAY)
    assert main(["backup", "prune", "--dry-run", "--config", str(here.config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["id", "made", "age", "size", "decision", "reason"]
    shown = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[1:10]}
    # 05:30 in UTC is 02:30 in Sao Paulo.
    assert shown[made[0]] == ("Wed 2026-11-18 02:30 7 d 3.9 KiB keep newest proven by drill-1 on 2026-11-25")
    assert shown[made[1]] == "Thu 2026-11-19 02:30 6 d 3.9 KiB remove beyond all rules"
    assert shown[made[7]] == "Wed 2026-11-25 02:30 4 h 3.9 KiB keep newest, daily 2026-11-25"
    assert (
        "unfinished upload of pharma/20261101T053000Z-abcdef/dump.age, begun 2026-11-16 06:00: goes" in lines
    )
    assert lines[-1] == (
        f"pharma in directory {here.store}: 9 sets, 6 kept, 3 would be removed, 9.8 KiB would be freed; "
        "unfinished uploads would be removed: 1."
    )
    assert count(here) == 9
    assert not (here.base / "state").exists()
    assert not (here.base / "metrics").exists()


def test_a_run_removes_and_says_how_much_that_freed(here: Host, capsys: pytest.CaptureFixture[str]) -> None:
    put_days(here.store, 8)
    assert main(["backup", "prune", "--config", str(here.config)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"pharma in directory {here.store}: 8 sets, 5 kept, 3 removed, 11.7 KiB freed."
    )
    assert count(here) == 5
    assert main(["backup", "prune", "--config", str(here.config)]) == 0
    assert "5 sets, 5 kept, 0 removed" in capsys.readouterr().out


def test_a_blocked_run_ends_with_1_and_says_why_on_both_streams(
    here: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    put_days(here.store, 8, now=NOW - 3 * DAY)
    for words in (["--dry-run"], []):
        assert main(["backup", "prune", *words, "--config", str(here.config)]) == 1
        shown = capsys.readouterr()
        assert "8 sets, all kept. Pruning is blocked: cycle failed:" in shown.out
        assert "pruning is blocked, else beyond all rules" in shown.out
        assert "RETENTION_NEWEST_TOO_OLD: cycle failed" in shown.err
        assert "Next: Find out why no newer one came" in shown.err
    assert count(here) == 8


def test_json_has_every_set_with_its_reasons(here: Host, capsys: pytest.CaptureFixture[str]) -> None:
    made = put_days(here.store, 8)
    assert main(["backup", "prune", "--dry-run", "--json", "--config", str(here.config)]) == 0
    data = json.loads(capsys.readouterr().out)
    (place,) = data["places"]
    assert data["dry_run"] is True
    assert (place["database"], place["store"], place["verdict"]) == (DATABASE, "offsite-pruner", "done")
    assert [one["backup_id"] for one in place["sets"]] == made
    assert place["sets"][0] == {
        "backup_id": made[0],
        "state": "complete",
        "started_at": "2026-11-18T05:30:00.000Z",
        "bytes": 4000,
        "proven": False,
        "locked_until": None,
        "action": "remove",
        "reasons": ["beyond all rules"],
    }
    assert place["bytes_to_free"] == 12_000
    assert place["removed"] == []


@pytest.mark.parametrize(
    ("words", "code"), [(["--store", "nowhere"], "CONFIG_INVALID"), (["--database", "a/b"], "CONFIG_INVALID")]
)
def test_what_is_not_there_is_refused_with_2(
    here: Host, capsys: pytest.CaptureFixture[str], words: list[str], code: str
) -> None:
    put_days(here.store, 8)
    assert main(["backup", "prune", *words, "--config", str(here.config)]) == 2
    assert code in capsys.readouterr().err
    assert count(here) == 8


def test_one_database_alone(here: Host, capsys: pytest.CaptureFixture[str]) -> None:
    put_days(here.store, 8)
    other = put_days(here.store, 8, database="other")
    assert main(["backup", "prune", "--database", "other", "--config", str(here.config)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("other in directory")
    assert count(here) == 8
    assert [one.id for one in list_sets(LocalStore(here.store), "other")] == other[3:]


def test_a_store_that_is_away_ends_with_2_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = host(tmp_path, RULES)
    here.store.rmdir()
    assert main(["backup", "prune", "--config", str(here.config)]) == 2
    shown = capsys.readouterr()
    assert "pharma in offsite-pruner: nothing was looked at." in shown.out
    assert "STORE_UNREACHABLE" in shown.err


def test_the_table_of_a_terminal_names_the_same_things(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    made = put_days(here.store, 8)
    settings = config.load(here.config)
    text = text_of(pruning.look(settings), settings, dry_run=True, pretty=True)
    assert all(backup_id in text for backup_id in made)
    assert "\x1b[31m" in text, "what goes is red"
    assert "beyond all rules" in text


def test_the_check_of_the_configuration_reads_the_policy(
    here: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "check", "--json", "--config", str(here.config)]) == 0
    assert json.loads(capsys.readouterr().out)["jobs"] == ["retention"]
    whole = here.config.read_text()
    for wrong in ('timezone = "Brazil/Nowhere"', "grace_hours = 0"):
        here.config.write_text(f"{whole}\n{wrong}\n")
        assert main(["config", "check", "--config", str(here.config)]) == 2
        assert "CONFIG_INVALID" in capsys.readouterr().err
    here.config.write_text(whole.replace('stores = ["offsite-pruner"', 'stores = ["nowhere"'))
    assert main(["config", "check", "--config", str(here.config)]) == 2
    assert "no store is named 'nowhere'" in capsys.readouterr().err


def test_a_dry_run_is_no_sign_of_life_of_the_job() -> None:
    parser = build_parser()
    assert parser.parse_args(["backup", "prune"]).job == "prune"
    looked = parser.parse_args(["backup", "prune", "--dry-run"])
    assert (looked.dry_run, looked.job) == (True, "")


def test_a_blocked_run_leaves_its_cause_as_the_last_error_of_the_log(
    here: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    put_days(here.store, 8, now=NOW - 3 * DAY)
    assert main(["backup", "prune", "--config", str(here.config)]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    last = [line for line in lines if line["level"] == "error"][-1]
    assert (last["msg"], last["error"]["code"]) == ("prune_blocked", "RETENTION_NEWEST_TOO_OLD")
    assert last["meta"]["action"].startswith("Find out why")
