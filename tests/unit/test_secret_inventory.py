# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of secrets: ages that survive, fingerprints that tell nothing, standing at the edges."""

from __future__ import annotations

import json
import secrets as random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops import config
from pharma_ops.cli.main import main
from pharma_ops.config import Secret
from pharma_ops.custody import fingerprint, inventory, scan
from pharma_ops.custody.inventory import Entry
from pharma_ops.errors import OpsError

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def entry(age: timedelta, max_age_days: int = 90) -> Entry:
    return Entry(
        name="jwt",
        owner="backend",
        file="/x",
        created_at=NOW - age,
        max_age_days=max_age_days,
        fingerprint="0" * 16,
    )


@pytest.fixture
def host(tmp_path: Path) -> config.Config:
    """A host with a ring, a plain secret, and one whose file is not there."""
    (tmp_path / "ring").write_text("new-secret\nold-secret")
    (tmp_path / "plain").write_text("first line\nsecond line\n")
    return parse(tmp_path, ring=True)


def parse(directory: Path, **ring: bool) -> config.Config:
    owner = {"owner": "backend", "max_age_days": 90}
    return config.parse(
        {
            "environment": "lab",
            "state_dir": str(directory / "state"),
            "lock_dir": str(directory / "lock"),
            "fingerprint_key_file": str(directory / "fingerprint.key"),
            "secrets": {
                "jwt": {"file": str(directory / "ring"), **owner, **ring},
                "signing": {"file": str(directory / "plain"), "owner": "backup", "max_age_days": 180},
                "gone": {"file": str(directory / "gone"), **owner},
            },
        }
    )


def test_an_inventory_keeps_its_schema_and_tells_no_value(host: config.Config, root: Path) -> None:
    found = scan.scan(host, "run", NOW)
    assert [item.name for item in found.entries] == ["jwt", "signing"]
    assert list(found.missing) == ["gone"]
    path = host.state_dir / "secrets" / "inventory.json"
    text = path.read_text()
    jsonschema.validate(
        json.loads(text), json.loads((root / "docs/schemas/secret-inventory.schema.json").read_text())
    )
    assert 'secret"' not in text.replace('"secrets"', "")
    for value in ("new-secret", "old-secret", "first line"):
        assert value not in text
    assert path.stat().st_mode & 0o777 == 0o644
    assert (host.fingerprint_key_file.stat().st_mode & 0o777) == 0o600


def test_a_second_scan_changes_nothing_and_a_new_value_begins_a_new_age(host: config.Config) -> None:
    first = scan.scan(host, "run", NOW)
    assert first.changed
    again = scan.scan(host, "run", NOW + 3 * DAY)
    assert not again.changed
    assert again.entries == first.entries
    ring = host.secrets["jwt"].file
    ring.write_text("newest\nnew-secret\n")
    changed = scan.scan(host, "run", NOW + 4 * DAY)
    assert changed.changed
    assert {item.name: item.created_at for item in changed.entries} == {"jwt": NOW + 4 * DAY, "signing": NOW}
    ring.write_text("new-secret")
    back = scan.scan(host, "run", NOW + 5 * DAY)
    assert back.entries == first.entries, "a value that comes back is as old as it is"


def test_only_the_signing_line_of_a_ring_counts(host: config.Config) -> None:
    first = scan.scan(host, "run", NOW)
    host.secrets["jwt"].file.write_text("new-secret\nanother\n")
    assert scan.scan(host, "run", NOW + DAY).entries == first.entries


def test_two_hosts_have_different_fingerprints_of_one_value(tmp_path: Path) -> None:
    keys = [fingerprint.host_key(tmp_path / name) for name in "ab"]
    assert fingerprint.host_key(tmp_path / "a") == keys[0]
    assert len({fingerprint.fingerprint(key, b"value") for key in keys}) == 2


def test_a_damaged_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(OpsError) as caught:
        fingerprint.host_key(tmp_path / "key")
    assert caught.value.code == "FINGERPRINT_KEY_UNUSABLE"


@pytest.mark.parametrize("name", ["inventory.json", "seen.json"])
def test_a_damaged_inventory_is_refused(host: config.Config, name: str) -> None:
    scan.scan(host, "run", NOW)
    (host.state_dir / "secrets" / name).write_text('{"jwt": 7}')
    with pytest.raises(OpsError) as caught:
        if name == "seen.json":
            scan.scan(host, "run", NOW)
        scan.read(host)
    assert caught.value.code == "INVENTORY_INVALID"


