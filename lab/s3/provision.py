#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the users of the object store to what is asked for on standard input, and waits until it answers.

Runs on the store's own host. Keys come on standard input and go to ``radosgw-admin`` the same way, so that no
argument list shows them. Prints what it changed, a line each; nothing when all was so.

Input, JSON: ``endpoint``, ``region``, ``ca``, ``users`` (name to ``access_key`` and ``secret_key``), ``owner`` (the
user by whom the store is asked).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# A gateway that has just started makes its pools first.
PATIENCE_SECONDS = 120


def admin(*arguments: str, document: Any = None) -> Any:
    """Run ``radosgw-admin``; the result as parsed JSON, None when it printed nothing."""
    done = subprocess.run(
        ["radosgw-admin", *arguments],
        input=None if document is None else json.dumps(document),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"radosgw-admin {' '.join(arguments)}: {done.stderr.strip()}")
    return json.loads(done.stdout) if done.stdout.strip() else None


def ensure_user(name: str, access_key: str, secret_key: str) -> list[str]:
    """A user with exactly this one key."""
    changed = []
    if name not in admin("user", "list"):
        admin("user", "create", f"--uid={name}", f"--display-name={name}")
        changed.append(f"created user {name}")
    record = admin("metadata", "get", f"user:{name}")
    keys = [(key["access_key"], key["secret_key"]) for key in record["data"]["keys"]]
    if keys != [(access_key, secret_key)]:
        record["data"]["keys"] = [
            {"user": name, "access_key": access_key, "secret_key": secret_key, "subuser": "", "active": True}
        ]
        admin("metadata", "put", f"user:{name}", document=record)
        changed.append(f"set the key of {name}")
    return changed


def connect(wanted: dict[str, Any]) -> S3Client:
    """The bucket's owner, over TLS that is verified."""
    owner = wanted["users"][wanted["owner"]]
    return boto3.client(
        "s3",
        endpoint_url=wanted["endpoint"],
        region_name=wanted["region"],
        aws_access_key_id=owner["access_key"],
        aws_secret_access_key=owner["secret_key"],
        verify=wanted["ca"],
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def wait_for(s3: S3Client) -> None:
    """Return as soon as the gateway answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            s3.list_buckets()
            return
        except (ClientError, EndpointConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def main() -> int:
    """Read what is wanted, make it so, say what changed."""
    wanted = json.load(sys.stdin)
    changed = []
    for name, keys in wanted["users"].items():
        changed += ensure_user(name, keys["access_key"], keys["secret_key"])
    wait_for(connect(wanted))
    for line in changed:
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
