# SPDX-License-Identifier: GPL-3.0-or-later
"""The rotation as a state machine: in no order of steps, crashes and returns is a user logged out."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pharma_ops.custody import rotation
from pharma_ops.custody.rotation import Phase, Rotation
from pharma_ops.errors import OpsError

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OVERLAP = timedelta(minutes=15)
NEVER = timedelta()


def run(record: Rotation, *phases: Phase, at: datetime = NOW) -> Rotation:
    """A rotation on which these phases were completed."""
    for phase in phases:
        record = rotation.finish(rotation.begin(record, phase, at, NEVER), phase, at)
    return record


def fresh() -> Rotation:
    return rotation.start(None, "jwt", "old", "new")


def code(record: Rotation, phase: Phase, at: datetime = NOW, overlap: timedelta = NEVER) -> str:
    with pytest.raises(OpsError) as caught:
        rotation.begin(record, phase, at, overlap)
    assert caught.value.action
    return caught.value.code


class Service(RuleBasedStateMachine):
    """Users with tokens of a service whose ring a rotation replaces, interrupted at any moment.

    The service renews itself colour by colour: while it does, both rings are in force at once.
    """

    @initialize()
    def begin(self) -> None:
        self.now = NOW
        self.record = fresh()
        self.file: tuple[str, ...] = ("old",)
        self.running: tuple[str, ...] = ("old",)
        self.tokens: list[tuple[str, datetime]] = []

    @rule(minutes=st.sampled_from([0, 1, 5, 14, 16]))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule()
    def somebody_logs_in(self) -> None:
        self.tokens.append((self.running[0], self.now + OVERLAP))

    def accepts_all(self, ring: tuple[str, ...]) -> None:
        assert [key for key, until in self.tokens if until > self.now and key not in ring] == []

    # Most runs complete a phase and go on, or few examples would come as far as a retirement.
    @rule(
        back=st.sampled_from([False, False, False, True]),
        stops_after=st.sampled_from(["nothing"] * 5 + ["record", "file", "renewal"]),
    )
    def the_playbook_runs_a_phase(self, back: bool, stops_after: str) -> None:
        try:
            (phase, *_later) = rotation.plan(self.record, back=back)
            self.record = rotation.begin(self.record, phase, self.now, OVERLAP)
        except (OpsError, ValueError):
            return  # refused, or nothing is left
        if stops_after == "record":
            return
        self.file = rotation.ring(phase, "old", "new")
        if stops_after == "file":
            return
        if phase in rotation.RENEWING:
            # Both colours serve for a moment: each knows what the other one signs.
            self.tokens.append((self.file[0], self.now + OVERLAP))
            self.accepts_all(self.running)
            self.tokens.append((self.running[0], self.now + OVERLAP))
            if phase not in ("retire", "withdraw"):
                self.accepts_all(self.file)
            else:
                assert self.file[0] == self.running[0], "who goes must not sign until the end"
            self.running = self.file
        if stops_after != "renewal":
            self.record = rotation.finish(self.record, phase, self.now)

    @rule()
    def the_service_crashes_and_comes_back(self) -> None:
        """It reads the file as it is then: an interrupted run may have written it and not renewed the service."""
        self.tokens.append((self.running[0], self.now + OVERLAP))
        self.running = self.file

    @invariant()
    def nobody_is_logged_out(self) -> None:
        if hasattr(self, "running"):
            self.accepts_all(self.running)

    @invariant()
    def the_record_survives_json(self) -> None:
        if hasattr(self, "record"):
            stored = json.loads(json.dumps(rotation.as_dict(self.record)))
            assert rotation.from_dict(stored) == self.record


TestService = Service.TestCase
TestService.settings = settings(max_examples=150, stateful_step_count=40)


def test_a_rotation_ends_after_its_five_phases() -> None:
    record = run(fresh(), *rotation.FORWARD)
    assert record.state == "finished"
    assert rotation.plan(record, back=False) == ()
    assert record.retired == ("old",)
    assert rotation.start(record, "jwt", "new", "new") is record, "the same values again: nothing to do"


@pytest.mark.parametrize("count", range(5))
def test_it_goes_on_where_it_stopped(count: int) -> None:
    record = run(fresh(), *rotation.FORWARD[:count])
    assert rotation.plan(record, back=False) == rotation.FORWARD[count:]
    interrupted = rotation.begin(record, rotation.FORWARD[count], NOW, NEVER)
    assert rotation.plan(interrupted, back=False) == rotation.FORWARD[count:]
    assert rotation.begin(interrupted, rotation.FORWARD[count], NOW + OVERLAP, NEVER) == interrupted


def test_a_host_that_is_a_phase_ahead_waits_for_the_other() -> None:
    record = run(fresh(), "prepare", "accept")
    assert rotation.begin(record, "accept", NOW, NEVER) == record
    assert code(record, "prepare") == "ROTATION_ORDER"
    over = run(record, "switch", "verify", "retire")
    assert rotation.begin(over, "retire", NOW, NEVER) == over


def test_phases_keep_their_order() -> None:
    assert code(fresh(), "switch") == "ROTATION_ORDER"
    assert code(run(fresh(), "prepare"), "retire") == "ROTATION_ORDER"
    with pytest.raises(OpsError, match="was not begun"):
        rotation.finish(fresh(), "switch", NOW)


def test_the_old_value_outlives_what_it_signed() -> None:
    record = run(fresh(), "prepare", "accept", "switch", "verify")
    early = NOW + OVERLAP - timedelta(seconds=1)
    assert code(record, "retire", early, OVERLAP) == "ROTATION_TOO_EARLY"
    assert rotation.begin(record, "retire", NOW + OVERLAP, OVERLAP).begun("retire")
    assert rotation.wait(record, "retire", early, OVERLAP) == timedelta(seconds=1)


def test_back_before_the_switch_needs_no_wait() -> None:
    record = run(fresh(), "prepare", "accept")
    assert rotation.plan(record, back=True) == ("withdraw",)
    record = rotation.finish(rotation.begin(record, "withdraw", NOW, OVERLAP), "withdraw", NOW)
    assert record.state == "withdrawn"
    assert record.retired == ()


def test_back_after_the_switch_waits_for_what_the_new_value_signed() -> None:
    record = rotation.begin(run(fresh(), "prepare", "accept"), "switch", NOW, NEVER)
    assert rotation.plan(record, back=True) == ("return", "withdraw")
    record = run(record, "return")
    assert code(record, "withdraw", NOW, OVERLAP) == "ROTATION_TOO_EARLY"
    assert code(record, "verify") == "ROTATION_RETURNING"
    assert run(record, "withdraw", at=NOW + OVERLAP).state == "withdrawn"


@pytest.mark.parametrize("interrupted", [True, False])
def test_there_is_no_way_back_from_a_retirement(interrupted: bool) -> None:
    record = run(fresh(), "prepare", "accept", "switch", "verify")
    record = rotation.begin(record, "retire", NOW, NEVER) if interrupted else run(record, "retire")
    with pytest.raises(OpsError) as caught:
        rotation.plan(record, back=True)
    assert caught.value.code == "ROTATION_RETIRED"


def test_a_retired_value_never_comes_back() -> None:
    record = run(fresh(), *rotation.FORWARD)
    second = run(rotation.start(record, "jwt", "new", "newer"), *rotation.FORWARD)
    assert second.retired == ("old", "new")
    for value in second.retired:
        with pytest.raises(OpsError) as caught:
            rotation.start(second, "jwt", "newer", value)
        assert caught.value.code == "SECRET_RETIRED"


def test_a_second_rotation_waits_for_the_first() -> None:
    with pytest.raises(OpsError) as caught:
        rotation.start(run(fresh(), "prepare"), "jwt", "old", "other")
    assert caught.value.code == "ROTATION_OTHER"
    with pytest.raises(OpsError, match="is the one in use"):
        rotation.start(None, "jwt", "same", "same")


def test_a_withdrawn_rotation_can_begin_again() -> None:
    record = run(fresh(), "prepare", "withdraw")
    assert rotation.plan(rotation.start(record, "jwt", "old", "new"), back=False) == rotation.FORWARD


@given(
    st.dictionaries(
        st.sampled_from(["schemaVersion", "name", "old", "new", "phases", "retired", "logins"]),
        st.none() | st.integers() | st.text() | st.lists(st.text() | st.dictionaries(st.text(), st.text())),
    )
)
def test_a_record_is_understood_or_refused(data: dict[str, Any]) -> None:
    with contextlib.suppress(KeyError, ValueError, TypeError):
        assert isinstance(rotation.from_dict(data), Rotation)
