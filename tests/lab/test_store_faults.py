# SPDX-License-Identifier: GPL-3.0-or-later
"""Uploads to a real S3 gateway while the way to it, its room or the credentials fail."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from front import Front, front, refusal

from content import MIB, blocks, digest_of
from pharma_ops.errors import OpsError
from pharma_ops.store import patience, s3_client
from pharma_ops.store.base import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "pharma-backups"
Open = Callable[..., ObjectStore]
Connect = Callable[..., "S3Client"]
OnHost = Callable[..., str]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits between our own tries are cut short; the client's cannot be, so it tries twice only."""
    monkeypatch.setattr(patience, "BASE_SECONDS", 0.05)
    monkeypatch.setattr(s3_client, "ATTEMPTS", 2)


@pytest.fixture
def bad_way(state_dir: Path, s3_endpoint: str, root: Path) -> Iterator[Front]:
    host, port = s3_endpoint.removeprefix("https://").split(":")
    with front((host, int(port)), state_dir, root) as made:
        yield made


def arrived(open_as: Open, tmp_path: Path) -> str:
    """Digest of the object as the reader gets it, past the front."""
    open_as("reader").get_file("db/x", tmp_path / "back")
    return hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest()


def unfinished(open_as: Open) -> list[str]:
    return [upload.key for upload in open_as("pruner").unfinished_uploads()]


def code_of(call: Callable[[], object]) -> OpsError:
    with pytest.raises(OpsError) as caught:
        call()
    return caught.value


BUSY = refusal(503, "SlowDown")


@pytest.mark.parametrize(
    ("what", "faults"),
    [
        ("CreateMultipartUpload", [BUSY, "reset"]),
        ("UploadPart", ["pass", *[BUSY] * 7]),
        ("UploadPart", ["pass", "reset", "pass", "reset", "reset"]),
        ("UploadPart", ["lose", "lose"]),
        ("UploadPart", ["corrupt", "pass", "corrupt"]),
        ("CompleteMultipartUpload", [BUSY, "reset", refusal(500, "InternalError")]),
        ("CompleteMultipartUpload", ["lose"]),
    ],
)
def test_a_store_that_stumbles_in_the_middle_gets_the_whole(
    open_as: Open, bad_way: Front, tmp_path: Path, what: str, faults: list[str | tuple[int, bytes]]
) -> None:
    bad_way.break_(what, *faults)
    stored = open_as("writer", endpoint=bad_way.endpoint).put_stream("db/x", blocks(50))
    assert [seen for seen in bad_way.seen if seen[0] == what and seen[1] != "pass"]
    assert bad_way.next(what) == "pass", "every fault has happened"
    assert stored.sha256 == digest_of(50) == arrived(open_as, tmp_path)
    assert unfinished(open_as) == []


@pytest.mark.parametrize("faults", [[BUSY] * 6, ["reset"] * 3, ["corrupt"], ["lose"]])
def test_so_does_a_small_object(
    open_as: Open, bad_way: Front, tmp_path: Path, faults: list[str | tuple[int, bytes]]
) -> None:
    bad_way.break_("PutObject", *faults)
    open_as("writer", endpoint=bad_way.endpoint).put_bytes("db/x", b"manifest")
    assert bad_way.next("PutObject") == "pass"
    assert open_as("reader").get_bytes("db/x") == b"manifest"


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ("corrupt", "STORE_TRANSFER_DAMAGED"),
        (BUSY, "STORE_BUSY"),
        ("reset", "STORE_UNREACHABLE"),
        (refusal(400, "ExpiredToken"), "STORE_CREDENTIALS_EXPIRED"),
    ],
)
def test_what_does_not_pass_is_named_and_leaves_nothing(
    open_as: Open,
    bad_way: Front,
    monkeypatch: pytest.MonkeyPatch,
    faults: str | tuple[int, bytes],
    code: str,
) -> None:
    monkeypatch.setattr(patience, "ROUNDS", 2)
    bad_way.break_("UploadPart", "pass", faults, forever=True)
    error = code_of(lambda: open_as("writer", endpoint=bad_way.endpoint).put_stream("db/x", blocks(40)))
    assert error.code == code
    assert error.action
    assert "may remain" not in error.action
    assert list(open_as("reader").list()) == []
    assert unfinished(open_as) == []


def test_a_download_goes_on_where_the_connection_broke(open_as: Open, bad_way: Front, tmp_path: Path) -> None:
    open_as("writer").put_stream("db/x", blocks(40))
    bad_way.break_("GetObject", "cut", BUSY, "reset", "cut")
    open_as("reader", endpoint=bad_way.endpoint).get_file("db/x", tmp_path / "back")
    assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == digest_of(40)
    assert bad_way.next("GetObject") == "pass"
    bad_way.break_("GetObject", "cut")
    open_as("writer").put_bytes("db/y", b"12345678")
    assert open_as("reader", endpoint=bad_way.endpoint).get_bytes("db/y") == b"12345678"


def test_credentials_that_expire_and_may_not_even_abort(open_as: Open, bad_way: Front) -> None:
    expired = refusal(400, "ExpiredToken")
    bad_way.break_("UploadPart", "pass", expired, forever=True)
    bad_way.break_("AbortMultipartUpload", expired, forever=True)
    error = code_of(lambda: open_as("writer", endpoint=bad_way.endpoint).put_stream("db/x", blocks(40)))
    assert error.code == "STORE_CREDENTIALS_EXPIRED"
    assert "parts of db/x sent so far may remain" in error.action
    swept(open_as)


