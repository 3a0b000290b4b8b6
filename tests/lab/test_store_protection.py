# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may remove what from a real S3 gateway: locks at upload, and each refusal of each identity."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from pharma_ops.cli.main import main
from pharma_ops.errors import OpsError
from pharma_ops.store.base import NO_END, ObjectStore, Protection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "pharma-backups"
MIB = 1 << 20
Open = Callable[..., ObjectStore]
Connect = Callable[..., "S3Client"]


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(OpsError) as caught:
        call()
    assert caught.value.action
    return caught.value.code


def refused(act: Callable[[], Any]) -> bool:
    """Whether the store answers 403."""
    try:
        act()
    except ClientError as error:
        return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] == 403)
    return False


@pytest.fixture
def unlocked(s3_as: Connect, prefix: str, lab_policy: str) -> Iterator[str]:
    """A bucket with Object Lock but without a default retention, under the lab's policy."""
    admin, name = s3_as("admin"), f"free-{prefix.split('/')[1]}"
    admin.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    admin.put_bucket_policy(Bucket=name, Policy=lab_policy.replace("BUCKET", name))
    yield name
    # What a test locked stays for its days; what it locked not at all is removed with the bucket.
    for page in admin.get_paginator("list_object_versions").paginate(Bucket=name):
        for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            if not refused(
                lambda item=item: admin.delete_object(  # type: ignore[misc]
                    Bucket=name,
                    Key=item["Key"],
                    VersionId=item["VersionId"],
                    BypassGovernanceRetention=True,
                )
            ):
                continue
    if not admin.list_object_versions(Bucket=name).get("Versions"):
        admin.delete_bucket(Bucket=name)


def attacks(client: Any, where: dict[str, str], until: datetime) -> dict[str, Callable[[], Any]]:
    """What a stolen key would be tried for on a locked version."""

    def retention(kind: str, end: datetime) -> Callable[[], Any]:
        wanted = {"Mode": kind, "RetainUntilDate": end}
        return lambda: client.put_object_retention(**where, Retention=wanted, BypassGovernanceRetention=True)

    ends = {"now": datetime.now(tz=UTC) + timedelta(seconds=5), "earlier": until - timedelta(hours=1)}
    return {
        **{
            f"{kind}_{word}": retention(kind, end)
            for kind in ("GOVERNANCE", "COMPLIANCE")
            for word, end in ends.items()
        },
        "delete": lambda: client.delete_object(**where),
        "bypass": lambda: client.delete_object(**where, BypassGovernanceRetention=True),
        "hold": lambda: client.put_object_legal_hold(**where, LegalHold={"Status": "OFF"}),
    }


@pytest.mark.parametrize("size", [1, 17 * MIB])
@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_what_is_locked_at_upload_is_shortened_and_removed_by_nobody(
    open_as: Open, s3_as: Connect, unlocked: str, prefix: str, mode: str, size: int
) -> None:
    days = 2
    began = datetime.now(tz=UTC)
    if size > 16 * MIB:
        # What is uploaded in parts, radosgw locks by the bucket's default only; see the test below.
        default_retention(s3_as("admin"), unlocked, mode, days)
    writer = open_as("writer", bucket=unlocked, lock_mode=mode, lock_days=days)
    writer.put_stream("db/1/dump.age", iter((bytes(size),)))
    key = f"{prefix}db/1/dump.age"
    pruner = open_as("pruner", bucket=unlocked)
    until = pruner.locked_until("db/1/dump.age")
    assert until is not None
    assert timedelta(seconds=-1) <= until - began - timedelta(days=days) < timedelta(minutes=2)
    with pytest.raises(OpsError, match=f"{until:%Y-%m-%dT%H:%M}") as caught:
        pruner.delete("db/1/dump.age")
    assert caught.value.code == "STORE_OBJECT_LOCKED"
    [version] = s3_as("admin").list_object_versions(Bucket=unlocked, Prefix=key)["Versions"]
    where = {"Bucket": unlocked, "Key": key, "VersionId": version["VersionId"]}
    for user in ("writer", "pruner", "reader"):
        tried = attacks(s3_as(user), where, until)
        assert [name for name, act in tried.items() if not refused(act)] == []
    found = s3_as("reader").get_object_retention(Bucket=unlocked, Key=key, VersionId=version["VersionId"])
    assert found["Retention"]["Mode"] == mode
    assert found["Retention"]["RetainUntilDate"] == until
    # The difference between the modes: the owner may end GOVERNANCE, and nobody COMPLIANCE.
    ended = not refused(
        lambda: s3_as("admin").delete_object(
            Bucket=unlocked, Key=key, VersionId=version["VersionId"], BypassGovernanceRetention=True
        )
    )
    assert ended is (mode == "GOVERNANCE")