def test_kid_is_what_the_contract_says() -> None:
    import hashlib
    import hmac

    secret = random.token_bytes(48)
    assert fingerprint.kid(secret) == hmac.new(secret, b"pharma-backend kid", hashlib.sha256).hexdigest()[:16]


@pytest.mark.parametrize(
    ("age", "standing"),
    [
        (timedelta(0), "fresh"),
        (72 * DAY - timedelta(seconds=1), "fresh"),
        (72 * DAY, "due"),
        (90 * DAY, "due"),
        (90 * DAY + timedelta(seconds=1), "overdue"),
        (-DAY, "fresh"),
    ],
)
def test_standing_at_the_edges(age: timedelta, standing: str) -> None:
    assert entry(age).standing(NOW) == standing


@given(
    st.timedeltas(timedelta(0), 400 * DAY), st.timedeltas(timedelta(0), 400 * DAY), st.sampled_from([90, 180])
)
def test_a_secret_never_gets_younger(age: timedelta, later: timedelta, limit: int) -> None:
    order = ["fresh", "due", "overdue"]
    item = entry(age, limit)
    assert order.index(item.standing(NOW)) <= order.index(item.standing(NOW + later))


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.sampled_from(["f1", "f2", "f3"])), min_size=1, max_size=12
    )
)
def test_an_age_is_the_time_since_the_value_was_first_seen(scans: list[dict[str, str]]) -> None:
    history: dict[str, dict[str, str]] = {}
    configured = {name: Secret(file=Path("/x"), owner="o", max_age_days=90) for name in "abc"}
    for number, prints in enumerate(scans):
        history = inventory.remember(history, prints, NOW + number * DAY)
        for item in inventory.entries(configured, prints, history):
            first = next(i for i, seen in enumerate(scans) if seen.get(item.name) == item.fingerprint)
            assert item.created_at == NOW + first * DAY


@given(st.binary(), st.booleans())
def test_a_last_line_end_is_not_part_of_a_value(content: bytes, ring: bool) -> None:
    secret = Secret(file=Path("/x"), owner="o", max_age_days=90, ring=ring)
    assert inventory.value_of(secret, content + b"\n") == inventory.value_of(secret, content)


def test_entries_come_back_from_json() -> None:
    item = entry(3 * DAY)
    data: dict[str, Any] = json.loads(json.dumps(item.as_dict()))
    assert Entry.from_dict(data) == item


def command(tmp_path: Path, *words: str) -> int:
    return main([*words, "--config", str(tmp_path / "config.toml")])


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """The same host as the command finds it, with a scan."""
    (tmp_path / "ring").write_text("new-secret")
    (tmp_path / "config.toml").write_text(
        f'environment = "lab"\nstate_dir = "{tmp_path}/state"\nlock_dir = "{tmp_path}/lock"\n'
        f'fingerprint_key_file = "{tmp_path}/fingerprint.key"\n'
        f'[secrets.jwt]\nfile = "{tmp_path}/ring"\nowner = "backend"\nmax_age_days = 90\nring = true\n'
    )
    return tmp_path


def test_the_command_lists_ages_and_ends_with_1_when_one_is_overdue(
    configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(configured, "secrets", "list") == 2
    assert "INVENTORY_MISSING" in capsys.readouterr().err
    assert command(configured, "secrets", "scan", "--json") == 0
    assert json.loads(capsys.readouterr().out)["changed"] is True
    assert command(configured, "secrets", "list") == 0
    assert "89 d left" in capsys.readouterr().out
    path = configured / "state/secrets/inventory.json"
    data = json.loads(path.read_text())
    data["secrets"][0]["createdAt"] = "2020-01-01T00:00:00.000Z"
    path.write_text(json.dumps(data))
    assert command(configured, "secrets", "list") == 1
    assert "overdue" in capsys.readouterr().out
    assert command(configured, "secrets", "list", "--json") == 1
    assert json.loads(capsys.readouterr().out)["secrets"][0]["standing"] == "overdue"


def test_a_missing_secret_is_named_and_the_others_are_kept(
    configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (configured / "config.toml").open("a") as stream:
        stream.write(f'[secrets.gone]\nfile = "{configured}/gone"\nowner = "x"\nmax_age_days = 180\n')
    assert command(configured, "secrets", "scan") == 1
    shown = capsys.readouterr().out
    assert "gone" in shown
    assert "jwt" in shown


def test_an_age_that_the_policy_does_not_know_is_refused() -> None:
    with pytest.raises(OpsError, match=r"secrets\.x\.max_age_days must be one of 90, 180, not 365"):
        config.parse(
            {
                "environment": "lab",
                "secrets": {"x": {"file": "/x", "owner": "o", "max_age_days": 365}},
            }
        )
