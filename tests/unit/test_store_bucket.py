# SPDX-License-Identifier: GPL-3.0-or-later
"""What is changed on a bucket, and that the ready-made policies say the same thing everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops.errors import OpsError
from pharma_ops.store.s3_bucket import ABSENT, Bucket, after, plan

RULE = {
    "ID": "a",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
}
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:b", "s3:a"]}]}
WANTED = Bucket(lock_mode="COMPLIANCE", lock_days=30, policy=POLICY, lifecycle=[RULE])
modes = st.sampled_from(["GOVERNANCE", "COMPLIANCE"])
buckets = st.builds(
    lambda mode, days, policy, lifecycle: Bucket(
        lock_mode=mode, lock_days=days, policy=policy, lifecycle=lifecycle
    ),
    modes,
    st.integers(1, 60),
    st.sampled_from([None, POLICY, {"Version": "2012-10-17", "Statement": []}]),
    st.sampled_from([None, [], [RULE]]),
)


def test_a_new_bucket_gets_everything() -> None:
    assert plan(ABSENT, WANTED, loosen=False) == ["bucket", "default_retention", "policy", "lifecycle"]


@given(buckets, buckets)
def test_what_was_planned_is_wanted_no_more(found: Bucket, wanted: Bucket) -> None:
    plan(found, wanted, loosen=True)
    assert plan(after(found, wanted), wanted, loosen=False) == []


@given(buckets, buckets)
def test_nothing_becomes_looser_unless_it_is_said(found: Bucket, wanted: Bucket) -> None:
    lower = found.lock_mode == "COMPLIANCE" and wanted.lock_mode == "GOVERNANCE"
    if lower or wanted.lock_days < found.lock_days:
        with pytest.raises(OpsError) as caught:
            plan(found, wanted, loosen=False)
        assert caught.value.code == "STORE_LOOSENING_REFUSED"
    else:
        plan(found, wanted, loosen=False)


def test_dropping_the_retention_is_looser_too() -> None:
    with pytest.raises(OpsError, match="none for 0"):
        plan(WANTED, replace(WANTED, lock_mode="", lock_days=0), loosen=False)


def test_what_stores_write_otherwise_is_the_same() -> None:
    """AWS makes a list of one its value and shuffles actions; radosgw turns a filter into a prefix."""
    policy = {"Statement": {"Action": ["s3:a", "s3:b"], "Effect": "Allow"}, "Version": "2012-10-17"}
    rule = {key: value for key, value in RULE.items() if key != "Filter"} | {"Prefix": ""}
    assert plan(replace(WANTED, policy=policy, lifecycle=[rule]), WANTED, loosen=False) == []
    assert plan(replace(WANTED, lifecycle=[rule | {"Prefix": "x"}]), WANTED, loosen=False) == ["lifecycle"]


def test_a_bucket_without_lock_is_refused() -> None:
    bare = replace(WANTED, locking=False, versioning=False, lock_mode="", lock_days=0)
    with pytest.raises(OpsError) as caught:
        plan(bare, WANTED, loosen=True)
    assert caught.value.code == "STORE_LOCK_UNAVAILABLE"


def read(root: Path, name: str) -> Any:
    return json.loads(root.joinpath("docs/policies", name).read_text(encoding="utf-8"))


def granted(document: Any, who: str = "") -> set[tuple[str, str]]:
    """(action, resource) that a document allows, of a bucket's policy to one principal."""
    return {
        (action, resource)
        for statement in document["Statement"]
        if statement["Effect"] == "Allow" and (not who or statement["Principal"] == {"AWS": [who]})
        for action in statement["Action"]
        for resource in statement["Resource"]
    }


@pytest.mark.parametrize("who", ["writer", "reader", "pruner"])
def test_an_identity_has_the_same_rights_wherever_they_are_written(root: Path, who: str) -> None:
    of_user = granted(read(root, f"aws-iam-{who}.json"))
    assert of_user == granted(read(root, f"minio-{who}.json"))
    of_bucket = granted(read(root, "bucket-policy.json"), who.upper())
    # An action on objects means nothing on a bucket, and the other way round: compare what has a meaning.
    assert {action for action, _resource in of_bucket} == {action for action, _resource in of_user}
    assert of_user <= of_bucket


def test_the_role_applies_what_is_documented(root: Path) -> None:
    role = root / "roles/object_store"
    assert json.loads(role.joinpath("files/bucket-policy.json").read_text()) == read(
        root, "bucket-policy.json"
    )
    defaults = yaml.safe_load(role.joinpath("defaults/main.yml").read_text())
    text = role.joinpath("vars/main.yml").read_text()
    for name in ("abort_days", "noncurrent_days"):
        text = text.replace(f'"{{{{ object_store_{name} | int }}}}"', str(defaults[f"object_store_{name}"]))
    assert yaml.safe_load(text)["__object_store_lifecycle"] == read(root, "lifecycle.json")["Rules"]


@pytest.mark.parametrize("who", ["writer", "reader", "pruner"])
def test_nobody_may_end_a_lock(root: Path, who: str) -> None:
    allowed = {action for action, _ in granted(read(root, f"aws-iam-{who}.json"))}
    assert not [action for action in allowed if "Bypass" in action or action.endswith("*")]
    assert not allowed & {
        "s3:PutObjectRetention",
        "s3:PutObjectLegalHold",
        "s3:PutBucketObjectLockConfiguration",
    }
    deletes = {action for action in allowed if action.startswith("s3:Delete")}
    assert deletes == ({"s3:DeleteObject", "s3:DeleteObjectVersion"} if who == "pruner" else set())
