# SPDX-License-Identifier: GPL-3.0-or-later
"""The role object_store against a real S3 gateway, its result read with boto3 alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Connect = Callable[..., "S3Client"]
Play = Callable[..., dict[str, Any]]


@pytest.fixture
def bucket(s3_as: Connect, prefix: str) -> Iterator[str]:
    name = f"role-{prefix.split('/')[1]}"
    yield name
    try:
        s3_as("admin").delete_bucket(Bucket=name)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "NoSuchBucket"


@pytest.fixture
def play(
    tmp_path: Path, root: Path, state_dir: Path, s3_endpoint: str, lab_secrets: dict[str, str], bucket: str
) -> Play:
    """Runs the role from the controller; gives the number of changes, or the message it failed with."""

    def run(*options: str, **more: object) -> dict[str, Any]:
        values = {
            "object_store_bucket": bucket,
            "object_store_endpoint": s3_endpoint,
            "object_store_addressing_style": "path",
            "object_store_ca_file": str(state_dir / "pki" / "ca.crt"),
            "object_store_access_key": lab_secrets["s3_admin_access_key"],
            "object_store_secret_key": lab_secrets["s3_admin_secret_key"],
            "object_store_lock_mode": "GOVERNANCE",
            "object_store_lock_days": 2,
            **{f"object_store_{who}": f"arn:aws:iam:::user/{who}" for who in ("writer", "reader", "pruner")},
        } | {f"object_store_{name}": value for name, value in more.items()}
        environment = {
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.json",
            "ANSIBLE_CONFIG": str(root / "ansible.cfg"),
        }
        book = tmp_path / "play.yml"
        role: dict[str, Any] = {"hosts": "localhost", "gather_facts": False, "connection": "local"}
        book.write_text(json.dumps([role | {"roles": ["pharma.hardening.object_store"], "vars": values}]))
        done = subprocess.run(
            [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(book), *options],
            cwd=root,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        assert lab_secrets["s3_admin_secret_key"] not in done.stdout + done.stderr
        shown = json.loads(done.stdout[done.stdout.index("{") :])
        failed = [
            host["msg"]
            for part in shown["plays"]
            for task in part["tasks"]
            for host in task["hosts"].values()
            if host.get("failed")
        ]
        return {"changed": shown["stats"]["localhost"]["changed"], "failed": " ".join(failed)}

    return run


def test_a_bucket_is_made_and_kept(play: Play, s3_as: Connect, bucket: str) -> None:
    admin = s3_as("admin")
    assert play("--check", "--diff") == {"changed": 1, "failed": ""}
    assert bucket not in [one["Name"] for one in admin.list_buckets()["Buckets"]]
    assert play() == {"changed": 1, "failed": ""}
    assert admin.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    lock = admin.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    assert lock["Rule"]["DefaultRetention"] == {"Mode": "GOVERNANCE", "Days": 2}
    policy = json.loads(admin.get_bucket_policy(Bucket=bucket)["Policy"])
    assert "PrunerRemoves" in [statement["Sid"] for statement in policy["Statement"]]
    rules = admin.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    days = [
        rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        for rule in rules
        if "AbortIncompleteMultipartUpload" in rule
    ]
    assert days == [7]
    assert play() == {"changed": 0, "failed": ""}
    # What somebody loosened by hand comes back.
    admin.delete_bucket_policy(Bucket=bucket)
    admin.delete_bucket_lifecycle(Bucket=bucket)
    assert play() == {"changed": 1, "failed": ""}
    assert json.loads(admin.get_bucket_policy(Bucket=bucket)["Policy"]) == policy
    # A longer and stricter retention goes in; the way back must be asked for.
    assert play(lock_mode="COMPLIANCE", lock_days=3)["changed"] == 1
    assert "would be less" in play(lock_mode="COMPLIANCE", lock_days=2)["failed"]
    assert "would be less" in play(lock_days=3)["failed"]
    assert play(lock_days=2, loosen=True)["changed"] == 1


def test_what_cannot_be_is_refused_before_anything_is_touched(
    play: Play, s3_as: Connect, bucket: str, tmp_path: Path
) -> None:
    for more, word in (
        ({"bucket": ""}, "object_store_bucket"),
        ({"reader": "arn:aws:iam:::user/writer"}, "three different identities"),
        ({"lock_days": 0}, "object_store_lock_days"),
        ({"abort_days": 1}, "object_store_abort_days"),
        ({"secret_key": "not-the-key"}, "secret key is wrong"),
        ({"endpoint": "https://127.0.0.1:9"}, "cannot be reached"),
    ):
        assert word in play(**more)["failed"]  # type: ignore[arg-type]
    admin = s3_as("admin")
    assert bucket not in [one["Name"] for one in admin.list_buckets()["Buckets"]]
    admin.create_bucket(Bucket=bucket)
    assert "made without Object Lock" in play()["failed"]
    with pytest.raises(ClientError, match="NoSuchBucketPolicy"):
        admin.get_bucket_policy(Bucket=bucket)


def test_the_labs_bucket_removes_unfinished_uploads_by_itself(s3_as: Connect) -> None:
    rules = s3_as("admin").get_bucket_lifecycle_configuration(Bucket="pharma-backups")["Rules"]
    assert {rule["ID"] for rule in rules} == {"abort-unfinished-uploads", "expire-what-was-replaced"}
