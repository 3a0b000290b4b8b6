# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pharma_ops import locks
from pharma_ops.errors import OpsError

HOLD = """
import sys
from pathlib import Path
from pharma_ops import locks
with locks.held(Path(sys.argv[1]), "backup", "run-of-the-child"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(engine_path: Path, lock_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that holds the lock ``backup`` until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock_dir)],
        env=os.environ | {"PYTHONPATH": str(engine_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path, engine_path: Path) -> None:
    with (
        holder(engine_path, tmp_path) as child,
        pytest.raises(OpsError) as caught,
        locks.held(tmp_path, "backup", "second"),
    ):
        pytest.fail("the lock was taken twice")
    assert caught.value.code == "LOCK_HELD"
    assert f"run run-of-the-child (process {child.pid}, since 20" in caught.value.message


def test_killing_the_holder_releases_the_lock(tmp_path: Path, engine_path: Path) -> None:
    with holder(engine_path, tmp_path) as child:
        child.kill()
        child.wait(10)
        with locks.held(tmp_path, "backup", "next-run"):
            assert '"next-run"' in (tmp_path / "backup.lock").read_text()


def test_jobs_do_not_exclude_each_other_and_a_lock_can_be_taken_again(tmp_path: Path) -> None:
    with locks.held(tmp_path, "backup", "one"), locks.held(tmp_path, "drill", "two"):
        pass
    with pytest.raises(RuntimeError, match="boom"), locks.held(tmp_path, "backup", "three"):
        raise RuntimeError("boom")
    with locks.held(tmp_path, "backup", "four"):
        pass


def test_an_unreadable_holder_is_still_a_refusal(tmp_path: Path, engine_path: Path) -> None:
    with holder(engine_path, tmp_path):
        (tmp_path / "backup.lock").write_text("[1]")
        with pytest.raises(OpsError, match="another run holds"), locks.held(tmp_path, "backup", "x"):
            pytest.fail("the lock was taken twice")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OpsError) as caught, locks.held(tmp_path / "file" / "locks", "backup", "x"):
        pytest.fail("a lock without a file")
    assert caught.value.code == "LOCK_UNAVAILABLE"
    assert "file/locks/backup.lock" in caught.value.message