def default_retention(admin: Any, bucket: str, mode: str, days: int) -> None:
    admin.put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": mode, "Days": days}},
        },
    )


def test_radosgw_forgets_the_lock_of_an_upload_in_parts(open_as: Open, unlocked: str) -> None:
    """Why the bucket's default retention must be as long as the section's: `store check` warns of that."""
    writer = open_as("writer", bucket=unlocked, lock_mode="COMPLIANCE", lock_days=2)
    writer.put_stream("db/1/dump.age", iter((bytes(17 * MIB),)))
    pruner = open_as("pruner", bucket=unlocked)
    assert pruner.locked_until("db/1/dump.age") is None, "radosgw has learnt it: say so in docs/stores.md"
    pruner.delete("db/1/dump.age")


def test_the_default_retention_locks_what_asks_for_no_lock(open_as: Open) -> None:
    open_as("writer").put_bytes("db/1/manifest.json", b"x")
    pruner = open_as("pruner")
    until = pruner.locked_until("db/1/manifest.json")
    assert until is not None
    assert timedelta(hours=23) < until - datetime.now(tz=UTC) < timedelta(hours=25)
    assert code_of(lambda: pruner.delete("db/1/manifest.json")) == "STORE_OBJECT_LOCKED"


def test_a_removal_takes_every_version_and_marker(
    open_as: Open, s3_as: Connect, unlocked: str, prefix: str
) -> None:
    writer, pruner, admin = (open_as(user, bucket=unlocked) for user in ("writer", "pruner", "reader"))
    owner = s3_as("admin")
    for _ in range(3):
        writer.put_bytes("db/1/dump.age", b"x")
    owner.delete_object(Bucket=unlocked, Key=f"{prefix}db/1/dump.age")
    writer.put_bytes("db/1/dump.age.other", b"x")
    pruner.delete("db/1/dump.age")
    left = owner.list_object_versions(Bucket=unlocked, Prefix=prefix)
    assert [item["Key"] for item in left["Versions"]] == [f"{prefix}db/1/dump.age.other"]
    assert not left.get("DeleteMarkers")
    pruner.delete("db/1/dump.age")
    pruner.delete("db/1/never-was")
    assert [info.key for info in admin.list()] == ["db/1/dump.age.other"]


def test_one_locked_version_keeps_all(open_as: Open, s3_as: Connect, unlocked: str, prefix: str) -> None:
    open_as("writer", bucket=unlocked, lock_mode="GOVERNANCE", lock_days=1).put_bytes("db/1/x", b"true")
    open_as("writer", bucket=unlocked).put_bytes("db/1/x", b"false")
    assert code_of(lambda: open_as("pruner", bucket=unlocked).delete("db/1/x")) == "STORE_OBJECT_LOCKED"
    left = s3_as("admin").list_object_versions(Bucket=unlocked, Prefix=prefix)["Versions"]
    assert len(left) == 2


def test_a_legal_hold_has_no_end(open_as: Open, s3_as: Connect, unlocked: str, prefix: str) -> None:
    pruner, owner, key = open_as("pruner", bucket=unlocked), s3_as("admin"), f"{prefix}db/1/x"
    owner.put_object(Bucket=unlocked, Key=key, Body=b"x")
    assert pruner.locked_until("db/1/x") is None
    owner.put_object_legal_hold(Bucket=unlocked, Key=key, LegalHold={"Status": "ON"})
    try:
        assert pruner.locked_until("db/1/x") == NO_END
        with pytest.raises(OpsError, match="a legal hold ends"):
            pruner.delete("db/1/x")
    finally:
        owner.put_object_legal_hold(Bucket=unlocked, Key=key, LegalHold={"Status": "OFF"})
    pruner.delete("db/1/x")
    assert pruner.locked_until("db/1/x") is None


