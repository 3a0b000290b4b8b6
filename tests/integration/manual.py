# SPDX-License-Identifier: GPL-3.0-or-later
"""The four commands of docs/backup-format.md, read from that page and run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from cluster import Cluster

PAGE = Path(__file__).parents[2] / "docs" / "backup-format.md"
PROGRAMS = {"age", "psql", "pg_restore"}


def commands() -> list[str]:
    """The commands of the section on restoring by hand."""
    section = PAGE.read_text(encoding="utf-8").split("## Restore by hand", 1)[1]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block, "the page has no commands"
    lines = [line for line in block.group(1).splitlines() if line and not line.startswith("#")]
    assert len(lines) == 4
    assert {line.split()[0] for line in lines} == PROGRAMS
    return lines


def restore(cluster: Cluster, directory: Path, identity: Path, work: Path) -> None:
    """Restore a fetched set into a fresh cluster with nothing but the documented commands."""
    work.mkdir()
    for name in ("dump.age", "globals.sql.age"):
        (work / name).symlink_to(directory / name)
    (work / "identity.txt").symlink_to(identity)
    environment = {
        "PATH": f"{cluster.bin}:{os.environ['PATH']}",
        "PGHOST": cluster.host,
        "PGPORT": str(cluster.port),
        "PGUSER": "postgres",
        "LANG": "C.UTF-8",
    }
    for command in commands():
        done = subprocess.run(
            ["sh", "-ec", command], cwd=work, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
