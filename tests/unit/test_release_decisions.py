# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine decides about releases without touching anything."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops.config import Release as Settings
from pharma_ops.errors import OpsError
from pharma_ops.release import journal, marker, repair
from pharma_ops.release.gate import Decision, Requests, judge, percentile95
from pharma_ops.release.journal import Action, Result
from pharma_ops.release.layout import COLOURS, Layout, Release, idle
from pharma_ops.release.marker import Marker
from pharma_ops.release.plan import back_to, make_plan
from pharma_ops.release.probe import Answer, problem_of, tells
from pharma_ops.release.retention import removable
from pharma_ops.release.units import State, parse

SETTINGS = Settings(unit="shop@{colour}.service", socket_unit="shop@{colour}.socket")
MOMENT = datetime(2026, 11, 23, tzinfo=UTC)


def requests(total: int, errors: int = 0, p95: float = 0.01) -> Requests:
    return Requests(total=total, errors5xx=errors, p95_seconds=p95 if total else None)


@pytest.mark.parametrize(
    ("seen", "decision", "words"),
    [
        (requests(0), Decision.UNDECIDED, "0 requests were too few"),
        (requests(49, 1), Decision.UNDECIDED, "49 requests"),
        (requests(9, 9), Decision.UNDECIDED, "too few"),
        (requests(10, 5), Decision.GO_BACK, "5 of 10"),
        (requests(10, 4), Decision.UNDECIDED, "too few"),
        (requests(50, 1), Decision.GO_ON, "1 of 50"),
        (requests(50, 2), Decision.GO_BACK, "4.0%; allowed 2.0%"),
        (requests(50, 0, 1.0), Decision.GO_ON, "p95 1.000 s"),
        (requests(50, 0, 1.001), Decision.GO_BACK, "p95 of 50 requests is 1.001 s (allowed 1 s)"),
        (requests(49, 0, 9.0), Decision.UNDECIDED, "too few"),
    ],
)
def test_the_gate(seen: Requests, decision: Decision, words: str) -> None:
    judgement = judge(seen, SETTINGS)
    assert judgement.decision is decision
    assert words in judgement.cause


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0, 5))
def test_more_failures_never_make_a_gate_milder(total: int, errors: int, p95: float) -> None:
    errors = min(errors, total)
    if judge(requests(total, errors, p95), SETTINGS).decision is Decision.GO_BACK:
        for worse in range(errors, total + 1):
            assert judge(requests(total, worse, p95), SETTINGS).decision is Decision.GO_BACK


@given(st.lists(st.floats(0, 100), min_size=1))
def test_the_percentile_is_a_value_that_95_of_100_do_not_exceed(seconds: list[float]) -> None:
    found = percentile95(seconds)
    assert found in seconds
    assert sum(value <= found for value in seconds) >= 0.95 * len(seconds)
    assert sum(value < found for value in seconds) < 0.95 * len(seconds)
    assert percentile95([]) is None


def test_the_idle_colour_is_the_other_one() -> None:
    assert [idle(None), idle("blue"), idle("green")] == ["blue", "green", "blue"]


def release(version: str, directory: Path = Path("/srv")) -> Release:
    return Release(version=version, digest="d", directory=directory / version, installed_at=MOMENT)


VERSIONS = st.lists(st.integers(0, 30).map(str), unique=True)


@given(VERSIONS, st.sets(st.integers(0, 30).map(str)), st.integers(0, 10))
def test_what_may_go(versions: list[str], protected: set[str], keep: int) -> None:
    going = [item.version for item in removable([release(name) for name in versions], protected, keep)]
    left = [name for name in versions if name not in going]
    assert not set(going) & protected
    assert len(left) <= max(keep, len(protected & set(versions)))
    # As many stay as may, and those that go are the oldest of those that are not needed.
    assert len(left) >= min(keep, len(versions))
    free = [name for name in versions if name not in protected]
    assert going == free[len(free) - len(going) :]


