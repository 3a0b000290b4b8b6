# SPDX-License-Identifier: GPL-3.0-or-later
"""The command's process ends, whatever a thread of it still does."""

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
from pharma_ops.cli.leaving import leave
def upload():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, float(sys.argv[1]))
store = threading.Thread(target=upload, daemon=True)
store.start()
store.join(0.2)
print("told")
sys.exit(leave(3, float(sys.argv[2])))
"""


@pytest.mark.parametrize(
    ("work", "grace", "least", "most"),
    [(30, 0.2, 0.2, 20), (1.5, 25, 1.5, 20)],
    ids=["given-up", "waited-for"],
)
def test_a_process_waits_for_its_threads_no_longer_than_the_grace(
    engine_path: Path, work: float, grace: float, least: float, most: float
) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(work), str(grace)],
        env=os.environ | {"PYTHONPATH": str(engine_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "told\n", "")
    assert least <= time.monotonic() - began < most
