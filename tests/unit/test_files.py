# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pharma_ops import files
from pharma_ops.errors import OpsError

# Dies at the given call of the write, as in a power cut: no cleanup runs.
CRASH = """
import os, signal, sys
from pathlib import Path
from pharma_ops import files

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "fsync":
    os.fsync = die
else:
    Path.replace = die
files.write_atomic(Path(sys.argv[1]), b"new" * 100_000)
"""


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_crash_leaves_the_old_content(tmp_path: Path, engine_path: Path, moment: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(b"old")
    status = subprocess.run(
        [sys.executable, "-c", CRASH, str(path), moment],
        env=os.environ | {"PYTHONPATH": str(engine_path)},
        check=False,
        timeout=30,
    ).returncode
    assert status == -9
    assert path.read_bytes() == b"old"


def test_replaces_with_the_mode_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"old")
    files.write_atomic(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["key.pem"]


def test_a_failed_write_leaves_nothing_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "manifest.json"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OpsError, match="No space left on device") as caught:
        files.write_atomic(path, b"new")
    assert caught.value.code == "FILE_NOT_WRITTEN"
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"manifest.json": b"old"}


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="missing/x could not be written: No such file"):
        files.write_atomic(tmp_path / "missing" / "x", b"")


def test_digest_reads_more_than_one_chunk(tmp_path: Path) -> None:
    data = os.urandom(files.CHUNK_BYTES + 17)
    path = tmp_path / "blob"
    path.write_bytes(data)
    assert files.sha256_of(path) == hashlib.sha256(data).hexdigest()
