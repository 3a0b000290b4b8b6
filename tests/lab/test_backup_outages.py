# SPDX-License-Identifier: GPL-3.0-or-later
"""A database host that loses its power, and an object store that dies, both in the middle of an upload.

On the hosts of the scenario `backup`, by the unit that the role wrote: what the stores, the record, the metrics, the
node exporter and those who are told know of it afterwards.
"""

from __future__ import annotations

import email
import email.policy
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from backup_estate import DATABASE, LOCAL, METRICS, UNIT, Estate, Metrics, metrics_of, until
from canaries import Canaries, look, values
from desk import Desk

import receivers
from pharma_ops.clock import from_text

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# More than some parts of an upload; of random bytes, which do not become fewer by compression.
BALLAST_BYTES = 40 << 20
LINE_CHARACTERS = 100_000
# What a row says, and how each dump begins: neither may stand in a file outside of the cluster.
PLAIN_ROW = "the-plain-row-of-the-ballast"
DUMP_MAGIC = "PGDMP"
PLACES = "/var/lib/pharma-ops /var/tmp /tmp /run /dev/shm /srv /root /var/cache /var/log"
GATEWAY = "ceph-radosgw@rgw.lab.service"
EXPORTER = "prometheus-node-exporter"
INSTALL = (
    "set -e; export DEBIAN_FRONTEND=noninteractive; apt-get -qq update;"
    f" apt-get -qq install --no-install-recommends {EXPORTER} >/dev/null;"
    f" echo 'ARGS=\"--collector.textfile.directory={METRICS}\"' > /etc/default/{EXPORTER};"
    f" systemctl restart {EXPORTER}"
)
SCRAPE = (
    "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9100/metrics').read().decode())"
)

OnHost = Callable[..., str]


@pytest.fixture(scope="module")
def estate(on_host: OnHost, s3_as: Callable[..., S3Client]) -> Iterator[Estate]:
    """The hosts, with a table for the ballast that makes an upload take some seconds."""
    made = Estate(on_host, s3_as("reader"))
    made.sql("drop table if exists ballast; create table ballast (line text);")
    yield made
    made.sql("drop table ballast")


def load(estate: Estate) -> None:
    estate.db(
        f"{{ echo {PLAIN_ROW}; head -c {BALLAST_BYTES} /dev/urandom | base64 -w {LINE_CHARACTERS}; }}"
        f" | runuser -u postgres -- psql -q {DATABASE} -c 'copy ballast from stdin'"
    )


@dataclass(frozen=True)
class PowerLoss:
    """What was so before, and what was under way.

    :ivar earlier: id of the newest complete set.
    :ivar killed: id of the attempt.
    :ivar parts: the uploads that it left, as :meth:`Estate.under_way`.
    :ivar files: path to digest of everything in the directory of the state, before.
    :ivar signals: what the dead man's switch heard of the attempt.
    """

    earlier: str
    killed: str
    parts: dict[str, int]
    files: dict[str, str]
    signals: list[str]


@pytest.fixture(scope="module")
def power_loss(estate: Estate, desk: Desk, state_dir: Path, lab_secrets: dict[str, str]) -> PowerLoss:
    """The database's host is killed with everything on it while it uploads, and started again."""
    container = f"{os.environ.get('LAB_NAME') or 'pharma-lab'}-db1"
    estate.db(f"systemctl start {UNIT}")
    earlier, files, known = estate.record()["lastRun"]["backupId"], estate.state_files(), estate.under_way()
    load(estate)
    desk.clear()
    estate.db(f"systemctl start --no-block {UNIT}")
    killed = estate.part_arrives(known)
    subprocess.run(["podman", "kill", "--signal", "KILL", container], check=True, capture_output=True)
    left = {key: parts for key, parts in estate.under_way().items() if key not in known}
    forget = ["ssh", "-F", str(state_dir / "ssh/config"), "-O", "exit", "db1"]
    subprocess.run(forget, check=False, capture_output=True)
    subprocess.run(["podman", "start", container], check=True, capture_output=True)
    # A machine keeps its hardware address; a container gets a new one, which its neighbours would learn after a while.
    address = f"{os.environ.get('LAB_PREFIX') or '10.77.7'}.11"
    subprocess.run(["ip", "neigh", "flush", "to", address], check=True, capture_output=True)
    until("ssh", lambda: reached(state_dir))
    until("PostgreSQL", lambda: estate.db("runuser -u postgres -- pg_isready -q && echo yes || true"))
    signals = desk.pings("db1", lab_secrets["notify_ping_token"])
    desk.listen("db1")
    return PowerLoss(earlier, killed, left, files, signals)


