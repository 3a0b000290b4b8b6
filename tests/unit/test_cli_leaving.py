# SPDX-License-Identifier: GPL-3.0-or-later
"""The process of a command or a module ends, whatever a thread of it still does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
def upload():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, float(sys.argv[1]))
store = threading.Thread(target=upload, daemon=True)
store.start()
store.join(0.2)
"""
COMMAND = """
from pharma_ops.cli.leaving import leave
print("told")
sys.exit(leave(3, float(sys.argv[2])))
"""
MODULE = """
from ansible_collections.pharma.hardening.plugins.module_utils import ops_module
from ansible_collections.pharma.hardening.plugins.module_utils._ops.cli import leaving
leaving.leave.__defaults__ = (float(sys.argv[2]),)
class Module:
    def exit_json(self, **result):
        print("told")
        sys.exit(3)
ops_module.run(Module(), dict)
"""


@pytest.mark.parametrize(
    ("work", "grace", "least", "most"),
    [(30, 0.2, 0.2, 20), (1.5, 25, 1.5, 20)],
    ids=["given-up", "waited-for"],
)
@pytest.mark.parametrize("end", [COMMAND, MODULE], ids=["command", "module"])
def test_a_process_waits_for_its_threads_no_longer_than_the_grace(
    engine_path: Path, root: Path, end: str, work: float, grace: float, least: float, most: float
) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + end, str(work), str(grace)],
        env=os.environ | {"PYTHONPATH": f"{engine_path}:{root / 'collections'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "told\n", "")
    assert least <= time.monotonic() - began < most
