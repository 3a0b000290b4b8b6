# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store's section asks of a bucket, what contradicts itself, and what is said of its protection."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pharma_ops import config
from pharma_ops.cli.main import main
from pharma_ops.errors import OpsError
from pharma_ops.store import s3_client, s3_errors
from pharma_ops.store.base import UNPROTECTED, Protection
from pharma_ops.store.findings import findings
from pharma_ops.store.open import open_store
from pharma_ops.store.s3_options import options

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def section(**more: Any) -> config.Store:
    return config.Store(**({"type": "s3", "bucket": "b", "endpoint": "https://s3:1"} | more))


def test_the_lock_counts_from_the_upload() -> None:
    made = options(section(lock_mode="COMPLIANCE", lock_days=30))
    assert made.created(NOW) == {
        "ObjectLockMode": "COMPLIANCE",
        "ObjectLockRetainUntilDate": NOW + timedelta(days=30),
    }
    assert made.content == {}
    assert options(section()).created(NOW) == {}


def test_class_and_encryption_are_asked_for() -> None:
    made = options(section(storage_class="STANDARD_IA", sse="aws:kms", sse_kms_key_id="key"))
    assert made.new == {
        "StorageClass": "STANDARD_IA",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "key",
    }
    assert options(section(sse="AES256")).new == {"ServerSideEncryption": "AES256"}


@pytest.mark.parametrize("text", [bytes(range(32)), base64.b64encode(bytes(range(32))) + b"\n"])
def test_the_clients_key_goes_with_every_content(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(text)
    made = options(section(sse="customer", sse_customer_key_file=path))
    assert made.content["SSECustomerKey"] == base64.b64encode(bytes(range(32))).decode()
    assert made.created(NOW) == made.content


@pytest.mark.parametrize("text", [b"", b"short", b"x" * 31, b"x" * 33, base64.b64encode(b"x" * 31)])
def test_a_file_that_holds_no_key_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(text)
    with pytest.raises(OpsError, match=str(path)) as caught:
        open_store(section(sse="customer", sse_customer_key_file=path))
    assert caught.value.code == "STORE_KEY_INVALID"
    path.unlink()
    with pytest.raises(OpsError, match="No such file"):
        open_store(section(sse="customer", sse_customer_key_file=path))


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"lock_mode": "GOVERNANCE"}, "lock_days"),
        ({"lock_days": 3}, "lock_mode"),
        ({"lock_mode": "GOVERNANCE", "lock_days": -1}, "lock_days"),
        ({"sse": "customer"}, "sse_customer_key_file"),
        ({"sse_customer_key_file": Path("/k")}, "sse"),
        ({"sse_kms_key_id": "k"}, "aws:kms"),
        ({"sse": "customer", "sse_customer_key_file": Path("/k"), "endpoint": "http://s3"}, "https"),
        ({"bandwidth_limit": -1}, "bandwidth_limit"),
    ],
)
def test_what_contradicts_itself_is_refused(more: dict[str, Any], word: str) -> None:
    with pytest.raises(OpsError, match=word) as caught:
        open_store(section(**more))
    assert caught.value.code == "CONFIG_INVALID"


@pytest.mark.parametrize(
    "more", [{"lock_mode": "COMPLIANCE", "lock_days": 1}, {"sse": "AES256"}, {"storage_class": "GLACIER"}]
)
def test_a_directory_is_not_asked_for_what_it_cannot_do(tmp_path: Path, more: dict[str, Any]) -> None:
    with pytest.raises(OpsError, match="a directory knows no") as caught:
        open_store(config.Store(type="local", path=tmp_path, **more))
    assert caught.value.code == "CONFIG_INVALID"


LOCKED = Protection(versioning=True, locking=True, lock_mode="COMPLIANCE", lock_days=30)
OPEN = Protection(versioning=False, locking=False, lock_mode="", lock_days=0)
NOT_TOLD = Protection(versioning=None, locking=None, lock_mode=None, lock_days=None)


