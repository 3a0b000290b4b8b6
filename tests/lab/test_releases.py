# SPDX-License-Identifier: GPL-3.0-or-later
"""Restarts, releases, roll backs and crashes while cashiers sell: who notices, and how the bad ones end."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import releases
from cashiers import Cashier
from load import Report, Traffic
from playbooks import SHORT_WAITS, Playbooks, Played
from releases import Built
from shop import Shop

REQUESTS = 10_000
ROLL_BACK_SECONDS = 5.0
SITE = ("playbooks/site.yml", "--tags", "backend")

OnHost = Callable[..., str]
MakeTraffic = Callable[..., Traffic]
Play = Callable[..., Played]


@pytest.fixture(scope="module")
def play(root: Path) -> Play:
    """Runs a playbook on app1 as the scenario does."""
    return Playbooks(root, "--limit", "app1", *SHORT_WAITS).run


@pytest.fixture(scope="module")
def first(root: Path, shop: Shop) -> Built:
    """The release of the checkout, which the scenario deployed."""
    python = shop.release()["python"].replace(".", "")
    version = re.search(
        r'^__version__ = "(.+)"$', (root / "backend/src/pharma_backend/__init__.py").read_text(), re.M
    )
    assert version is not None
    return releases.describe(root / f"build/release/pharma-backend-{version[1]}-py{python}")


@pytest.fixture(scope="module")
def make_release(root: Path, first: Built) -> Callable[[releases.Variant], Built]:
    """Builds a variant of the checkout's release, with its wheels."""
    return lambda variant: releases.build(root / "backend", variant, first.directory, root / "build/variants")


@pytest.fixture
def with_first(first: Built, shop: Shop, play: Play) -> Built:
    """The first release is in service, whichever test ran before."""
    if shop.version() != first.version:
        play(*SITE, *chosen(first)).succeeded()
    return first


def chosen(release: Built) -> tuple[str, str]:
    """Words for a playbook: that release instead of the inventory's."""
    return ("-e", f"backend_release_dir={release.directory} backend_version={release.version}")


def untouched(report: Report, what: str) -> None:
    """Nobody noticed."""
    print(f"{what}: {report.summary()}")
    assert report.requests >= REQUESTS
    assert report.failed == 0, report.summary()
    assert report.logged_out == ()


def lasted(record: dict[str, Any]) -> float:
    """Seconds from the beginning of a deployment to its end, by its record."""
    began, ended = (datetime.fromisoformat(record[key]) for key in ("startedAt", "finishedAt"))
    return (ended - began).total_seconds()


def stage_names(record: dict[str, Any]) -> list[str]:
    return [stage["name"] for stage in record["stages"] if stage["verdict"] != "not_run"]


def served_by(shop: Shop, since: float, version: str) -> list[dict[str, Any]]:
    """The canonical lines of requests with a user that a release wrote."""
    return [
        line
        for line in shop.lines(since)
        if line["msg"] == "request_completed"
        and "userId" in line
        and line["meta"]["release"].startswith(f"{version}+")
    ]


def test_nobody_notices_a_restart(traffic: MakeTraffic, shop: Shop, on_host: OnHost) -> None:
    """Three restarts of the colour in service: its socket holds what comes meanwhile."""
    unit = f"pharma-backend@{shop.slot()}.service"
    with traffic() as load:
        for _ in range(3):
            load.wait(1_000)
            on_host("app1", f"systemctl restart {unit}")
        report = load.finish(REQUESTS)
    untouched(report, "restart")


def test_nobody_notices_a_release_and_its_migrations(
    traffic: MakeTraffic,
    with_first: Built,
    make_release: Callable[[releases.Variant], Built],
    play: Play,
    shop: Shop,
    root: Path,
) -> None:
    """A new release expands the database under the feet of the old one, takes over, and stays."""
    new = make_release(releases.SOUND)
    head = int(shop.sql("select max(version) from pharmacy.schema_migrations"))
    since = time.time()
    with traffic() as load:
        load.wait(500)
        done = play(*SITE, *chosen(new))
        report = load.finish(REQUESTS)
    assert done.code == 0, done.output
    untouched(report, f"release in {done.seconds:.1f} s")
    assert shop.version() == new.version
    assert served_by(shop, since, with_first.version)
    assert served_by(shop, since, new.version)
    assert int(shop.sql("select max(version) from pharmacy.schema_migrations")) == head + 1

    record = shop.deployments()[-1]
    schema = root / "docs/schemas/deployment.schema.json"
    jsonschema.validate(record, json.loads(schema.read_text()))
    assert (record["action"], record["verdict"]) == ("deploy", "deployed")
    assert (record["version"], record["digest"]) == (new.version, new.digest)
    assert (record["previousVersion"], record["previousDigest"]) == (with_first.version, with_first.digest)
    assert {"lock", "check", "migrate", "start", "health", "smoke", "switch", "watch", "keep"} <= set(
        stage_names(record)
    )
    assert record["requests"]["errors5xx"] == 0
    assert record["requests"]["total"] > 0
    print({stage["name"]: stage["seconds"] for stage in record["stages"]})


