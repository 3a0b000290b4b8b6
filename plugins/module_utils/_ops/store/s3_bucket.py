# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bucket brought to what backups need: versions, Object Lock, default retention, policy, lifecycle.

The owner's identity does this, from a controller; no host holds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .. import _deps
from ..errors import OpsError
from . import s3_errors, s3_removal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """How a bucket is, or is to be.

    :ivar lock_mode: of the default retention; empty: there is none.
    :ivar policy: the bucket's policy; None: there is none, or it is not to be touched.
    :ivar lifecycle: its rules in the words of the API; None as with the policy.
    """

    exists: bool = True
    versioning: bool = True
    locking: bool = True
    lock_mode: str = ""
    lock_days: int = 0
    policy: dict[str, Any] | None = None
    lifecycle: list[dict[str, Any]] | None = field(default=None)

    def as_dict(self) -> dict[str, Any]:
        """As a diff shows it."""
        return {
            "exists": self.exists,
            "versioning": self.versioning,
            "object_lock": self.locking,
            "default_retention": {"mode": self.lock_mode, "days": self.lock_days},
            "policy": self.policy,
            "lifecycle": self.lifecycle,
        }


ABSENT = Bucket(exists=False, versioning=False, locking=False)


def plan(found: Bucket, wanted: Bucket, *, loosen: bool) -> list[str]:
    """The changes that are needed, by their names and in the order in which they are made.

    :param loosen: whether a retention may be shortened or its mode be lowered.
    :raises OpsError: ``STORE_LOCK_UNAVAILABLE`` when the bucket is there without Object Lock,
        ``STORE_LOOSENING_REFUSED``.
    """
    if found.exists and wanted.locking and not found.locking:
        raise OpsError(
            "STORE_LOCK_UNAVAILABLE",
            "The bucket is there, but was made without Object Lock.",
            "Name another bucket, which is made with it; or switch the lock on where the store can (AWS).",
        )
    if not loosen and _looser(found, wanted):
        raise OpsError(
            "STORE_LOOSENING_REFUSED",
            f"The default retention is {found.lock_mode} for {found.lock_days} days; "
            f"{wanted.lock_mode or 'none'} for {wanted.lock_days} would be less.",
            "Ask for at least what there is, or say that less is meant (loosen).",
        )
    changes = [] if found.exists else ["bucket"]
    if wanted.versioning and not found.versioning and not wanted.locking:
        changes.append("versioning")
    if (wanted.lock_mode, wanted.lock_days) != (found.lock_mode, found.lock_days):
        changes.append("default_retention")
    if wanted.policy is not None and canonical(wanted.policy) != canonical(found.policy):
        changes.append("policy")
    if wanted.lifecycle is not None and _rules(wanted.lifecycle) != _rules(found.lifecycle or []):
        changes.append("lifecycle")
    return changes


def after(found: Bucket, wanted: Bucket) -> Bucket:
    """How the bucket is when the changes are made."""
    return replace(
        wanted,
        policy=found.policy if wanted.policy is None else wanted.policy,
        lifecycle=found.lifecycle if wanted.lifecycle is None else wanted.lifecycle,
    )


def _looser(found: Bucket, wanted: Bucket) -> bool:
    if not found.lock_mode:
        return False
    lower = found.lock_mode == "COMPLIANCE" and wanted.lock_mode != "COMPLIANCE"
    return lower or wanted.lock_days < found.lock_days


def canonical(value: Any) -> Any:
    """A policy in one form: a list of one is the value itself, the order of a list says nothing."""
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        items = sorted((canonical(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
        return items[0] if len(items) == 1 else items
    return value


def _rules(rules: list[dict[str, Any]]) -> Any:
    """Rules in one form; radosgw gives a filter's prefix back in the place of the filter."""
    plain = []
    for rule in rules:
        prefix = rule.get("Filter", {}).get("Prefix", rule.get("Prefix", ""))
        rest = {key: value for key, value in rule.items() if key not in ("Filter", "Prefix")}
        others = {key: value for key, value in rule.get("Filter", {}).items() if key != "Prefix"}
        plain.append(rest | {"Prefix": prefix} | ({"Filter": others} if others else {}))
    return sorted((canonical(rule) for rule in plain), key=lambda rule: json.dumps(rule, sort_keys=True))


def read(client: S3Client, bucket: str) -> Bucket:
    """How the bucket is; errors of botocore pass through."""
    try:
        versioning = client.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled"
    except _deps.load("botocore.exceptions").ClientError as error:
        if s3_removal.error_code(error) != "NoSuchBucket":
            raise
        return ABSENT
    lock = (
        _found(lambda: client.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]) or {}
    )
    rule = lock.get("Rule", {}).get("DefaultRetention", {})
    policy = _found(lambda: client.get_bucket_policy(Bucket=bucket)["Policy"])
    lifecycle = _found(lambda: client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"])
    return Bucket(
        versioning=versioning,
        locking=lock.get("ObjectLockEnabled") == "Enabled",
        lock_mode=rule.get("Mode", ""),
        lock_days=rule.get("Days") or rule.get("Years", 0) * 365,
        policy=json.loads(policy) if policy else None,
        lifecycle=lifecycle,
    )


def apply(client: S3Client, bucket: str, wanted: Bucket, changes: list[str], region: str) -> None:
    """Make the changes; errors of botocore pass through."""
    made: dict[str, Callable[[], object]] = {
        "bucket": lambda: client.create_bucket(
            Bucket=bucket, ObjectLockEnabledForBucket=wanted.locking, **_place(client, region)
        ),
        "versioning": lambda: client.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        ),
        "default_retention": lambda: client.put_object_lock_configuration(
            Bucket=bucket, ObjectLockConfiguration=_retention(wanted)
        ),
        "policy": lambda: client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(wanted.policy)),
        "lifecycle": lambda: client.put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={"Rules": wanted.lifecycle},  # type: ignore[typeddict-item]
        ),
    }
    for change in changes:
        made[change]()


def ensure(
    client: S3Client, bucket: str, wanted: Bucket, *, region: str, loosen: bool, check: bool, where: str
) -> tuple[list[str], Bucket, Bucket]:
    """Bring a bucket to what is wanted.

    :param check: only say what would be done.
    :param where: the store, for messages.
    :returns: the changes, the bucket before and after.
    :raises OpsError: as :func:`plan`; ``STORE_…`` for what the store refuses.
    """
    exceptions = _deps.load("botocore.exceptions")
    try:
        found = read(client, bucket)
        changes = plan(found, wanted, loosen=loosen)
        if not check:
            apply(client, bucket, wanted, changes, region)
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        raise s3_errors.translated(error, where, region=region) from error
    return changes, found, after(found, wanted)


def _place(client: S3Client, region: str) -> dict[str, Any]:
    """AWS wants to be told where, except in its first region; other servers have one region."""
    aws = client.meta.endpoint_url.rstrip("/").endswith(".amazonaws.com")
    if not aws or region == "us-east-1":
        return {}
    return {"CreateBucketConfiguration": {"LocationConstraint": region}}


def _retention(wanted: Bucket) -> Any:
    if not wanted.lock_mode:
        return {"ObjectLockEnabled": "Enabled"}
    default = {"Mode": wanted.lock_mode, "Days": wanted.lock_days}
    return {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": default}}


def _found(ask: Callable[[], Any]) -> Any:
    """The answer, None when the bucket has no such thing."""
    try:
        return ask()
    except _deps.load("botocore.exceptions").ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