@pytest.mark.parametrize(
    ("spec", "protection", "wanted", "warnings", "notes"),
    [
        (section(), LOCKED, 0, [], []),
        (section(), LOCKED, 30, [], []),
        (section(), LOCKED, 31, ["30 days, wanted are 31 days: uploads get less"], []),
        (
            section(lock_mode="COMPLIANCE", lock_days=60),
            LOCKED,
            0,
            ["with radosgw large ones, get less"],
            [],
        ),
        (section(lock_mode="COMPLIANCE", lock_days=60), LOCKED, 90, ["wanted are 90 days: uploads get"], []),
        (section(), OPEN, 0, ["keeps no versions", "cannot lock"], []),
        (section(), NOT_TOLD, 9, [], ["may not ask"]),
        (
            section(),
            Protection(versioning=True, locking=True, lock_mode="", lock_days=0),
            0,
            ["uploaded without a lock"],
            [],
        ),
        (
            section(lock_mode="GOVERNANCE", lock_days=1),
            Protection(versioning=True, locking=True, lock_mode="GOVERNANCE", lock_days=1),
            0,
            [],
            ["BypassGovernanceRetention"],
        ),
        (section(storage_class="DEEP_ARCHIVE"), LOCKED, 0, ["cannot be read for hours"], []),
        (section(endpoint="http://s3"), LOCKED, 0, ["http://"], []),
        (config.Store(type="local", path=Path("/x")), UNPROTECTED, 0, [], ["locks nothing"]),
    ],
)
def test_what_is_said_of_a_store(
    spec: config.Store, protection: Protection, wanted: int, warnings: list[str], notes: list[str]
) -> None:
    found = findings(spec, protection, wanted)
    for level, words in (("warning", warnings), ("note", notes)):
        texts = [one.text for one in found if one.level == level]
        assert len(texts) == len(words), texts
        assert all(word in text for word, text in zip(words, texts, strict=True)), texts
    assert all(one.action for one in found)


def test_one_store_that_fails_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    path = tmp_path / "config.toml"
    path.write_text(
        f'environment = "lab"\n[stores.a]\ntype = "local"\npath = "{tmp_path}/absent"\n'
        f'[stores.b]\ntype = "local"\npath = "{tmp_path}/there"\n'
    )
    assert main(["store", "check", "--json", "--config", str(path)]) == 1
    first, second = json.loads(capsys.readouterr().out)["stores"]
    assert (first["well"], first["error"]["code"]) == (False, "STORE_UNREACHABLE")
    assert (second["well"], second["protection"]["locking"]) == (True, False)
    assert main(["store", "check", "--store", "b", "--config", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "✓ b  directory" in shown
    assert "locks nothing" in shown
    assert main(["store", "check", "--store", "c", "--config", str(path)]) == 2
    path.write_text('environment = "lab"\n')
    assert main(["store", "check", "--config", str(path)]) == 2
    assert "names no store" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"Error": {"Code": "AuthorizationHeaderMalformed", "Region": "sa-east-1"}},
            ["sa-east-1", "us-east-1"],
        ),
        (
            {
                "Error": {"Code": "PermanentRedirect"},
                "ResponseMetadata": {"HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"}},
            },
            ["eu-west-1", "us-east-1"],
        ),
        ({"Error": {"Code": "301"}}, ["another region", "us-east-1"]),
    ],
)
def test_a_wrong_region_is_told_with_both(answer: dict[str, Any], words: list[str]) -> None:
    error = s3_errors.translated(ClientError(answer, "PutObject"), "s3://b", "k", "us-east-1")  # type: ignore[arg-type]
    assert error.code == "STORE_REGION_WRONG"
    assert all(word in error.message for word in words)


@pytest.mark.parametrize(
    "text",
    ["2026-11-25T12:00:00.000Z", "2026-11-25T12:00:00+00:00", "Wed, 25 Nov 2026 12:00:00 GMT", 1795608000],
)
def test_the_times_of_answers_are_read(text: str | int) -> None:
    assert s3_client.moment(text) == NOW
    assert s3_client.moment(text).tzinfo is not None
