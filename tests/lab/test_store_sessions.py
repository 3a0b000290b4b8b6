# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials that end by themselves in the middle of an upload: sessions of the object store's own token service.

The lab's gateway has no token service. A second gateway of the same cluster, on a port of its own, has one; its
shortest session is one of seconds, where the default is a quarter of an hour.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from backup_estate import until
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pharma_ops.errors import OpsError
from pharma_ops.store.base import ObjectStore

PORT = 7444
UNIT = "gateway-with-sessions"
ROLE = "backup-writer"
SESSION_SECONDS = 6
MIB = 1 << 20
GATEWAY = (
    f"systemd-run --quiet --collect --unit={UNIT} radosgw -f --cluster ceph --name client.rgw.lab"
    " --setuser ceph --setgroup ceph --admin_socket=/run/ceph/sessions.asok"
    f" '--rgw_frontends=beast ssl_port={PORT} ssl_certificate=/etc/ceph/rgw.crt ssl_private_key=/etc/ceph/rgw.key'"
    " --rgw_enable_gc_threads=false --rgw_enable_lc_threads=false"
    " --rgw_s3_auth_use_sts=true --rgw_sts_min_session_duration=1 --rgw_sts_key=$(openssl rand -hex 8)"
)
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": ["arn:aws:iam:::user/writer"]},
            "Action": ["sts:AssumeRole"],
        }
    ],
}
MAY_WRITE = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
            "Resource": "arn:aws:s3:::pharma-backups/*",
        }
    ],
}


@dataclass(frozen=True)
class Sessions:
    """The token service; :meth:`begin` gives the writer a session."""

    endpoint: str
    connect: Callable[[str, str], Any]
    role: str

    def begin(self) -> dict[str, Any]:
        """Keys, token and end of a new session of some seconds."""
        found: dict[str, Any] = self.connect("sts", "writer").assume_role(
            RoleArn=self.role, RoleSessionName="upload", DurationSeconds=SESSION_SECONDS
        )["Credentials"]
        return found


@pytest.fixture(scope="module")
def sessions(
    on_host: Callable[..., str], state_dir: Path, lab_secrets: dict[str, str], s3_endpoint: str
) -> Iterator[Sessions]:
    """The second gateway, with a role that may write and that the writer may take on."""
    endpoint = f"{s3_endpoint.rpartition(':')[0]}:{PORT}"

    def connect(service: str, user: str) -> Any:
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=lab_secrets[f"s3_{user}_access_key"],
            aws_secret_access_key=lab_secrets[f"s3_{user}_secret_key"],
            verify=str(state_dir / "pki" / "ca.crt"),
            # botocore knows that no session of AWS is so short.
            config=Config(retries={"max_attempts": 1}, parameter_validation=False),
        )

    def answers() -> bool:
        try:
            connect("s3", "admin").list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True

    on_host("s3", "radosgw-admin caps add --uid=admin --caps='roles=*'")
    on_host("s3", GATEWAY)
    try:
        until("the second gateway", answers)
        iam = connect("iam", "admin")
        role = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
        try:
            iam.put_role_policy(RoleName=ROLE, PolicyName="write", PolicyDocument=json.dumps(MAY_WRITE))
            yield Sessions(endpoint, connect, role)
        finally:
            iam.delete_role_policy(RoleName=ROLE, PolicyName="write")
            iam.delete_role(RoleName=ROLE)
    finally:
        on_host("s3", f"systemctl stop {UNIT}")
        on_host("s3", "radosgw-admin caps rm --uid=admin --caps='roles=*'")


def blocks(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield hashlib.sha256(str(number).encode()).digest() * (MIB // 32)


def test_a_session_that_ends_in_mid_upload_is_named_and_what_it_left_is_swept(
    sessions: Sessions, open_as: Callable[..., ObjectStore]
) -> None:
    session = sessions.begin()
    store = open_as(
        "writer",
        access_key=session["AccessKeyId"],
        secret_key=session["SecretAccessKey"],
        session_token=session["SessionToken"],
        endpoint=sessions.endpoint,
    )
    store.put_stream("db/before", blocks(20))

    def outlives() -> Iterator[bytes]:
        yield from blocks(20)
        left = (session["Expiration"] - datetime.now(UTC)).total_seconds()
        assert left > 0, "the upload began within the session"
        time.sleep(left + 1)
        yield from blocks(60)

    with pytest.raises(OpsError) as caught:
        store.put_stream("db/x", outlives())
    error = caught.value
    # Where AWS says ExpiredToken, this gateway says AccessDenied and no more.
    assert error.code == "STORE_ACCESS_DENIED"
    assert "UploadPart" in error.message
    assert "With a session_token, check that it has not expired." in error.action
    assert "parts of db/x sent so far may remain" in error.action
    assert [item.key for item in open_as("reader").list()] == ["db/before"]
    pruner = open_as("pruner")
    [left] = pruner.unfinished_uploads("db/x")
    pruner.abort_upload(left)
    assert list(pruner.unfinished_uploads("db/x")) == []
