# SPDX-License-Identifier: GPL-3.0-or-later
"""40 simulated days of the backup estate against the real object store, and what was promised of them.

What is real: PostgreSQL, the sets (made, encrypted and signed by the engine as the timer does), the store with
its three identities, their policies and its locks, the removals. What is simulated: the engine's clock on both
hosts. The store's own clock cannot be; so the 40 days run in a versioned bucket that locks nothing by default, its
locks are shown with one of some seconds that really ends, and the bucket with the default lock of a day shows
that no clock of ours opens it. A drill is a signed line of the ledger here; real ones run in the scenario `site`.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from botocore.exceptions import ClientError
from playbooks import Playbooks
from simulation import Simulated, in_store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET, LOCKED_BUCKET = "pharma-estate", "pharma-backups"
ZONE = ZoneInfo("America/Sao_Paulo")
DAYS = 40
DAILY, WEEKLY = 14, 2
NO_BACKUP, KILLED = {18, 26, 27}, {22}
LOCKED_DAY = 9
# Records of the simulated days, so that the hosts' own know nothing of a time to come.
STATE = "/var/lib/pharma-ops/retention/simulation"
VARS = ("-e", "@molecule/estate/vars.yml", "--limit", "staging1:localhost")

Connect = Callable[..., "S3Client"]
OnHost = Callable[..., str]


@pytest.fixture(scope="module")
def simulated(state_dir: Path, root: Path) -> Iterator[Callable[[str], Simulated]]:
    """Gives the engine of a host."""
    script = (root / "tests/lab/simulated_host.py").read_text()
    opened: dict[str, Simulated] = {}

    def on(host: str) -> Simulated:
        if host not in opened:
            opened[host] = Simulated(["ssh", "-F", str(state_dir / "ssh" / "config"), host], script, BUCKET)
        return opened[host]

    yield on
    for one in opened.values():
        one.close()


@pytest.fixture(scope="module")
def bucket(s3_as: Connect, lab_policy: str) -> str:
    """A versioned bucket that can lock, with the same identities as the other; what is in it is listed as it is."""
    admin = s3_as("admin")
    if BUCKET not in [one["Name"] for one in admin.list_buckets()["Buckets"]]:
        admin.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    policy = json.loads(lab_policy.replace("BUCKET", BUCKET))
    # An object belongs to who put it, so that the bucket's owner has to allow itself to hold it.
    policy["Statement"].append(
        {
            "Effect": "Allow",
            "Principal": {"AWS": ["arn:aws:iam:::user/admin"]},
            "Action": ["s3:PutObjectRetention", "s3:PutObjectLegalHold"],
            "Resource": [f"arn:aws:s3:::{BUCKET}/*"],
        }
    )
    admin.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
    return BUCKET


@pytest.fixture(scope="module")
def shop(on_host: OnHost) -> None:
    """A database with something in it."""
    statement = (
        "create table if not exists sales as select n, md5(n::text) note from generate_series(1, 500) n"
    )
    on_host("db1", "cd /tmp && runuser -u postgres -- psql -qd pharma", statement)


@dataclass
class Day:
    """What was done and seen on a simulated day."""

    number: int
    day: date
    backup_id: str | None = None
    verdict: str = ""
    code: str = ""
    removed: list[str] = field(default_factory=list)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    complete: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)


@dataclass
class History:
    """The 40 days, the set that was proven, and how long they took."""

    days: list[Day]
    proven: str
    locked: str
    seconds: float

    @property
    def ids(self) -> dict[str, date]:
        """The day of each set that was made whole."""
        return {day.backup_id: day.day for day in self.days if day.backup_id}


def proven_day(start: date) -> int:
    """A day early on that is neither the last of a week nor of a month: nothing but the proof keeps it."""
    return next(
        number
        for number in range(2, 9)
        if (start + timedelta(days=number)).weekday() != 6
        and (start + timedelta(days=number + 1)).month == (start + timedelta(days=number)).month
    )


@pytest.fixture(scope="module")
def history(
    simulated: Callable[[str], Simulated],
    bucket: str,
    shop: None,
    s3_as: Connect,
    lab_secrets: dict[str, str],
) -> History:
    """Each day a set at 02:30 (some nights none, once a killed one) and a pruning at 09:00; once a proof at 06:00."""
    database, staging, reader = simulated("db1"), simulated("staging1"), s3_as("reader")
    began, start = time.monotonic(), datetime.now(ZONE).date() + timedelta(days=1)
    days, proven, locked = [], "", ""
    for number in range(DAYS):
        today = Day(number=number, day=start + timedelta(days=number))

        def at(hour: int, minute: int = 0, day: date = today.day) -> datetime:
            return datetime.combine(day, clock_time(hour, minute), ZONE).astimezone(UTC)

        if number in KILLED:
            assert database.ask("backup", at(2, 30), state_dir=STATE, kill=True) == {"exitcode": -9}
        elif number not in NO_BACKUP:
            today.backup_id = database.ask("backup", at(2, 30), state_dir=STATE)["backup_id"]
        if number == proven_day(start):
            assert today.backup_id is not None
            proven = today.backup_id
            key = lab_secrets["evidence_signing_key"]
            staging.ask("prove", at(6), state_dir=STATE, backup_id=proven, key=key)
        if number == LOCKED_DAY:
            assert today.backup_id is not None
            locked = today.backup_id
            s3_as("admin").put_object_legal_hold(
                Bucket=bucket, Key=f"pharma/{locked}/dump.age", LegalHold={"Status": "ON"}
            )
        (place,) = staging.ask("prune", at(9), state_dir=STATE)["places"]
        today.verdict = place["verdict"]
        today.code = (place["error"] or {}).get("code", "")
        today.removed = place["removed"]
        today.reasons = {one["backup_id"]: one["reasons"] for one in place["sets"]}
        for backup_id, names in in_store(reader, bucket).items():
            (today.complete if "manifest.json" in names else today.unfinished).append(backup_id)
        days.append(today)
    seconds = time.monotonic() - began
    print(f"{DAYS} days in {seconds:.0f} s; {sum(len(day.removed) for day in days)} sets were removed")
    return History(days=days, proven=proven, locked=locked, seconds=seconds)


def test_there_is_a_set_of_every_day_whose_backup_ran(history: History) -> None:
    """Daily: each is there, whole, on its own day."""
    for day in history.days:
        assert (day.backup_id is None) == (day.number in NO_BACKUP | KILLED)
        if day.backup_id:
            assert day.backup_id in day.complete


def test_at_least_14_days_are_kept_and_none_is_older_than_30(history: History) -> None:
    for day in history.days:
        made = [one for one, when in history.ids.items() if when <= day.day]
        assert set(made[-DAILY:]) <= set(day.complete), f"day {day.number}"
        excused = {history.proven, history.locked}
        if day.verdict == "done":
            too_old = [
                one
                for one in day.complete
                if one not in excused and day.day - history.ids[one] > timedelta(days=30)
            ]
            assert too_old == [], f"day {day.number}"


def test_what_is_left_at_the_end_is_what_the_rules_say(history: History) -> None:
    """Counted here anew, with nothing of the engine's: 14 days, the ends of two weeks, the proof, the hold."""
    newest_first = sorted(history.ids, reverse=True)
    daily = set(newest_first[:DAILY])
    weeks: dict[tuple[int, int], str] = {}
    for one in newest_first:
        year, week, _ = history.ids[one].isocalendar()
        weeks.setdefault((year, week), one)
    weekly = {weeks[key] for key in sorted(weeks, reverse=True)[:WEEKLY]}
    assert set(history.days[-1].complete) == daily | weekly | {history.proven, history.locked}
    assert history.days[-1].unfinished == []


