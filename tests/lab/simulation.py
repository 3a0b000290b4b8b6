# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine of a host at simulated times, and what a bucket really holds afterwards."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Simulated:
    """The engine of a host at times of the test's choice (see ``simulated_host.py``)."""

    def __init__(self, ssh: list[str], script: str, bucket: str) -> None:
        self._bucket = bucket
        subprocess.run([*ssh, "cat > /run/simulated_host.py"], input=script.encode(), check=True)
        self._process = subprocess.Popen(
            [*ssh, "python3 -I -B /run/simulated_host.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, action: str, at: datetime, **more: Any) -> dict[str, Any]:
        """Run an action at a simulated time; its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"action": action, "at": at.isoformat(), "bucket": self._bucket} | more
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def in_store(s3: S3Client, bucket: str) -> dict[str, set[str]]:
    """Names of the objects of each set, as any identity that may list sees them."""
    found: dict[str, set[str]] = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="pharma/"):
        for item in page.get("Contents", []):
            _, backup_id, name = item["Key"].split("/")
            found.setdefault(backup_id, set()).add(name)
    return found
