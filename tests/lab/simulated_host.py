#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a host of the lab: the engine's own jobs at a time of the test's choice, in a bucket of the test's.

Reads one JSON object a line from standard input and answers each with one. ``at`` is the simulated time: the engine's
clock begins there and goes on as the real one does. Requests to the store are signed with the real clock, which the
store insists on.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, "/usr/local/lib/pharma-ops")

from pharma_ops import clock, config
from pharma_ops.backup import create
from pharma_ops.errors import OpsError
from pharma_ops.estate import pruning
from pharma_ops.evidence import ledger
from pharma_ops.evidence.record import Verdict
from pharma_ops.log import Log
from pharma_ops.progress import Silent

LOG = Log("lab", "simulation-0001", [])


def settings(request: dict[str, Any]) -> config.Config:
    """The host's configuration with the bucket of the test, and with other rules where it names some."""
    loaded = config.load()
    bucket = request.get("bucket")
    stores = {
        name: dataclasses.replace(store, bucket=bucket or store.bucket)
        for name, store in loaded.stores.items()
    }
    retention = loaded.retention and dataclasses.replace(loaded.retention, **request.get("rules", {}))
    changed = dataclasses.replace(loaded, stores=stores, retention=retention)
    if "state_dir" in request:
        state = Path(request["state_dir"])
        state.mkdir(parents=True, exist_ok=True)
        changed = dataclasses.replace(
            changed,
            state_dir=state,
            metrics_dir=state / "metrics",
            evidence=dataclasses.replace(loaded.evidence, dir=state / "evidence"),
        )
    return changed


def backup(request: dict[str, Any]) -> dict[str, Any]:
    """Make a real set; with ``kill`` the process dies by SIGKILL before the manifest."""
    if not request.get("kill"):
        return {"backup_id": create.create_backup(settings(request), LOG, Silent()).backup_id}
    child = multiprocessing.get_context("fork").Process(target=_killed, args=(request,))
    child.start()
    child.join()
    return {"exitcode": child.exitcode}


def _killed(request: dict[str, Any]) -> None:
    create._publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment,return-value]
    create.create_backup(settings(request), LOG, Silent())


def prune(request: dict[str, Any]) -> dict[str, Any]:
    """Prune, or only look with ``dry``."""
    of = settings(request)
    results = pruning.look(of) if request.get("dry") else pruning.run(of, LOG)
    return {"places": [one.as_dict() for one in results], "exit_code": max(one.exit_code for one in results)}


def prove(request: dict[str, Any]) -> dict[str, Any]:
    """Add the line that a drill of the set writes into the ledger."""
    path = settings(request).evidence.dir / ledger.NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ledger.read(path)
    entry = ledger.Entry(
        drill_id=f"simulated-{len(lines) + 1:04d}",
        environment="lab",
        scope="full",
        verdict=Verdict.PASSED,
        finished_at=clock.from_text(clock.to_text(clock.now())),
        rto_seconds=1.0,
        rto_objective_seconds=14400.0,
        rpo_seconds=1.0,
        rpo_objective_seconds=93600.0,
        newest_change_at=None,
        backup_id=request["backup_id"],
        prev=ledger.head(lines),
    )
    ledger.append(path, ledger.signed(entry, request["key"].encode()))
    return {"drill_id": entry.drill_id}


ACTIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "backup": backup,
    "prune": prune,
    "prove": prove,
}


def main() -> None:
    """Answer until standard input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        start, begun = datetime.fromisoformat(request["at"]), time.monotonic()

        def now(start: datetime = start, begun: float = begun) -> datetime:
            return start + timedelta(seconds=time.monotonic() - begun)

        clock.now = now
        try:
            answer = ACTIONS[request["action"]](request)
        except OpsError as error:
            answer = {"error": error.as_dict()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
