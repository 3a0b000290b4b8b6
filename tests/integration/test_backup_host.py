# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup leaves on the disk of its host: a record and metrics, and of the data not a byte."""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from material import MakeConfig
from test_backup_faults import write_config

SHOP = """
CREATE TABLE journal (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL);
INSERT INTO journal (text) SELECT md5(i::text) || md5((i + 7)::text) FROM generate_series(1, 200000) i;
"""
BLOCK = 512
ATTEMPTS = 3
RECORDS_BYTES = 128 << 10
"""What record, metrics and lock may take, directories included."""


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Cluster:
    """A cluster with a database whose dump has some 5 MB."""
    cluster.create("shop", SHOP)
    return cluster


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory: what is written there is written to no disk."""
    directory = tmp_path / "memory"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory on a disk; /tmp and /var/tmp may be in memory."""
    directory = Path(tempfile.mkdtemp(prefix="disk-", dir="/var/cache"))
    yield directory
    shutil.rmtree(directory)


def written(
    engine_path: Path, config_file: Path, **environment: str
) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run a backup; the bytes that it and all its children made the kernel write to disks."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock
    done = subprocess.run(
        [sys.executable, "-m", "pharma_ops.cli", "backup", "create", "--config", str(config_file)],
        env=os.environ | {"PYTHONPATH": str(engine_path), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done, (resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock - before) * BLOCK


def test_no_byte_of_the_data_reaches_the_disk_of_the_host(
    shop: Cluster, make_config: MakeConfig, engine_path: Path, memory: Path, disk: Path
) -> None:
    """The store stands for one over a network: it is the only place that data go to, so nothing else may grow."""

    def settings(store: Path) -> Path:
        store.mkdir(exist_ok=True)
        made = make_config(shop, "shop", store={"path": str(store)})
        on_disk = {"state_dir": disk / "state", "metrics_dir": disk / "metrics"}
        return write_config(disk / "config.toml", dataclasses.replace(made, **on_disk))

    counts = []
    # A busy disk now and then charges metadata of others to whoever syncs; what a backup writes, every one writes.
    while len(counts) < ATTEMPTS and min(counts, default=RECORDS_BYTES + 1) > RECORDS_BYTES:
        done, count = written(engine_path, settings(memory / "store"), TMPDIR=str(disk))
        assert done.returncode == 0, done.stderr
        counts.append(count)
    assert min(counts) <= RECORDS_BYTES, f"{counts} bytes were written to the disk"
    kept = {str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file()}
    assert kept == {"config.toml", "metrics/pharma_backup_shop.prom", "state/backups/shop.json"}
    newest = max((memory / "store").rglob("dump.age"), key=lambda path: path.parent.name)
    size = newest.stat().st_size
    assert size > 4 << 20
    # The measurement sees what is written: the same backup into a directory on the disk.
    done, count = written(engine_path, settings(disk / "store"))
    assert done.returncode == 0, done.stderr
    assert count >= size


def test_a_host_whose_disk_is_full_still_backs_up(
    shop: Cluster, make_config: MakeConfig, engine_path: Path, memory: Path, tmp_path: Path
) -> None:
    """Neither the state nor a temporary directory can take a byte; the lock is in memory, as on a host."""
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", full], check=True)
    try:
        for name in ("state", "metrics"):
            (tmp_path / name).symlink_to(full / name)
            (full / name).mkdir()
        with (
            pytest.raises(OSError, match="No space left"),
            (full / "filler").open("wb", buffering=0) as filler,
        ):
            while True:
                filler.write(bytes(1024))
        (memory / "store").mkdir()
        made = make_config(shop, "shop", store={"path": str(memory / "store")})
        file = write_config(memory / "config.toml", made)
        done, _count = written(engine_path, file, TMPDIR=str(full))
        assert done.returncode == 0, done.stderr
        assert len(list((memory / "store").glob("shop/*/manifest.json"))) == 1
        assert "Warning: the record of this backup was not written" in done.stdout
        assert "Warning: the metrics of this backup were not written" in done.stdout
        assert "No space left on device" in done.stdout
    finally:
        subprocess.run(["umount", full], check=True)
