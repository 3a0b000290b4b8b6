# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox of a unit really acts on the lab's hosts.

In a container that lacks a right, systemd leaves parts of a sandbox out without a word, and every test of a
hardened unit would be green for nothing. So each directive is tried on a command that shows whether it acts,
and the same command without the directive shows that the trial can tell.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from testinfra.host import Host  # type: ignore[import-untyped]

HOSTS = [name for name in (os.environ.get("LAB_HOSTS") or "db1,app1,staging1").split(",") if name != "s3"]
SECRET = "s3cret-of-the-probe"


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, lab_host: Callable[[str], Host]) -> Host:
    """Each host that runs units of ours."""
    return lab_host(request.param)


@dataclass(frozen=True)
class Outcome:
    """How a transient unit ended and what it printed."""

    status: int
    output: str


def run(host: Host, directives: list[str], script: str) -> Outcome:
    """Run a shell script in a transient unit with these directives."""
    options = "".join(f" -p {directive}" for directive in directives)
    done = host.run(f"systemd-run --quiet --wait --pipe --collect{options} /bin/sh -c %s", script)
    return Outcome(done.rc, (done.stdout + done.stderr).strip())


def test_the_host_booted_without_a_failed_unit(host: Host) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


def test_protect_system_makes_the_system_read_only(host: Host) -> None:
    script = "touch /usr/probe && rm /usr/probe && echo written"
    assert run(host, [], script) == Outcome(0, "written")
    confined = run(host, ["ProtectSystem=strict"], script)
    assert confined.status != 0
    assert "Read-only file system" in confined.output


def test_read_write_paths_open_a_read_only_system_again(host: Host) -> None:
    script = "touch /var/tmp/probe && rm /var/tmp/probe && echo written"
    assert run(host, ["ProtectSystem=strict"], script).status != 0
    assert run(host, ["ProtectSystem=strict", "ReadWritePaths=/var/tmp"], script) == Outcome(0, "written")


def test_private_network_leaves_no_interface_but_loopback(host: Host) -> None:
    script = (
        "ls /sys/class/net >/dev/null; ip -o link | cut -d: -f2 | cut -d@ -f1 | tr -d ' ' | sort | paste -sd,"
    )
    assert run(host, [], script) == Outcome(0, "eth0,lo")
    assert run(host, ["PrivateNetwork=yes"], script) == Outcome(0, "lo")


def test_private_network_reaches_nobody(host: Host) -> None:
    gateway = host.check_output("ip -4 route show default").split()[2]
    # A refusal comes from the other end: it was reached. Port 9 has no listener.
    command = (
        "python3 -c 'import errno, socket; s = socket.socket(); s.settimeout(3); "
        f'print(errno.errorcode[s.connect_ex(("{gateway}", 9))])\''
    )
    assert run(host, [], command) == Outcome(0, "ECONNREFUSED")
    assert run(host, ["PrivateNetwork=yes"], command) == Outcome(0, "ENETUNREACH")


def test_load_credential_gives_the_unit_its_secret(host: Host) -> None:
    host.check_output("umask 077; printf %s %s >/root/probe-credential", "%s", SECRET)
    script = 'cat "$CREDENTIALS_DIRECTORY/probe"'
    directives = ["DynamicUser=yes", "LoadCredential=probe:/root/probe-credential"]
    try:
        assert run(host, directives, script) == Outcome(0, SECRET)
        assert run(host, ["DynamicUser=yes"], script).status != 0
        # The unit's user has the secret by the credential only.
        assert run(host, directives, "cat /root/probe-credential").status != 0
        exposed = run(host, directives, f"grep -c {SECRET} /proc/self/environ")
        assert exposed == Outcome(1, "0")
    finally:
        host.check_output("rm /root/probe-credential")


def test_memory_max_ends_a_unit_that_takes_more(host: Host) -> None:
    script = "python3 -c 'print(len(bytearray(200 << 20)))'"
    assert run(host, ["MemoryMax=400M", "MemorySwapMax=0"], script) == Outcome(0, str(200 << 20))
    confined = run(host, ["MemoryMax=64M", "MemorySwapMax=0"], script)
    assert confined.status != 0
    assert str(200 << 20) not in confined.output


def test_tasks_max_bounds_the_number_of_processes(host: Host) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait; echo started"
    assert run(host, [], script) == Outcome(0, "started")
    assert run(host, ["TasksMax=4"], script).output != "started"


def test_system_call_filter_refuses(host: Host) -> None:
    script = "mount -t tmpfs probe /mnt && umount /mnt && echo mounted"
    assert run(host, [], script) == Outcome(0, "mounted")
    confined = run(host, ["SystemCallFilter=@system-service", "SystemCallErrorNumber=EPERM"], script)
    assert confined.status != 0
