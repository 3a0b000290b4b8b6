# SPDX-License-Identifier: GPL-3.0-or-later
"""The three identities of the object store can do what they are for, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError, SSLError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "pharma-backups"
MIB = 1 << 20
Connect = Callable[..., "S3Client"]
Act = Callable[["S3Client", str, str], Any]


def status_of(act: Callable[[], Any]) -> tuple[int, str]:
    """HTTP status and error code with which the store answers."""
    try:
        act()
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return 200, ""


@pytest.fixture
def stored(s3_as: Connect, prefix: str) -> tuple[str, str]:
    """Key and version of an object that the writer has put."""
    key = f"{prefix}object"
    answer = s3_as("writer").put_object(Bucket=BUCKET, Key=key, Body=b"sealed")
    return key, answer["VersionId"]


def bypass(s3: S3Client, key: str, version: str) -> Any:
    return s3.delete_object(Bucket=BUCKET, Key=key, VersionId=version, BypassGovernanceRetention=True)


def shorten(s3: S3Client, key: str, version: str) -> Any:
    soon = datetime.now(UTC) + timedelta(seconds=5)
    return s3.put_object_retention(
        Bucket=BUCKET,
        Key=key,
        VersionId=version,
        Retention={"Mode": "COMPLIANCE", "RetainUntilDate": soon},
        BypassGovernanceRetention=True,
    )


def open_to_all(s3: S3Client, key: str, _version: str) -> Any:
    return s3.put_object_acl(Bucket=BUCKET, Key=key, ACL="public-read")


READS: dict[str, Act] = {
    "get": lambda s3, key, _version: s3.get_object(Bucket=BUCKET, Key=key),
    "get_version": lambda s3, key, version: s3.get_object(Bucket=BUCKET, Key=key, VersionId=version),
    "head": lambda s3, key, _version: s3.head_object(Bucket=BUCKET, Key=key),
    "list": lambda s3, key, _version: s3.list_objects_v2(Bucket=BUCKET, Prefix=key),
    "list_versions": lambda s3, key, _version: s3.list_object_versions(Bucket=BUCKET, Prefix=key),
}
DESTRUCTION: dict[str, Act] = {
    "delete": lambda s3, key, _version: s3.delete_object(Bucket=BUCKET, Key=key),
    "delete_version": lambda s3, key, version: s3.delete_object(Bucket=BUCKET, Key=key, VersionId=version),
    "bypass_retention": bypass,
    "shorten_retention": shorten,
    "policy": lambda s3, _key, _version: s3.put_bucket_policy(
        Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": []})
    ),
    "lifecycle": lambda s3, _key, _version: s3.put_bucket_lifecycle_configuration(
        Bucket=BUCKET,
        LifecycleConfiguration={
            "Rules": [{"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]
        },
    ),
    "suspend_versioning": lambda s3, _key, _version: s3.put_bucket_versioning(
        Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}
    ),
    "object_acl": open_to_all,
    "delete_bucket": lambda s3, _key, _version: s3.delete_bucket(Bucket=BUCKET),
}


@pytest.mark.parametrize("name", [*READS, *DESTRUCTION])
def test_writer_can_neither_read_nor_destroy(name: str, s3_as: Connect, stored: tuple[str, str]) -> None:
    act = (READS | DESTRUCTION)[name]
    status, _ = status_of(lambda: act(s3_as("writer"), *stored))
    assert status == 403
    found = s3_as("reader").get_object(Bucket=BUCKET, Key=stored[0], VersionId=stored[1])
    assert found["Body"].read() == b"sealed"


@pytest.mark.parametrize("name", list(READS))
def test_reader_reads_what_the_writer_put(name: str, s3_as: Connect, stored: tuple[str, str]) -> None:
    assert status_of(lambda: READS[name](s3_as("reader"), *stored)) == (200, "")


@pytest.mark.parametrize("name", list(DESTRUCTION))
def test_reader_destroys_nothing(name: str, s3_as: Connect, stored: tuple[str, str]) -> None:
    assert status_of(lambda: DESTRUCTION[name](s3_as("reader"), *stored))[0] == 403


def test_reader_cannot_put(s3_as: Connect, prefix: str) -> None:
    reader = s3_as("reader")
    assert status_of(lambda: reader.put_object(Bucket=BUCKET, Key=f"{prefix}x", Body=b"x"))[0] == 403
    assert status_of(lambda: reader.create_multipart_upload(Bucket=BUCKET, Key=f"{prefix}x"))[0] == 403


@pytest.mark.parametrize("name", ["delete_version", "bypass_retention", "shorten_retention"])
def test_retention_binds_the_owner_too(name: str, s3_as: Connect, stored: tuple[str, str]) -> None:
    assert status_of(lambda: DESTRUCTION[name](s3_as("admin"), *stored))[0] == 403
    retention = s3_as("reader").get_object_retention(Bucket=BUCKET, Key=stored[0], VersionId=stored[1])
    assert retention["Retention"]["Mode"] == "COMPLIANCE"
    assert retention["Retention"]["RetainUntilDate"] > datetime.now(UTC) + timedelta(hours=23)


def test_overwriting_keeps_the_earlier_version(s3_as: Connect, stored: tuple[str, str]) -> None:
    key, version = stored
    s3_as("writer").put_object(Bucket=BUCKET, Key=key, Body=b"overwritten")
    reader = s3_as("reader")
    assert reader.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"overwritten"
    assert reader.get_object(Bucket=BUCKET, Key=key, VersionId=version)["Body"].read() == b"sealed"


def test_a_delete_marker_of_the_owner_hides_but_keeps(s3_as: Connect, stored: tuple[str, str]) -> None:
    key, version = stored
    assert s3_as("admin").delete_object(Bucket=BUCKET, Key=key)["DeleteMarker"] is True
    reader = s3_as("reader")
    assert status_of(lambda: reader.get_object(Bucket=BUCKET, Key=key))[0] == 404
    assert reader.get_object(Bucket=BUCKET, Key=key, VersionId=version)["Body"].read() == b"sealed"


def test_writer_uploads_in_parts(s3_as: Connect, prefix: str) -> None:
    writer, key = s3_as("writer"), f"{prefix}parts"
    parts = [os.urandom(5 * MIB), os.urandom(5 * MIB), os.urandom(MIB)]
    upload = writer.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    tags = []
    for number, part in enumerate(parts, start=1):
        answer = writer.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=number, Body=part)
        tags.append({"PartNumber": number, "ETag": answer["ETag"]})
    assert status_of(lambda: s3_as("reader").get_object(Bucket=BUCKET, Key=key))[0] == 404
    writer.complete_multipart_upload(
        Bucket=BUCKET,
        Key=key,
        UploadId=upload,
        MultipartUpload={"Parts": tags},  # type: ignore[typeddict-item]
    )
    assert s3_as("reader").get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"".join(parts)


def test_writer_abandons_an_upload(s3_as: Connect, prefix: str) -> None:
    writer, key = s3_as("writer"), f"{prefix}abandoned"
    upload = writer.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    writer.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"x")
    writer.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload)
    under_way = s3_as("admin").list_multipart_uploads(Bucket=BUCKET, Prefix=key)
    assert under_way.get("Uploads", []) == []


def test_writer_puts_into_no_other_bucket(s3_as: Connect, prefix: str) -> None:
    name = f"other-{prefix.split('/')[1]}"
    admin = s3_as("admin")
    admin.create_bucket(Bucket=name)
    try:
        put = status_of(lambda: s3_as("writer").put_object(Bucket=name, Key="x", Body=b"x"))
        assert put == (403, "AccessDenied")
    finally:
        admin.delete_bucket(Bucket=name)


def test_a_wrong_secret_is_refused(s3_as: Connect, prefix: str) -> None:
    stranger = s3_as("writer", secret_key="wrong")
    status, code = status_of(lambda: stranger.put_object(Bucket=BUCKET, Key=f"{prefix}x", Body=b"x"))
    assert (status, code) == (403, "SignatureDoesNotMatch")


def test_the_store_is_known_by_the_labs_authority_only(
    state_dir: Path, s3_endpoint: str, tmp_path: Path
) -> None:
    stranger = tmp_path / "ca.crt"
    stranger.write_bytes((state_dir / "pki" / "db1.crt").read_bytes())
    s3 = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        verify=str(stranger),
    )
    with pytest.raises(SSLError):
        s3.list_buckets()