def test_neither_writer_nor_reader_removes_what_is_free(open_as: Open, unlocked: str) -> None:
    open_as("writer", bucket=unlocked).put_bytes("db/1/x", b"x")
    for user in ("writer", "reader"):
        store = open_as(user, bucket=unlocked)
        assert code_of(lambda: store.delete("db/1/x")) == "STORE_ACCESS_DENIED"  # noqa: B023
        assert code_of(lambda: list(store.unfinished_uploads())) == "STORE_ACCESS_DENIED"  # noqa: B023
    assert open_as("reader", bucket=unlocked).get_bytes("db/1/x") == b"x"


def test_the_pruner_reads_manifests_and_no_backup(open_as: Open, tmp_path: Path) -> None:
    writer, pruner = open_as("writer"), open_as("pruner")
    for name in ("manifest.json", "manifest.json.sig", "dump.age", "globals.sql.age"):
        writer.put_bytes(f"db/1/{name}", name.encode())
    assert pruner.get_bytes("db/1/manifest.json") == b"manifest.json"
    assert pruner.get_bytes("db/1/manifest.json.sig") == b"manifest.json.sig"
    for name in ("dump.age", "globals.sql.age"):
        assert code_of(lambda: pruner.get_bytes(f"db/1/{name}")) == "STORE_ACCESS_DENIED"  # noqa: B023
        assert code_of(lambda: pruner.get_file(f"db/1/{name}", tmp_path / "x")) == "STORE_ACCESS_DENIED"  # noqa: B023
    assert sorted(info.key for info in pruner.list("db/")) == [
        "db/1/dump.age", "db/1/globals.sql.age", "db/1/manifest.json", "db/1/manifest.json.sig"
    ]  # fmt: skip


def test_the_pruner_adds_and_changes_nothing(
    open_as: Open, s3_as: Connect, prefix: str, lab_policy: str
) -> None:
    open_as("writer").put_bytes("db/1/x", b"x")
    pruner, key = s3_as("pruner"), f"{prefix}db/1/x"
    rule = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    acts: dict[str, Callable[[], Any]] = {
        "put": lambda: pruner.put_object(Bucket=BUCKET, Key=key, Body=b"y"),
        "begin": lambda: pruner.create_multipart_upload(Bucket=BUCKET, Key=key),
        "policy": lambda: pruner.put_bucket_policy(
            Bucket=BUCKET, Policy=lab_policy.replace("BUCKET", BUCKET)
        ),
        "no_policy": lambda: pruner.delete_bucket_policy(Bucket=BUCKET),
        "lifecycle": lambda: pruner.put_bucket_lifecycle_configuration(
            Bucket=BUCKET,
            LifecycleConfiguration={"Rules": [rule]},  # type: ignore[typeddict-item,list-item]
        ),
        "versioning": lambda: pruner.put_bucket_versioning(
            Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}
        ),
        "lock": lambda: pruner.put_object_lock_configuration(
            Bucket=BUCKET, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
        ),
        "acl": lambda: pruner.put_object_acl(Bucket=BUCKET, Key=key, ACL="public-read"),
        "tag": lambda: pruner.put_object_tagging(Bucket=BUCKET, Key=key, Tagging={"TagSet": []}),
        "bucket": lambda: pruner.delete_bucket(Bucket=BUCKET),
    }
    assert [name for name, act in acts.items() if not refused(act)] == []
    assert open_as("reader").get_bytes("db/1/x") == b"x"