def record(version: str, before: str | None, verdict: str = "deployed") -> dict[str, Any]:
    return {"id": "x", "version": version, "previousVersion": before, "verdict": verdict}


def test_what_a_roll_back_goes_to() -> None:
    history = [record("1", None), record("2", "1"), record("2", "2", "renewed"), record("3", "2", "refused")]
    assert back_to("2", "2", history) == "1"
    history += [record("3", "2"), record("2", "3", "rolled_back")]
    assert back_to("3", "2", history) == "2"
    # Rolled back from 3 to 2: further back is 1, not forward to 3.
    assert back_to("2", "3", history) == "1"
    assert back_to("1", "2", history) is None
    # The same version once more, because it was ill.
    assert back_to("2", "2", [*history, record("2", "2")]) == "1"


def test_without_a_journal_the_other_colour_is_what_was_before() -> None:
    assert back_to("2", "1", []) == "1"
    assert back_to("2", "2", []) is None
    assert back_to("2", None, []) is None


@pytest.mark.parametrize(
    ("told", "version", "same"),
    [
        ("1.2.0", "1.2.0", True),
        ("1.2.0+ab12", "1.2.0", True),
        ("1.2.0 (ab12)", "1.2.0", True),
        ("1.2.01", "1.2.0", False),
        ("1.2.0.1", "1.2.0", False),
        ("1.2.0-rc1", "1.2.0", False),
        ("1.1.0", "1.2.0", False),
        ("", "1.2.0", False),
    ],
)
def test_which_release_answers(told: str, version: str, same: bool) -> None:
    assert tells(told, version) is same


def test_what_is_wrong_with_an_answer() -> None:
    def problem(status: int | None, told: str = "1.0+a", key: str = "release") -> str:
        settings = Settings(unit="u", socket_unit="s", health_release_key=key)
        return problem_of(Answer(status=status, release=told, problem="refused"), "1.0", settings)

    assert problem(200) == ""
    assert "names 2.0 instead of 1.0" in problem(200, "2.0")
    assert "names no release" in problem(200, "")
    assert problem(200, "", key="") == ""
    assert "503" in problem(503)
    assert "not answered (refused)" in problem(None)


def test_a_unit_that_waits_for_its_job_is_not_dead() -> None:
    assert parse("ActiveState=inactive\nSubState=dead\nMainPID=0\nNRestarts=0\n").dead
    assert not parse("ActiveState=inactive\nSubState=dead\nMainPID=0\nNRestarts=0\nJob=12\n").dead
    assert parse("ActiveState=activating\nSubState=auto-restart\nMainPID=0\nNRestarts=1\nJob=3\n").dead
    assert parse("ActiveState=active\nSubState=running\nMainPID=7\nNRestarts=2\n") == State(
        active="active", sub="running", pid=7, restarts=2
    )


def noted(stage: str, **changes: Any) -> Marker:
    values: dict[str, Any] = {
        "id": "release-20261123T000000Z-aaaaaa",
        "action": Action.DEPLOY,
        "version": "2",
        "digest": "d",
        "colour": "green",
        "previous_colour": "blue",
        "previous_version": "1",
        "previous_digest": "c",
        "held_before": None,
        "who": "ana",
        "started_at": MOMENT,
        "stage": stage,
    }
    return Marker(**values | changes)


@pytest.mark.parametrize(
    ("stage", "serves", "verdict", "words"),
    [
        ("migrate", False, Result.REFUSED, "1 served on"),
        ("switch", False, Result.REFUSED, "before the switch"),
        ("switch", True, Result.DEPLOYED, "not watched to the end"),
        ("watch", True, Result.DEPLOYED, "not watched to the end"),
        ("switch_back", True, Result.SWITCHED_BACK, "finished by the next command"),
        ("switch_back", False, Result.SWITCHED_BACK, "finished by the next command"),
        ("keep", True, Result.DEPLOYED, "its watch was over"),
    ],
)
def test_how_a_killed_deployment_ended(stage: str, serves: bool, verdict: Result, words: str) -> None:
    found, cause = repair.judge(noted(stage), serves=serves)
    assert found is verdict
    assert words in cause
    assert f"killed in {stage}" in cause