def test_nobody_notices_a_roll_back_of_five_seconds_at_most(
    traffic: MakeTraffic,
    first: Built,
    make_release: Callable[[releases.Variant], Built],
    play: Play,
    shop: Shop,
) -> None:
    """The playbook, from its start to its end; the release before works on the newer database."""
    new = make_release(releases.SOUND)
    if shop.version() != new.version:
        play(*SITE, *chosen(new)).succeeded()
    with traffic() as load:
        load.wait(500)
        done = play("playbooks/rollback.yml")
        switched = time.time()
        report = load.finish(REQUESTS)
    assert done.code == 0, done.output
    record = shop.deployments()[-1]
    took = lasted(record)
    untouched(report, f"roll back in {took:.1f} s, with Ansible's own start {done.seconds:.1f} s")
    assert took <= ROLL_BACK_SECONDS
    assert (record["action"], record["verdict"], record["version"]) == (
        "rollback",
        "rolled_back",
        first.version,
    )
    assert shop.version() == first.version
    assert not served_by(shop, switched + 1, new.version)
    assert served_by(shop, switched, first.version)


def test_a_crash_fails_only_what_was_being_served(
    traffic: MakeTraffic, with_first: Built, shop: Shop, on_host: OnHost, cashiers: list[Cashier]
) -> None:
    """kill -9, three times: requests on their way may fail, later ones wait and succeed; nothing is sold twice."""
    unit = f"pharma-backend@{shop.slot()}.service"
    kills: list[tuple[float, float]] = []
    with traffic() as load:
        for _ in range(3):
            load.wait(1_000)
            said = on_host(
                "app1", f"date +%s.%N; systemctl kill --signal=KILL --kill-whom=main {unit}; date +%s.%N"
            )
            before, after = (float(text) for text in said.split())
            kills.append((before, after))
        report = load.finish(REQUESTS)
    print(f"kill -9: {report.summary()}")
    assert report.requests >= REQUESTS
    late = [
        failure
        for failure in report.failures
        if not any(failure.began <= after and failure.ended >= before for before, after in kills)
    ]
    assert not late, f"{len(late)} failed that did not overlap a crash: {late[:3]}"
    assert len(report.failures) <= len(kills) * len(cashiers)
    # Each failed request was repeated with its key, and every till balanced in the end.
    assert report.gave_up == ()
    assert report.logged_out == ()


def test_a_release_that_fails_payments_is_switched_back(
    traffic: MakeTraffic,
    with_first: Built,
    make_release: Callable[[releases.Variant], Built],
    play: Play,
    shop: Shop,
) -> None:
    """It answers ready and takes the first payments; then it fails, and the release before comes back by itself."""
    bad = make_release(releases.PAYS_NOT)
    with traffic() as load:
        load.wait(500)
        done = play(*SITE, *chosen(bad))
        back = time.time()
        report = load.finish(REQUESTS)
    record = shop.deployments()[-1]
    harmed = [failure for failure in report.failures if failure.route == "POST /sales/{id}/pay"]
    print(
        f"bad release: {report.summary()}\n  {len(harmed)} payments failed within"
        f" {harmed[-1].began - harmed[0].began:.1f} s; {record['cause']}"
        if harmed
        else report.summary()
    )
    assert done.code != 0, "the playbook called a release good that was switched back"
    assert (record["verdict"], record["version"]) == ("switched_back", bad.version)
    assert record["cause"] in done.words or record["cause"].split(".")[0] in done.output
    assert record["requests"]["errors5xx"] > 0
    assert harmed
    assert len(harmed) == report.failed, "something else than payments failed"
    assert not [failure for failure in harmed if failure.began > back], "payments fail after the switch back"
    assert report.gave_up == ()
    assert shop.version() == with_first.version


def test_a_release_that_never_becomes_ready_gets_no_request(
    traffic: MakeTraffic,
    with_first: Built,
    make_release: Callable[[releases.Variant], Built],
    play: Play,
    shop: Shop,
) -> None:
    """It is refused before the switch; by its own log it has served nobody."""
    bad = make_release(releases.NOT_READY)
    since = time.time()
    with traffic() as load:
        load.wait(500)
        done = play(*SITE, *chosen(bad))
        report = load.finish(1_000)
    print(f"never ready: {report.summary()}")
    assert done.code != 0
    record = shop.deployments()[-1]
    assert (record["verdict"], record["version"]) == ("refused", bad.version)
    assert "switch" not in stage_names(record)
    assert report.failed == 0, report.summary()
    assert shop.version() == with_first.version
    started = [line for line in shop.lines(since) if line["meta"].get("version") == bad.version]
    assert started, "the release never even started, so this shows nothing"
    assert served_by(shop, since, bad.version) == []