def test_the_newest_proven_set_was_never_gone(history: History) -> None:
    since = next(day.number for day in history.days if day.backup_id == history.proven)
    assert all(history.proven in day.complete for day in history.days[since:])
    last = history.days[-1].reasons[history.proven]
    assert len(last) == 1, "nothing but the proof keeps it"
    assert last[0].startswith("newest proven by simulated-0001")


def test_nothing_was_removed_after_a_failed_night(history: History) -> None:
    for day in history.days:
        failed = day.number in NO_BACKUP | KILLED
        assert day.verdict == ("blocked" if failed else "done"), f"day {day.number}: {day.code}"
        if failed:
            assert day.code == "RETENTION_NEWEST_TOO_OLD"
            before = history.days[day.number - 1]
            assert day.removed == []
            assert set(before.complete) <= set(day.complete)


def test_a_killed_backup_shows_as_unfinished_and_goes_after_its_grace(history: History) -> None:
    (killed,) = KILLED
    (stray,) = history.days[killed].unfinished
    assert history.days[killed + 1].unfinished == [stray]
    assert history.days[killed + 1].verdict == "done"
    assert stray in history.days[killed + 2].removed
    assert history.days[killed + 2].unfinished == []


def test_what_the_store_holds_was_kept_and_named(history: History) -> None:
    assert history.locked in history.days[-1].complete
    (reason,) = history.days[-1].reasons[history.locked]
    assert reason == "locked by a legal hold"