def reached(state_dir: Path) -> bool:
    """Whether the host lets somebody in; a session that begins while it still boots may hang."""
    words = ["ssh", "-F", str(state_dir / "ssh/config"), "-o", "ConnectTimeout=2", "db1", "true"]
    try:
        return subprocess.run(words, check=False, capture_output=True, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def test_a_power_loss_in_mid_upload_leaves_an_unfinished_set_and_the_earlier_one_the_newest(
    estate: Estate, power_loss: PowerLoss
) -> None:
    assert [key for key, parts in power_loss.parts.items() if parts] == [
        f"pharma/{power_loss.killed}/dump.age"
    ]
    sets = {item.id: item.state for item in estate.sets()}
    assert sets[power_loss.killed] == "unfinished"
    for listed in (sets, *map(estate.local_sets, LOCAL)):
        assert listed[power_loss.killed] == "unfinished"
        assert max(key for key, state in listed.items() if state == "complete") == power_loss.earlier


def test_a_power_loss_leaves_record_and_metrics_as_they_were_and_no_lock(
    estate: Estate, power_loss: PowerLoss
) -> None:
    assert estate.state_files() == power_loss.files, "whole, and nothing half written beside them"
    assert estate.record()["lastRun"]["backupId"] == power_loss.earlier
    assert estate.metrics()["pharma_backup_last_run_success", "offsite"] == 1
    assert estate.db("ls -A /run/lock/pharma-ops") == ""


def test_a_power_loss_leaves_nothing_of_plaintext(estate: Estate, power_loss: PowerLoss) -> None:
    assert power_loss.killed
    search = f"grep -rlaE --devices=skip '{PLAIN_ROW}|^{DUMP_MAGIC}' {PLACES} 2>/dev/null || true"
    planted = "/var/tmp/planted-dump"
    estate.db(f"printf {DUMP_MAGIC} > {planted}")
    assert estate.db(search).split() == [planted], "the search finds what is there"
    estate.db(f"rm {planted}")


def test_a_power_loss_is_silence_for_the_switch(power_loss: PowerLoss) -> None:
    """It heard that the run began and never how it ended: that is when it alarms."""
    assert power_loss.signals == ["start"]


def test_after_a_power_loss_the_next_run_fills_all_stores(
    estate: Estate, power_loss: PowerLoss, desk: Desk, lab_secrets: dict[str, str]
) -> None:
    lines = 1 + -(-(-(-BALLAST_BYTES // 3) * 4) // LINE_CHARACTERS)
    assert estate.sql("select count(*) from ballast") == str(lines), "PostgreSQL is back, with all rows"
    desk.clear()
    estate.db(f"systemctl start {UNIT}")
    last = estate.record()["lastRun"]
    assert (last["verdict"], last["error"]) == ("complete", None)
    assert {item.id: item.state for item in estate.sets()}[last["backupId"]] == "complete"
    for store in LOCAL:
        assert estate.local_sets(store)[last["backupId"]] == "complete"
    assert estate.local_sets(LOCAL[0])[power_loss.killed] == "unfinished", "it stays what it was"
    assert desk.pings("db1", lab_secrets["notify_ping_token"]) == ["start", "success"]


def scraped(estate: Estate) -> Metrics:
    """What the node exporter tells Prometheus."""
    return metrics_of(estate.db("python3", SCRAPE))


@dataclass(frozen=True)
class Outage:
    """What came of a run whose store died.

    :ivar status: exit status of `systemctl start`.
    :ivar lingered: seconds from the end that the record says to that of the process.
    """

    backup_id: str
    status: int
    lingered: float
    record: dict[str, Any]
    metrics: Metrics
    scraped: Metrics
    signals: list[str]
    mails: list[receivers.Mail]
    hooks: list[bytes]


@pytest.fixture(scope="module")
def outage(
    estate: Estate, power_loss: PowerLoss, desk: Desk, state_dir: Path, lab_secrets: dict[str, str]
) -> Outage:
    """The gateway is killed while the unit uploads, and stays away until the unit has ended."""
    assert power_loss.earlier
    known = estate.under_way()
    desk.clear()
    start = ["ssh", "-F", str(state_dir / "ssh/config"), "db1", f"systemctl start {UNIT}"]
    with subprocess.Popen(start, stderr=subprocess.PIPE) as running:
        backup_id = estate.part_arrives(known)
        # Stopped right after, or its unit would start it again.
        estate.on_host("s3", f"systemctl kill --signal=KILL {GATEWAY}; systemctl stop {GATEWAY}")
        try:
            # While the backup tries again, for as long as a store may stumble.
            estate.db(INSTALL)
            running.wait(timeout=240)
        finally:
            estate.on_host("s3", f"systemctl reset-failed {GATEWAY}; systemctl start {GATEWAY}")
    until("the message", lambda: desk.relay.mails and desk.hooks(lab_secrets["notify_webhook_token"]))
    until(
        "the end of who tells",
        lambda: estate.db(f"systemctl is-active pharma-notify@{UNIT}.service || true").strip() == "inactive",
    )
    record = estate.record()
    ended = estate.db(f"systemctl show --timestamp=unix --value -p ExecMainExitTimestamp {UNIT}")
    lingered = float(ended.strip().removeprefix("@")) - from_text(record["lastRun"]["finishedAt"]).timestamp()
    return Outage(
        backup_id,
        running.returncode,
        lingered,
        record,
        estate.metrics(),
        scraped(estate),
        desk.pings("db1", lab_secrets["notify_ping_token"]),
        list(desk.relay.mails),
        desk.hooks(lab_secrets["notify_webhook_token"]),
    )


def test_a_store_that_dies_in_mid_upload_costs_the_others_nothing(estate: Estate, outage: Outage) -> None:
    assert outage.status != 0
    last, stores = outage.record["lastRun"], outage.record["stores"]
    assert (last["backupId"], last["verdict"]) == (outage.backup_id, "partial")
    assert stores["offsite"]["lastFailure"]["backupId"] == outage.backup_id
    # By what it says, or by its silence, whichever is first.
    assert stores["offsite"]["lastFailure"]["error"]["code"] in ("STORE_UNREACHABLE", "STORE_STALLED")
    assert stores["offsite"]["lastSuccess"]["backupId"] < outage.backup_id
    for store in LOCAL:
        assert stores[store]["lastSuccess"]["backupId"] == outage.backup_id
        assert estate.local_sets(store)[outage.backup_id] == "complete"
    until("the gateway", estate.gateway_answers)
    assert {item.id: item.state for item in estate.sets()}[outage.backup_id] == "unfinished"


def test_nobody_waits_for_the_store_that_died(outage: Outage) -> None:
    """Its upload still tries when the others have their set; systemd, and who is told, must not wait for that."""
    assert outage.lingered < 20


def test_somebody_is_told_of_a_partial_backup(outage: Outage) -> None:
    """systemd's OnFailure sent one mail and one message to the webhook, each with cause, stage and next step."""
    error = outage.record["stores"]["offsite"]["lastFailure"]["error"]
    [hook], [mail] = outage.hooks, outage.mails
    told = json.loads(hook)
    assert (told["event"], told["job"], told["host"], told["unit"]) == ("job_failed", "backup", "db1", UNIT)
    assert told["error"]["code"] == "BACKUP_PARTIAL"
    assert f"offsite: {error['message'][:60]}" in told["error"]["message"]
    assert error["action"].startswith(told["error"]["action"][:60])
    assert told["stage"] == "dump", "where the store failed, not where the backup ended without it"
    assert (mail.encrypted, mail.user, mail.recipients) == (True, "relay-user", ["oncall@example.com"])
    parsed = email.message_from_bytes(mail.data, policy=email.policy.default)
    text = " ".join(str(parsed.get_content()).split())
    assert parsed["Subject"] == told["title"]
    for said in (told["error"]["message"], f"Next step: {told['error']['action']}", "Stage: dump"):
        assert said in text


def test_the_switch_hears_that_the_run_began_and_failed(outage: Outage) -> None:
    assert outage.signals == ["start", "fail"]


def test_the_node_exporter_tells_which_store_failed(outage: Outage) -> None:
    success = {
        store: outage.scraped["pharma_backup_last_run_success", store] for store in (*LOCAL, "offsite")
    }
    assert success == {"first": 1, "second": 1, "offsite": 0}
    assert outage.scraped["node_textfile_scrape_error", ""] == 0
    assert outage.metrics
    assert {key: outage.scraped[key] for key in outage.metrics} == outage.metrics


def test_the_node_exporter_would_tell_of_a_damaged_file(estate: Estate, outage: Outage) -> None:
    assert outage.backup_id
    estate.db(f"echo 'no metric' > {METRICS}/damaged.prom")
    assert scraped(estate)["node_textfile_scrape_error", ""] == 1
    estate.db(f"rm {METRICS}/damaged.prom")
    assert scraped(estate)["node_textfile_scrape_error", ""] == 0


def test_the_next_good_run_is_heard_and_measured(
    estate: Estate, outage: Outage, desk: Desk, lab_secrets: dict[str, str]
) -> None:
    desk.clear()
    estate.sql("truncate ballast")
    estate.db(f"systemctl start {UNIT}")
    record, seen = estate.record(), scraped(estate)
    assert record["lastRun"]["verdict"] == "complete"
    assert record["lastRun"]["backupId"] > outage.backup_id
    for store in (*LOCAL, "offsite"):
        assert seen["pharma_backup_last_run_success", store] == 1
        assert seen["pharma_backup_bytes", store] == record["lastRun"]["bytes"]
    assert seen["pharma_backup_rows", ""] == record["lastRun"]["rows"]
    assert desk.pings("db1", lab_secrets["notify_ping_token"]) == ["start", "success"]
    assert (desk.relay.mails, desk.hooks(lab_secrets["notify_webhook_token"])) == ([], [])


def test_no_secret_is_in_the_journal_or_in_another_place_of_the_host(
    state_dir: Path, on_host: OnHost, outage: Outage
) -> None:
    """The addresses of those who are told and the relay's password are among what is looked for."""
    assert outage.backup_id
    secrets = values(state_dir)
    assert {"notify_mail_password:0", "notify_webhook_token:0", "notify_ping_token:0"} <= secrets.keys()
    canaries = Canaries(secrets)
    kept = on_host("db1", "cat /etc/pharma-ops/keys/notify-*")
    assert len(canaries.found(kept)) == 3, "they would be found"
    assert look(canaries, on_host, ["db1"]) == {}