def swept(open_as: Open) -> None:
    """The pruner finds what was left and removes it."""
    pruner = open_as("pruner")
    [left] = pruner.unfinished_uploads()
    assert left.key == "db/x"
    pruner.abort_upload(left)
    assert list(pruner.unfinished_uploads()) == []
    pruner.abort_upload(left)


def test_credentials_revoked_in_mid_upload(
    open_as: Open, on_host: OnHost, lab_secrets: dict[str, str]
) -> None:
    """The writer gets a second key, which is taken away while it is in use."""
    own = lab_secrets["s3_writer_access_key"]
    keys = json.loads(on_host("s3", "radosgw-admin key create --uid=writer --gen-access-key --gen-secret"))[
        "keys"
    ]
    [key] = [one for one in keys if one["access_key"] != own]
    revoke = f"radosgw-admin key rm --uid=writer --access-key={key['access_key']}"

    def revoked() -> Iterator[bytes]:
        yield from blocks(20)
        on_host("s3", revoke)
        yield from blocks(60)

    store = open_as("writer", access_key=key["access_key"], secret_key=key["secret_key"])
    error = code_of(lambda: store.put_stream("db/x", revoked()))
    assert error.code == "STORE_ACCESS_DENIED"
    # A busy gateway may know the identity a moment longer than its key.
    assert "does not know the access key" in error.message or "refuses" in error.message
    assert "parts of db/x sent so far may remain" in error.action
    assert list(open_as("reader").list()) == []
    swept(open_as)


def test_a_full_store_is_named(open_as: Open, on_host: OnHost, s3_as: Connect, prefix: str) -> None:
    admin, name = s3_as("admin"), f"full-{prefix.split('/')[1]}"
    admin.create_bucket(Bucket=name)
    everyone = {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/writer"]}, "Action": ["s3:*"]}
    policy = {"Version": "2012-10-17", "Statement": [everyone | {"Resource": [f"arn:aws:s3:::{name}/*"]}]}
    try:
        admin.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
        on_host("s3", f"radosgw-admin quota set --quota-scope=bucket --bucket={name} --max-size={20 * MIB}")
        on_host("s3", f"radosgw-admin quota enable --quota-scope=bucket --bucket={name}")
        store = open_as("writer", bucket=name)
        for call in (
            lambda: store.put_stream("db/x", blocks(60)),
            lambda: store.put_bytes("db/y", bytes(21 * MIB)),
        ):
            error = code_of(call)
            assert error.code == "STORE_FULL"
            assert "db/" in error.message
        assert admin.list_multipart_uploads(Bucket=name).get("Uploads", []) == []
        assert admin.list_objects_v2(Bucket=name)["KeyCount"] == 0
    finally:
        admin.delete_bucket(Bucket=name)


KILLED = """
import sys
from pathlib import Path
from pharma_ops import config
from pharma_ops.store.open import open_store
def endless():
    while True:
        yield bytes(1 << 20)
        print(".", end="", flush=True)
settings = config.load(Path(sys.argv[1]))
open_store(settings.store("offsite")).put_stream("db/x", endless())
"""


def test_what_a_kill_left_is_found_and_swept(
    open_as: Open, tmp_path: Path, state_dir: Path, s3_endpoint: str, prefix: str, root: Path
) -> None:
    open_as("writer")  # writes the credentials
    settings = tmp_path / "config.toml"
    settings.write_text(
        f'environment = "lab"\n[stores.offsite]\ntype = "s3"\nendpoint = "{s3_endpoint}"\nbucket = "{BUCKET}"\n'
        f'prefix = "{prefix}"\naddressing_style = "path"\nca_file = "{state_dir}/pki/ca.crt"\n'
        f'credentials_file = "{tmp_path}/writer.toml"\n'
    )
    package = tmp_path / "pharma_ops"
    package.symlink_to(root / "plugins/module_utils/_ops")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", KILLED, str(settings)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as running:
        assert running.stdout
        running.stdout.read(70)
        running.send_signal(signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    assert list(open_as("reader").list()) == []
    [left] = open_as("pruner").unfinished_uploads("db/")
    assert abs(left.started.timestamp() - time.time()) < 120
    swept(open_as)


def test_a_bucket_in_another_region_is_named_with_both_regions(open_as: Open, bad_way: Front) -> None:
    """Answered by the front as AWS and MinIO do: the gateway itself does not look at the region."""
    wrong = refusal(400, "AuthorizationHeaderMalformed", "<Region>sa-east-1</Region>")
    for what in ("ListObjectsV2", "PutObject", "CreateMultipartUpload"):
        bad_way.break_(what, wrong, forever=True)
    store = open_as("writer", endpoint=bad_way.endpoint)
    for call in (
        store.check,
        lambda: store.put_bytes("db/x", b"x"),
        lambda: store.put_stream("db/x", blocks(20)),
    ):
        error = code_of(call)
        assert error.code == "STORE_REGION_WRONG"
        assert "sa-east-1" in error.message
        assert "us-east-1" in error.message


def test_the_bandwidth_of_an_upload_is_limited(open_as: Open, tmp_path: Path) -> None:
    rate = 8 * MIB
    began = time.monotonic()
    open_as("writer", bandwidth_limit=rate).put_stream("db/x", blocks(40))
    seconds = time.monotonic() - began
    print(f"40 MiB in {seconds:.1f} s with a limit of 8 MiB/s")
    assert 40 / 8 - 0.5 < seconds < 40 / 8 + 4
    assert arrived(open_as, tmp_path) == digest_of(40)