def test_removed_sets_are_gone_with_every_version(history: History, s3_as: Connect, bucket: str) -> None:
    removed = {one for day in history.days for one in day.removed}
    assert len(removed) >= 15
    left = set()
    for page in s3_as("reader").get_paginator("list_object_versions").paginate(Bucket=bucket):
        left |= {item["Key"].split("/")[1] for item in page.get("Versions", [])}
        left |= {item["Key"].split("/")[1] for item in page.get("DeleteMarkers", [])}  # type: ignore[misc]
    assert left & removed == set()


def test_objects_are_encrypted_for_two_and_the_safe_opens_them(
    history: History, s3_as: Connect, bucket: str, state_dir: Path, tmp_path: Path
) -> None:
    reader, newest = s3_as("reader"), history.days[-1].complete[-1]
    for name in ("dump.age", "globals.sql.age"):
        data = reader.get_object(Bucket=bucket, Key=f"pharma/{newest}/{name}")["Body"].read()
        head = data.split(b"\n---", 1)[0].split(b"\n")
        assert head[0] == b"age-encryption.org/v1"
        assert sum(line.startswith(b"-> X25519 ") for line in head) >= 2
        opened = subprocess.run(
            ["age", "--decrypt", "--identity", str(state_dir / "escrow" / "identity.txt")],
            input=data,
            capture_output=True,
            check=True,
        ).stdout
        assert opened.startswith(b"PGDMP" if name == "dump.age" else b"--")
    manifest = json.loads(
        reader.get_object(Bucket=bucket, Key=f"pharma/{newest}/manifest.json")["Body"].read()
    )
    assert len(manifest["encryption"]["recipients"]) >= 2


def test_the_place_is_another_one(on_host: OnHost) -> None:
    """The store is another machine than the database's, and nothing of a set lies on that one's disk."""
    address = on_host("db1", "getent hosts s3").split()[0]
    assert address not in on_host("db1", "hostname --all-ip-addresses").split()
    assert on_host("db1", "find / -xdev -name '*.age' 2>/dev/null || true") == ""


