# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's real unit while its database stops, hangs or is busy, and while its own loop is stuck.

Every time is measured on the hosts, by a probe on the service's socket, and printed.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROBE = (Path(__file__).parent / "probe.py").read_text()
# What the service promises, in seconds.
GONE_WITHIN = 3.0
BACK_WITHIN = 5.0
# The queries of everybody else in this database, seen by their start; one that began before does not count.
# (The server's own statistics of transactions are reported up to ten seconds late.)
QUERIES = """
create temporary table seen (pid integer, at timestamptz, primary key (pid, at));
do $$
declare
  until constant timestamptz := clock_timestamp() + interval '%d s';
begin
  while clock_timestamp() < until loop
    perform pg_stat_clear_snapshot();
    insert into seen select pid, query_start from pg_stat_activity
     where datname = current_database() and pid <> pg_backend_pid() and query_start is not null
        on conflict do nothing;
    perform pg_sleep(0.02);
  end loop;
end $$;
select count(*) - count(distinct pid) from seen;
"""


@dataclass
class Lab:
    """The two hosts over ssh, and the colour in service."""

    config: Path
    colour: str = ""

    def command(self, host: str, command: str) -> list[str]:
        return ["ssh", "-F", str(self.config), host, command]

    def run(self, host: str, command: str, text: str = "") -> str:
        done = subprocess.run(
            self.command(host, command), input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{host}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def timed(self, host: str, command: str) -> float:
        """Run a command; the moment on that host just before."""
        return float(self.run(host, f"date +%s.%N && {command} >/dev/null").splitlines()[0])

    def sql(self, statement: str) -> str:
        return self.run(
            "db1", "runuser -u postgres -- psql -X -q -A -t -v ON_ERROR_STOP=1 -d pharma", statement
        )

    @property
    def unit(self) -> str:
        return f"pharma-backend@{self.colour}.service"

    def probe(self, *words: object) -> list[dict[str, Any]]:
        """Run the probe on the service's host until it ends; its lines."""
        return self.watching(*words).lines()

    def watching(self, *words: object) -> Probe:
        """Start the probe on the service's host."""
        arguments = " ".join(str(word) for word in (f"/run/pharma-backend/{self.colour}.sock", *words))
        child = subprocess.Popen(
            self.command("app1", f"python3 - {arguments}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        child.stdin.write(PROBE)
        child.stdin.close()
        return Probe(child)

    def errors(self, code: str) -> float:
        text = self.probe("metrics")[0]["text"]
        return sample(text, f'pharma_db_connection_errors_total{{code="{code}"}}')

    def show(self, value: str) -> str:
        return self.run("app1", f"systemctl show {self.unit} --property={value} --value")


@dataclass
class Probe:
    """A probe that runs."""

    child: subprocess.Popen[str]

    def first(self) -> dict[str, Any]:
        """Wait for its first line."""
        assert self.child.stdout is not None
        line: dict[str, Any] = json.loads(self.child.stdout.readline())
        return line

    def lines(self) -> list[dict[str, Any]]:
        """All that it still says."""
        assert self.child.stdout is not None
        said = self.child.stdout.read()
        assert self.child.wait() == 0
        return [json.loads(line) for line in said.splitlines()]


def sample(text: str, name: str) -> float:
    found = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    assert len(found) == 1, f"{name}: {found}"
    return float(found[0].rsplit(" ", 1)[1])


@pytest.fixture(scope="module")
def lab(state_dir: Path) -> Lab:
    lab = Lab(state_dir / "ssh" / "config")
    lab.colour = Path(lab.run("app1", "readlink /opt/pharma/slots/active.sock")).stem
    return lab


@pytest.fixture
def server(lab: Lab) -> Iterator[str]:
    """The unit of the database; it runs and goes on when the test ends."""
    unit = lab.run("db1", "systemctl list-units 'postgresql@*' --plain --no-legend").split()[0]
    yield unit
    lab.run("db1", f"systemctl kill --signal=SIGCONT {unit}; systemctl start {unit}")
    limit = time.monotonic() + 20
    while [line["ready"] for line in lab.probe("watch", 0.1)][-1:] != [200]:
        assert time.monotonic() < limit, "the service did not become ready again"


def follow(
    lab: Lab, away: Callable[[], float], back: Callable[[], float]
) -> tuple[float, float, list[dict[str, Any]]]:
    """Take the database away for some seconds: the seconds until 503 and until 200 again, and all states."""
    probe = lab.watching("watch", 14)
    states = [probe.first()]
    assert states[0]["ready"] == 200
    gone_at = away()
    time.sleep(4.5)
    back_at = back()
    states += probe.lines()
    assert [state["ready"] for state in states] == [200, 503, 200], states
    return states[1]["at"] - gone_at, states[2]["at"] - back_at, states


@pytest.mark.parametrize(
    ("away", "back", "code"),
    [
        pytest.param("stop", "start", "P1001", id="stops"),
        pytest.param("kill --signal=SIGSTOP", "kill --signal=SIGCONT", "P1002", id="hangs"),
    ],
)
def test_a_database_that_goes_away(lab: Lab, server: str, away: str, back: str, code: str) -> None:
    before = lab.errors(code)
    gone, ready, states = follow(
        lab,
        lambda: lab.timed("db1", f"systemctl {away} {server}"),
        lambda: lab.timed("db1", f"systemctl {back} {server}"),
    )
    print(f"\n{away}: ready 503 after {gone:.2f} s, 200 again {ready:.2f} s after {back}")
    assert gone < GONE_WITHIN
    assert ready < BACK_WITHIN
    assert {state["live"] for state in states} == {200}
    assert lab.errors(code) > before


def test_an_exhausted_pool_leaves_the_service_ready(lab: Lab) -> None:
    before = lab.errors("pool_timeout")
    text = lab.probe("metrics")[0]["text"]
    size = int(sample(text, "pharma_db_pool_max_connections"))
    lock = "begin; lock table pharmacy.users in access exclusive mode; select pg_sleep(4.5); rollback"
    with subprocess.Popen(
        lab.command("db1", f"runuser -u postgres -- psql -X -q -d pharma -c '{lock}'"),
        stdout=subprocess.DEVNULL,
    ) as holder:
        while not lab.sql("select 1 from pg_locks where mode = 'AccessExclusiveLock' and granted").strip():
            assert holder.poll() is None
        during = lab.probe("login", size + 4)[0]
    waiting = max(sample(text, "pharma_db_pool_waiting") for text in during["metrics"])
    used = max(sample(text, 'pharma_db_pool_connections{state="used"}') for text in during["metrics"])
    timeouts = lab.errors("pool_timeout") - before
    print(
        f"\n{size + 4} requests, {used:.0f} of {size} connections used: {waiting:.0f} waited, {timeouts:.0f} in vain"
    )
    assert during["ready"] == [200]
    assert 0 < used <= size  # a busy machine may not get as far as the last of them
    assert waiting >= 1
    assert timeouts >= 1
    assert 503 in during["statuses"]


def test_a_thousand_probes_a_second_add_no_query(lab: Lab) -> None:
    seconds, rates = 6, [0.0]
    # Other work on the machine may keep the probe from its rate; the queries are judged each time.
    while max(rates) < 1000 and len(rates) < 5:
        probe = lab.watching("flood", seconds, 1200)
        asked = int(lab.sql(QUERIES % seconds))
        found = probe.lines()[0]
        rates.append(found["sent"] / found["seconds"])
        print(f"\n{rates[-1]:.0f} probes a second for {seconds} s: {asked} queries")
        assert found["good"] == found["sent"]
        # One check in two seconds, whose seeing shows that queries are seen at all.
        assert seconds / 2 - 1 <= asked <= seconds / 2 + 1
    assert max(rates) >= 1000


def test_a_stuck_service_is_restarted_and_its_queue_served(lab: Lab) -> None:
    watchdog = int(lab.run("app1", f"systemctl cat {lab.unit} | sed -n s/^WatchdogSec=//p"))
    process, restarts = lab.show("MainPID"), int(lab.show("NRestarts"))
    stuck_at = lab.timed("app1", f"kill -STOP {process}")
    assert lab.run("app1", f"cut -d ' ' -f 3 /proc/{process}/stat") == "T"
    # The first request meets the stuck service and waits in the socket's queue; none is refused or cut off.
    states = lab.probe("watch", 1)
    took = states[0]["at"] - stuck_at
    print(f"\nstuck: served by a new process after {took:.2f} s (WatchdogSec={watchdog})")
    assert took < watchdog
    assert {state["live"] for state in states} == {200}
    assert states[-1]["ready"] == 200
    assert lab.show("MainPID") != process
    assert int(lab.show("NRestarts")) == restarts + 1
    assert lab.show("ActiveState") == "active"


def test_the_unit_says_what_it_runs_and_measures_itself(lab: Lab) -> None:
    text = lab.probe("metrics")[0]["text"]
    assert f'colour="{lab.colour}"' in text
    # The sandbox hides /proc/stat, from which these are usually derived.
    assert sample(text, "process_resident_memory_bytes") > 1 << 20
    assert sample(text, "process_start_time_seconds") == pytest.approx(
        int(
            lab.run(
                "app1",
                f'date +%s --date="$(systemctl show {lab.unit} --property=ExecMainStartTimestamp --value)"',
            )
        ),
        abs=3,
    )