def test_a_marker_is_read_as_it_was_written(tmp_path: Path) -> None:
    place = marker.path(tmp_path, "shop")
    assert marker.read(place) is None
    written = noted("start", owns_colour=True)
    marker.write(place, written)
    assert marker.read(place) == written
    place.write_text('{"id": "of another version"}')
    assert marker.read(place) is None
    marker.remove(place)
    marker.remove(place)
    assert not place.exists()


def made(stage: str) -> journal.Record:
    from pharma_ops.release.deployment import record_of

    return record_of(noted(stage), "shop", Result.REFUSED, cause="x", code="INTERRUPTED")


def test_the_journal_survives_a_torn_line(tmp_path: Path) -> None:
    path = journal.path(tmp_path, "shop")
    assert journal.read(path) == journal.Past([], [])
    journal.append(path, made("start"))
    with path.open("ab") as stream:
        stream.write(b'{"id": "torn')
    assert len(journal.read(path).records) == 1
    journal.append(path, made("watch"))
    past = journal.read(path)
    assert [item["verdict"] for item in past.records] == ["refused", "refused"]
    assert past.unreadable == []
    path.write_bytes(path.read_bytes().replace(b"{", b"[", 1))
    assert journal.read(path).unreadable == [1]


def install(layout: Layout, version: str, says: str | None = None) -> None:
    directory = layout.releases / version
    directory.mkdir(parents=True)
    (directory / "release.json").write_text(f'{{"version": "{says or version}", "digest": "d-{version}"}}')


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    settings = Settings(
        unit="shop@{colour}.service",
        socket_unit="shop@{colour}.socket",
        root=tmp_path,
        socket_dir=Path("/run/shop"),
    )
    (tmp_path / "slots").mkdir()
    return Layout("shop", settings)


def test_plans(layout: Layout) -> None:
    for version in ("1", "2"):
        install(layout, version)
    first = make_plan(layout, Action.DEPLOY, "1", [])
    assert (first.colour, first.active, first.serving) == ("blue", None, None)
    layout.assign("blue", first.release)
    layout.flip("blue")
    second = make_plan(layout, Action.DEPLOY, "2", [])
    assert (second.colour, second.active, second.changes_release) == ("green", "blue", True)
    renewal = make_plan(layout, Action.RENEW, None, [])
    assert (renewal.release.version, renewal.colour, renewal.changes_release) == ("1", "green", False)
    layout.assign("green", second.release)
    assert make_plan(layout, Action.ROLLBACK, None, []).release.version == "2"
    with pytest.raises(OpsError, match="not known"):
        make_plan(layout, Action.ROLLBACK, None, [record("1", None)])


def test_the_link_is_believed_only_when_it_leads_to_a_colour(layout: Layout) -> None:
    assert layout.active() is None
    for colour in COLOURS:
        layout.flip(colour)
        assert layout.active() == colour
        assert layout.active_link.readlink() == Path(f"/run/shop/{colour}.sock")
    assert sorted(path.name for path in layout.slots.iterdir()) == ["active.sock"]
    layout.active_link.unlink()
    layout.active_link.symlink_to("/run/other/blue.sock")
    with pytest.raises(OpsError, match="no colour's socket"):
        layout.active()
    layout.active_link.unlink()
    layout.active_link.touch()
    with pytest.raises(OpsError, match="is no link"):
        layout.active()


def test_only_whole_releases_are_installed(layout: Layout) -> None:
    install(layout, "1")
    install(layout, "2", says="3")
    (layout.releases / "4").mkdir()
    assert [item.version for item in layout.installed()] == ["1"]
    for version in ("2", "4", "5", "../1", "", ".removing-1"):
        with pytest.raises(OpsError) as caught:
            layout.release(version)
        assert caught.value.code in ("RELEASE_NOT_INSTALLED", "ARGUMENT_INVALID")