@pytest.mark.parametrize("user", ["reader", "pruner"])
def test_the_protection_is_told_to_who_may_ask(open_as: Open, unlocked: str, user: str) -> None:
    assert open_as(user).protection() == Protection(
        versioning=True, locking=True, lock_mode="COMPLIANCE", lock_days=1
    )
    assert open_as(user, bucket=unlocked).protection() == Protection(
        versioning=True, locking=True, lock_mode="", lock_days=0
    )


def test_the_protection_is_not_told_to_the_writer(open_as: Open) -> None:
    assert open_as("writer").protection() == Protection(
        versioning=None, locking=None, lock_mode=None, lock_days=None
    )


def test_a_bucket_without_lock_and_versions_is_known_and_named(
    open_as: Open, s3_as: Connect, prefix: str, tmp_path: Path, state_dir: Path, s3_endpoint: str,
    lab_policy: str, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    admin, name = s3_as("admin"), f"bare-{prefix.split('/')[1]}"
    admin.create_bucket(Bucket=name)
    try:
        admin.put_bucket_policy(Bucket=name, Policy=lab_policy.replace("BUCKET", name))
        bare = Protection(versioning=False, locking=False, lock_mode="", lock_days=0)
        assert open_as("reader", bucket=name).protection() == bare
        locking = open_as("writer", bucket=name, lock_mode="COMPLIANCE", lock_days=1)
        assert code_of(lambda: locking.put_bytes("db/x", b"x")) == "STORE_LOCK_UNAVAILABLE"
        settings = tmp_path / "config.toml"
        lines = ['environment = "lab"']
        for store, bucket in (("a", name), ("b", BUCKET)):
            lines += [
                f"[stores.{store}]", 'type = "s3"', f'endpoint = "{s3_endpoint}"', f'bucket = "{bucket}"',
                'addressing_style = "path"', f'ca_file = "{state_dir}/pki/ca.crt"',
                f'credentials_file = "{tmp_path}/reader.toml"',
            ]  # fmt: skip
        settings.write_text("\n".join(lines))
        assert main(["store", "check", "--json", "--config", str(settings)]) == 1
        first, second = json.loads(capsys.readouterr().out)["stores"]
        assert [one["level"] for one in first["findings"]] == ["warning", "warning"]
        assert (second["well"], second["findings"]) == (True, [])
        assert main(["store", "check", "--store", "b", "--lock-days", "30", "--config", str(settings)]) == 1
        shown = capsys.readouterr().out
        print(shown)
        assert "default retention is 1 day, wanted are 30 days" in shown
        # Without lock and versions a removal is one, and a missing lock is no error.
        open_as("writer", bucket=name).put_bytes("db/x", b"x")
        pruner = open_as("pruner", bucket=name)
        assert pruner.locked_until("db/x") is None
        pruner.delete("db/x")
        assert list(pruner.list()) == []
    finally:
        admin.delete_bucket(Bucket=name)


def test_the_store_encrypts_with_the_clients_key(open_as: Open, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    mine = {"sse": "customer", "sse_customer_key_file": key}
    writer, reader = open_as("writer", **mine), open_as("reader", **mine)
    writer.put_bytes("db/small", b"small")
    writer.put_stream("db/large", iter(bytes(MIB) for _ in range(40)))
    assert reader.get_bytes("db/small") == b"small"
    reader.get_file("db/large", tmp_path / "large")
    assert (tmp_path / "large").read_bytes() == bytes(40 * MIB)
    without = open_as("reader")
    assert code_of(lambda: without.get_bytes("db/small")).startswith("STORE_")
    key.write_bytes(bytes(32))
    other = open_as("reader", **mine)
    assert code_of(lambda: other.get_bytes("db/small")).startswith("STORE_")


def test_what_the_store_does_not_know_is_said(open_as: Open) -> None:
    for more in ({"storage_class": "NOT_A_CLASS"}, {"sse": "AES256"}):
        with pytest.raises(OpsError, match="db/x") as caught:
            open_as("writer", **more).put_bytes("db/x", b"x")
        assert caught.value.code == "STORE_REQUEST_FAILED"
        assert caught.value.action
    open_as("writer", storage_class="STANDARD").put_bytes("db/x", b"x")
