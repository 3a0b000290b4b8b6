# SPDX-License-Identifier: GPL-3.0-or-later
"""Real children: what they print, how they end, and what they can see of a secret."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pharma_ops import process
from pharma_ops.errors import OpsError

PIPE = subprocess.PIPE
SECRET = b"correct horse battery staple"


def test_output_and_input_pass_through() -> None:
    data = os.urandom(3 << 20)
    done = process.run(["cat"], input=data)
    assert done.returncode == 0
    assert done.stdout == data


def test_a_failure_names_the_program_its_status_and_its_last_words() -> None:
    with pytest.raises(OpsError) as caught:
        process.run(
            ["sh", "-c", "echo one >&2; echo disk on fire >&2; exit 3"], code="DUMP_FAILED", action="Look."
        )
    assert caught.value.code == "DUMP_FAILED"
    assert caught.value.message == "sh failed with exit status 3: one\ndisk on fire"
    assert caught.value.action == "Look."


def test_a_signal_is_named() -> None:
    with pytest.raises(OpsError, match="sh failed with signal 9: it printed no reason"):
        process.run(["sh", "-c", "kill -9 $$"])


def test_a_status_can_be_asked_for_instead() -> None:
    assert process.run(["false"], check=False).returncode == 1


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_every_stage_of_a_pipeline_is_checked(failing: int) -> None:
    """A stage that writes all its output and then fails must not pass, wherever it stands."""
    scripts = ["cat; exit 4" if stage == failing else "cat" for stage in range(3)]
    with (
        process.Child(["sh", "-c", scripts[0]], stdin=PIPE, stdout=PIPE) as first,
        process.Child(["sh", "-c", scripts[1]], stdin=first.stdout, stdout=PIPE) as second,
        process.Child(["sh", "-c", scripts[2]], stdin=second.stdout, stdout=PIPE) as third,
    ):
        first.stdout.close()
        second.stdout.close()
        first.stdin.write(b"rows")
        first.stdin.close()
        assert third.stdout.read() == b"rows"
        for stage, child in enumerate((first, second, third)):
            if stage == failing:
                with pytest.raises(OpsError, match="exit status 4"):
                    child.check()
            else:
                child.check()


def test_a_timeout_ends_the_child_and_what_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    begin = time.monotonic()
    with pytest.raises(OpsError) as caught:
        process.run(["sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait"], timeout=0.5)
    assert caught.value.code == "COMMAND_TIMEOUT"
    assert "sh did not end within 0.5 s" in caught.value.message
    assert time.monotonic() - begin < 10
    state = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_child_in_time_is_not_killed() -> None:
    assert process.run(["echo", "x"], timeout=30).stdout == b"x\n"


def test_megabytes_on_standard_error_neither_block_nor_fill_memory() -> None:
    script = (
        "import sys; sys.stderr.write('e' * (8 << 20)); sys.stderr.write('\\nlast words\\n'); sys.exit(1)"
    )
    with pytest.raises(OpsError) as caught:
        process.run([sys.executable, "-c", script], timeout=60)
    assert caught.value.message.endswith("last words")
    assert len(caught.value.message) < 200_000


def test_leaving_by_an_exception_ends_the_child() -> None:
    with pytest.raises(RuntimeError, match="boom"), process.Child(["sleep", "60"]) as child:
        raise RuntimeError("boom")
    assert child.popen.returncode == -15


def test_a_child_that_ignores_the_polite_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_TERMINATE_SECONDS", 0.2)
    with process.Child(["sh", "-c", "trap '' TERM; echo up; sleep 60"], stdout=PIPE) as child:
        assert child.stdout.readline() == b"up\n"
        child.end()
    assert child.popen.returncode == -9


def test_a_missing_program_is_told_from_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(OpsError) as missing:
        process.run(["pg_dump_of_the_future"])
    assert missing.value.code == "PROGRAM_MISSING"
    with pytest.raises(OpsError) as nowhere:
        process.run(["true"], cwd=tmp_path / "nowhere")
    assert nowhere.value.code == "PROGRAM_NOT_STARTED"
    assert "nowhere" in nowhere.value.message


def test_an_unknown_account_is_named() -> None:
    with pytest.raises(OpsError, match="no account nobody-of-that-name") as caught:
        process.run(["true"], user="nobody-of-that-name")
    assert caught.value.code == "ACCOUNT_UNUSABLE"


def test_nothing_of_the_environment_is_inherited_but_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "leak")
    monkeypatch.setenv("TZ", "America/Sao_Paulo")
    lines = process.run(["env"], env={"PGDATABASE": "pharma"}).stdout.decode().splitlines()
    assert {line.partition("=")[0] for line in lines} - {"_", "PWD"} == {
        "PATH",
        "LANG",
        "TZ",
        "HOME",
        "PGDATABASE",
    }
    assert "TZ=UTC" in lines


def test_a_secret_is_read_through_its_descriptor_and_stands_nowhere_else() -> None:
    with (
        process.secret_file(SECRET) as (path, fd),
        process.Child(
            ["sh", "-c", f"cat {path}; cat > /dev/null"], stdin=PIPE, stdout=PIPE, pass_fds=[fd]
        ) as child,
    ):
        assert child.stdout.read(len(SECRET)) == SECRET
        for name in ("cmdline", "environ"):
            assert SECRET not in Path(f"/proc/{child.popen.pid}/{name}").read_bytes()
        child.stdin.close()
        child.check()


def test_a_child_without_the_descriptor_cannot_read_the_secret() -> None:
    with process.secret_file(SECRET) as (path, _fd):
        done = process.run(["cat", path], check=False)
    assert done.returncode != 0
    assert done.stdout == b""


def test_the_secret_is_gone_after_the_block() -> None:
    with process.secret_file(SECRET) as (path, fd):
        assert path.read_bytes() == SECRET
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change accounts")
def test_an_account_can_read_the_secret_that_was_made_for_it_and_no_other() -> None:
    with process.secret_file(SECRET, user="nobody") as (path, fd):
        assert process.run(["cat", path], user="nobody", pass_fds=[fd]).stdout == SECRET
    with process.secret_file(SECRET) as (path, fd):
        done = process.run(["cat", path], user="nobody", pass_fds=[fd], check=False)
    assert done.returncode != 0
    assert "Permission denied" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change accounts")
def test_a_child_of_another_account_has_none_of_roots_groups() -> None:
    done = process.run(["id", "-G"], user="nobody")
    assert done.stdout.split() == [str(process.pwd.getpwnam("nobody").pw_gid).encode()]