REFUSED: dict[str, dict[str, Callable[[S3Client, str], Any]]] = {
    "writer": {
        "list": lambda s3, _key: s3.list_objects_v2(Bucket=BUCKET),
        "read": lambda s3, key: s3.get_object(Bucket=BUCKET, Key=key),
        "delete": lambda s3, key: s3.delete_object(Bucket=BUCKET, Key=key),
        "lock": lambda s3, key: s3.put_object_legal_hold(Bucket=BUCKET, Key=key, LegalHold={"Status": "OFF"}),
    },
    "reader": {
        "put": lambda s3, key: s3.put_object(Bucket=BUCKET, Key=key + ".x", Body=b"x"),
        "delete": lambda s3, key: s3.delete_object(Bucket=BUCKET, Key=key),
        "lock": lambda s3, key: s3.put_object_legal_hold(Bucket=BUCKET, Key=key, LegalHold={"Status": "OFF"}),
    },
    "pruner": {
        "read": lambda s3, key: s3.get_object(Bucket=BUCKET, Key=key),
        "put": lambda s3, key: s3.put_object(Bucket=BUCKET, Key=key + ".x", Body=b"x"),
        "lock": lambda s3, key: s3.put_object_legal_hold(Bucket=BUCKET, Key=key, LegalHold={"Status": "OFF"}),
        "policy": lambda s3, _key: s3.delete_bucket_policy(Bucket=BUCKET),
    },
}


@pytest.mark.parametrize(("user", "what"), [(user, what) for user, acts in REFUSED.items() for what in acts])
def test_each_identity_is_refused_what_is_not_its_own(
    history: History, s3_as: Connect, user: str, what: str
) -> None:
    key = f"pharma/{history.days[-1].complete[-1]}/dump.age"
    with pytest.raises(ClientError) as caught:
        REFUSED[user][what](s3_as(user), key)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_a_clock_set_back_a_day_removes_nothing(
    history: History, simulated: Callable[[str], Simulated]
) -> None:
    yesterday = datetime.combine(history.days[-1].day, clock_time(1), ZONE) - timedelta(days=1)
    (place,) = simulated("staging1").ask("prune", yesterday, state_dir=STATE)["places"]
    assert (place["verdict"], place["error"]["code"]) == ("blocked", "RETENTION_CLOCK_BEHIND")
    assert place["removed"] == []


