# SPDX-License-Identifier: GPL-3.0-or-later
"""A rotation on a host's files: what the service reads in each phase, what is refused, what is never written."""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path

import pytest

from pharma_ops import clock, config
from pharma_ops.custody import record, ring, rotate, rotation
from pharma_ops.custody.rotate import Change
from pharma_ops.errors import OpsError

FORWARD = rotation.FORWARD


@pytest.fixture
def host(tmp_path: Path) -> config.Config:
    """A host on which nothing was ever rotated."""
    return config.parse(
        {
            "environment": "lab",
            "state_dir": str(tmp_path / "state"),
            "lock_dir": str(tmp_path / "lock"),
            "fingerprint_key_file": str(tmp_path / "fingerprint.key"),
        }
    )


@pytest.fixture
def change(tmp_path: Path) -> Change:
    """The old value is in force; both were made for this test."""
    file = tmp_path / "JWT_SECRET"
    old, new = secrets.token_urlsafe(36), secrets.token_urlsafe(36)
    ring.write(file, [old])
    return Change(name="jwt", old=old, new=new, file=file)


def go(host: config.Config, change: Change, *phases: rotation.Phase) -> None:
    """Complete phases."""
    for phase in phases:
        rotate.begin(host, change, phase, "run")
        rotate.finish(host, change.name, phase, "run")


def content(change: Change) -> tuple[str, ...]:
    """The ring that the service would read."""
    assert change.file is not None
    return ring.read(change.file)


def refusal(host: config.Config, change: Change, *, back: bool = False) -> str:
    """The code with which a plan is refused; the message never holds a value."""
    with pytest.raises(OpsError) as caught:
        rotate.plan(host, change, back=back)
    for value in (change.old, change.new):
        assert len(value) < 20 or value not in str(caught.value)
    return caught.value.code


def test_the_ring_of_each_phase(host: config.Config, change: Change) -> None:
    old, new = change.old, change.new
    rings = []
    for phase in FORWARD:
        go(host, change, phase)
        rings.append(content(change))
    assert rings == [(old,), (old, new), (new, old), (new, old), (new,)]
    assert change.file is not None
    assert change.file.stat().st_mode & 0o777 == 0o600
    assert rotate.plan(host, change, back=False).phases == ()


def test_the_way_back(host: config.Config, change: Change) -> None:
    go(host, change, "prepare", "accept", "switch")
    assert rotate.plan(host, change, back=True).phases == ("return", "withdraw")
    go(host, change, "return")
    assert content(change) == (change.old, change.new)
    go(host, change, "withdraw")
    assert content(change) == (change.old,)
    assert rotate.plan(host, change, back=True).phases == ()


def test_one_value_is_replaced_at_once(host: config.Config, change: Change) -> None:
    url = Change(
        name="database", old="postgresql://a@db/x", new="postgresql://b@db/x", file=change.file, is_ring=False
    )
    assert url.file is not None
    url.file.write_text(url.old)
    go(host, url, "prepare", "accept")
    assert url.file.read_text() == url.old
    go(host, url, "switch")
    assert url.file.read_text() == url.new
    go(host, url, "return")
    assert url.file.read_text() == url.old


def test_nothing_of_a_value_is_on_record(host: config.Config, change: Change) -> None:
    go(host, change, *FORWARD)
    for path in host.state_dir.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert change.old not in text
            assert change.new not in text


def test_a_plan_touches_nothing(host: config.Config, change: Change) -> None:
    plan = rotate.plan(host, change, back=False)
    assert plan.phases == FORWARD
    assert record.load(host, "jwt") is None
    assert not (host.state_dir / "rotations").exists()


def test_what_cannot_be_a_secret_is_refused(host: config.Config, change: Change) -> None:
    for value in ("", "short", "x" * 31, "a b" * 20, "x" * 40 + "\n" + "y" * 40, "é" * 40):
        assert (
            refusal(host, Change(name="jwt", old=change.old, new=value, file=change.file)) == "SECRET_UNFIT"
        )
    assert refusal(host, Change(name="database", old="x", new=" ", is_ring=False)) == "SECRET_UNFIT"
    assert (
        refusal(host, Change(name="jwt", old=change.old, new=change.old, file=change.file)) == "SECRET_UNFIT"
    )


def test_a_host_with_another_value_is_refused(host: config.Config, change: Change) -> None:
    other = Change(name="jwt", old=secrets.token_urlsafe(36), new=change.new, file=change.file)
    assert refusal(host, other) == "SECRET_DIFFERS"
    assert change.file is not None
    ring.write(change.file, [change.old, change.new])
    assert refusal(host, change) == "SECRET_DIFFERS"
    change.file.unlink()
    assert refusal(host, change) == "SECRET_MISSING"


def test_there_is_nothing_to_take_back_before_a_rotation(host: config.Config, change: Change) -> None:
    assert refusal(host, change, back=True) == "ROTATION_NONE"
    with pytest.raises(OpsError, match="No rotation"):
        rotate.finish(host, "jwt", "prepare", "run")


def test_the_wait_is_measured_from_the_switch(host: config.Config, change: Change, tmp_path: Path) -> None:
    slow = Change(name="jwt", old=change.old, new=change.new, file=change.file, overlap=timedelta(minutes=15))
    go(host, slow, "prepare", "accept", "switch", "verify")
    plan = rotate.plan(host, slow, back=False)
    assert timedelta(minutes=14) < plan.wait <= timedelta(minutes=15)
    with pytest.raises(OpsError) as caught:
        rotate.begin(host, slow, "retire", "run")
    assert caught.value.code == "ROTATION_TOO_EARLY"
    assert content(slow) == (change.new, change.old)
    later = clock.now() + timedelta(minutes=16)
    assert rotate.plan(host, slow, back=False, now=later).wait == timedelta()


def test_a_deployment_during_and_after_a_rotation(host: config.Config, change: Change) -> None:
    assert record.under_rotation(host, {"jwt": [change.old]}) == []
    go(host, change, "prepare", "accept", "switch")
    for values in ([change.old], [change.new], [change.new, change.old]):
        assert record.under_rotation(host, {"jwt": values}) == ["jwt"]
    with pytest.raises(OpsError) as caught:
        record.under_rotation(host, {"jwt": ["something else"]})
    assert caught.value.code == "ROTATION_OTHER"
    go(host, change, "verify", "retire")
    assert record.under_rotation(host, {"jwt": [change.new]}) == []
    for values in ([change.old], [change.new, change.old]):
        with pytest.raises(OpsError) as caught:
            record.under_rotation(host, {"jwt": values})
        assert caught.value.code == "SECRET_RETIRED"


def test_a_damaged_record_stops_everything(host: config.Config, change: Change) -> None:
    go(host, change, "prepare")
    record.record_path(host, "jwt").write_text("{}")
    assert refusal(host, change) == "ROTATION_RECORD_INVALID"