def test_a_lock_that_ends_lets_the_set_go(
    history: History, simulated: Callable[[str], Simulated], s3_as: Connect, bucket: str
) -> None:
    """A COMPLIANCE lock of some seconds, held by the store's own clock, in the place of the hold."""
    admin, key = s3_as("admin"), f"pharma/{history.locked}/dump.age"
    admin.put_object_retention(
        Bucket=bucket,
        Key=key,
        Retention={"Mode": "COMPLIANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(seconds=6)},
    )
    admin.put_object_legal_hold(Bucket=bucket, Key=key, LegalHold={"Status": "OFF"})
    at = datetime.combine(history.days[-1].day, clock_time(10), ZONE)
    # By the simulated clock the lock is long over; the store knows better, and keeps the object.
    (place,) = simulated("staging1").ask("prune", at, state_dir=STATE)["places"]
    assert (place["verdict"], place["error"]["code"]) == ("failed", "RETENTION_NOT_REMOVED")
    assert "dump.age" in in_store(s3_as("reader"), bucket)[history.locked]
    time.sleep(7)
    (place,) = simulated("staging1").ask("prune", at + timedelta(hours=1), state_dir=STATE)["places"]
    assert place["verdict"] == "done"
    assert place["removed"] == [history.locked]
    assert history.locked not in in_store(s3_as("reader"), bucket)


# --- The bucket with the default lock, the unit, the playbook -------------------------------------------------


@pytest.fixture(scope="module")
def today(on_host: OnHost, shop: None) -> list[str]:
    """Sets of this hour in the bucket that locks by default, made by the host's own unit."""
    for _ in range(3):
        on_host("db1", "systemctl start pharma-backup@pharma.service")
    listed = json.loads(
        on_host("staging1", "pharma-ops backup list --json --store offsite-pruner --database pharma")
    )
    return [one["backup_id"] for one in listed["backups"] if one["state"] == "complete"]


def test_a_locked_bucket_keeps_what_no_rule_does(
    today: list[str], simulated: Callable[[str], Simulated]
) -> None:
    staging, rules = simulated("staging1"), {"daily": 1, "weekly": 0, "newest": 1}
    asked = {"bucket": LOCKED_BUCKET, "state_dir": STATE + "-locked", "rules": rules}
    (place,) = staging.ask("prune", datetime.now(UTC), **asked)["places"]
    assert (place["verdict"], place["removed"]) == ("done", [])
    reasons = {one["backup_id"]: one["reasons"][0] for one in place["sets"]}
    assert [one for one in today[:-1] if not reasons[one].startswith("locked until 20")] == []


def test_no_clock_of_ours_opens_a_locked_bucket(
    today: list[str], simulated: Callable[[str], Simulated], s3_as: Connect
) -> None:
    """Two days ahead the plan lets them go; the store does not."""
    staging, rules = simulated("staging1"), {"daily": 1, "weekly": 0, "newest": 1, "max_age_hours": 100}
    asked = {"bucket": LOCKED_BUCKET, "state_dir": STATE + "-ahead", "rules": rules}
    (place,) = staging.ask("prune", datetime.now(UTC) + timedelta(days=2), **asked)["places"]
    assert (place["verdict"], place["removed"]) == ("failed", [])
    assert place["error"]["code"] == "RETENTION_NOT_REMOVED"
    there = in_store(s3_as("reader"), LOCKED_BUCKET)
    assert all("manifest.json" in there[one] for one in today)


def test_the_unit_prunes_and_leaves_record_and_metrics(today: list[str], on_host: OnHost) -> None:
    on_host("staging1", "systemctl start pharma-prune.service")
    record = json.loads(on_host("staging1", "cat /var/lib/pharma-ops/retention/pharma-offsite-pruner.json"))
    assert record["lastRun"]["verdict"] == "done"
    metrics = on_host("staging1", "cat /var/lib/pharma-ops/metrics/pharma_prune.prom")
    assert 'pharma_retention_last_run_success{database="pharma",store="offsite-pruner"} 1.0' in metrics
    shown = on_host("staging1", "systemctl show pharma-prune.timer -p Persistent,UnitFileState,ActiveState")
    assert set(shown.split()) == {"Persistent=yes", "UnitFileState=enabled", "ActiveState=active"}


def test_the_unit_sees_no_key_but_its_own(today: list[str], on_host: OnHost) -> None:
    drop_in = "/run/systemd/system/pharma-prune.service.d/look.conf"
    seen = "/var/lib/pharma-ops/retention/seen"
    on_host("staging1", "install -m 600 /dev/null /etc/pharma-ops/keys/age-identity.txt")
    on_host(
        "staging1",
        f"mkdir -p $(dirname {drop_in}) && cat > {drop_in} && systemctl daemon-reload",
        f"[Service]\nExecStartPre=/bin/sh -c 'ls /etc/pharma-ops/keys > {seen}'\n",
    )
    on_host("staging1", "systemctl start pharma-prune.service")
    on_host("staging1", f"rm {drop_in} /etc/pharma-ops/keys/age-identity.txt && systemctl daemon-reload")
    assert on_host("staging1", f"cat {seen} && rm {seen}").split() == [
        "evidence-signers.pem",
        "retention-store-offsite-pruner-ca.crt",
        "retention-store-offsite-pruner.toml",
    ]


def test_the_playbook_shows_the_plan_and_check_removes_nothing(today: list[str], root: Path) -> None:
    playbooks = Playbooks(root, *VARS)
    for words in (("--check",), ()):
        played = playbooks.run("playbooks/prune.yml", *words).succeeded()
        assert f"keep {today[-1]}" in played.words, played.output
        assert "newest, daily" in played.words
        assert "changed=0" in played.words
    nobody = playbooks.run("playbooks/prune.yml", "--limit", "db1")
    assert nobody.code != 0
    assert "nothing would be pruned" in nobody.words
