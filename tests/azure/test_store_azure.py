# SPDX-License-Identifier: GPL-3.0-or-later
"""The store's client against Azurite: contents, identities, what is wrong, what breaks on the way."""

from __future__ import annotations

import hashlib
import logging
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from middle import Middle
from server import Azurite, free_port, moment

from content import MIB, blocks, digest_of
from pharma_ops.errors import OpsError
from pharma_ops.store import azure_listing, azure_upload
from pharma_ops.store.azure import AzureStore
from pharma_ops.store.azure_client import AzureError
from store_contract import StoreContract

Open = Callable[..., AzureStore]


class TestContract(StoreContract):
    """What every store promises."""


def test_a_large_stream_stays_within_the_budget(open_as: Open) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert open_as("writer").put_stream("db/one/dump.age", blocks(100)).etag
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    print(f"peak memory grew by {grown:.0f} MiB")
    assert grown < 96, "the budget of an upload"


def test_the_account_key_opens_everything(open_as: Open) -> None:
    owner = open_as("owner", prefix="")
    owner.check()
    owner.put_bytes("db/x", b"x")
    assert owner.get_bytes("db/x") == b"x"
    assert [info.key for info in owner.list("db/")] == ["db/x"]
    owner.delete("db/x")
    assert list(owner.list()) == []


def test_a_taken_name_is_never_overwritten(open_as: Open) -> None:
    for identity in ("writer", "owner"):
        store = open_as(identity)
        for again in (
            lambda store=store: store.put_bytes("db/x", b"other"),
            lambda store=store: store.put_stream("db/x", blocks(40)),
            lambda store=store: store.put_bytes("db/x", b""),
        ):
            if identity == "writer" and not list(open_as("reader").list()):
                store.put_bytes("db/x", b"first")
            with pytest.raises(OpsError, match="db/x") as caught:
                again()
            assert caught.value.code == "STORE_OBJECT_EXISTS"
    assert open_as("reader").get_bytes("db/x") == b"first"


@pytest.mark.parametrize("after", [1, 20, 49])
def test_a_failing_producer_leaves_nothing_under_the_name(open_as: Open, after: int) -> None:
    pruner = open_as("pruner")

    def broken() -> Iterator[bytes]:
        yield from blocks(after)
        if after > 16:
            wait_for(lambda: [upload.key for upload in pruner.unfinished_uploads("db/")] == ["db/x"])
        raise RuntimeError("the dump died")

    with pytest.raises(RuntimeError, match="the dump died"):
        open_as("writer").put_stream("db/x", broken())
    reader = open_as("reader")
    assert list(reader.list()) == []
    with pytest.raises(OpsError) as caught:
        reader.get_bytes("db/x")
    assert caught.value.code == "STORE_OBJECT_MISSING"
    # What is left shows as an unfinished upload; another try under the same name is not disturbed by it.
    assert [upload.key for upload in pruner.unfinished_uploads()] == (["db/x"] if after > 16 else [])
    assert list(pruner.unfinished_uploads("other/")) == []
    open_as("writer").put_bytes("db/x", b"whole")
    assert reader.get_bytes("db/x") == b"whole"
    assert list(pruner.unfinished_uploads()) == [], (
        "Azurite discards them with the list that is put, as Azure does"
    )


def test_sweeping_leaves_unfinished_uploads_to_the_service(open_as: Open) -> None:
    pruner = open_as("pruner")

    def broken() -> Iterator[bytes]:
        yield from blocks(20)
        wait_for(lambda: list(pruner.unfinished_uploads()) != [])
        raise RuntimeError("the dump died")

    with pytest.raises(RuntimeError):
        open_as("writer").put_stream("db/x", broken())
    for upload in pruner.unfinished_uploads():
        pruner.abort_upload(upload)
    assert list(pruner.list()) == []


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


def test_the_writer_can_only_put(open_as: Open, tmp_path: Path) -> None:
    writer = open_as("writer")
    writer.check()
    writer.put_bytes("db/x", b"x")
    for call in (
        lambda: writer.get_bytes("db/x"),
        lambda: writer.get_file("db/x", tmp_path / "x"),
        lambda: list(writer.list()),
        lambda: list(writer.unfinished_uploads()),
        lambda: writer.locked_until("db/x"),
        lambda: writer.delete("db/x"),
    ):
        refused(call)
    # To delete, it would look for locks first; without that look it is refused as well.
    with pytest.raises(AzureError) as caught:
        writer._remove("site/db/x")
    assert caught.value.status == 403
    assert not (tmp_path / "x").exists()
    assert open_as("reader").get_bytes("db/x") == b"x"


def test_the_reader_can_only_list_and_read(open_as: Open) -> None:
    open_as("writer").put_bytes("db/x", b"x")
    reader = open_as("reader")
    reader.check()
    for call in (
        lambda: reader.put_bytes("db/y", b"y"),
        lambda: reader.put_stream("db/y", blocks(17)),
        lambda: reader.delete("db/x"),
    ):
        refused(call)
    assert [info.key for info in reader.list()] == ["db/x"]


def test_the_pruner_can_only_list_and_delete(open_as: Open, tmp_path: Path) -> None:
    open_as("writer").put_bytes("db/x", b"x")
    pruner = open_as("pruner")
    pruner.check()
    for call in (
        lambda: pruner.put_bytes("db/y", b"y"),
        lambda: pruner.get_bytes("db/x"),
        lambda: pruner.get_file("db/x", tmp_path / "x"),
    ):
        refused(call)
    assert [info.key for info in pruner.list()] == ["db/x"]
    assert pruner.locked_until("db/x") is None
    pruner.delete("db/x")
    pruner.delete("db/x")
    assert list(pruner.list()) == []


def test_the_right_to_create_is_not_enough_for_blocks(
    open_as: Open, azurite: Azurite, container: str
) -> None:
    """Why the writer's token has `w` besides `c`."""
    token = azurite.sas(container, "c")
    refused(lambda: open_as("writer", f'sas_token = "{token}"').put_bytes("db/x", b"x"))


def test_a_token_ends_with_the_policy_it_hangs_on(
    open_as: Open, azurite: Azurite, container: str, permissions: dict[str, str]
) -> None:
    def policies(*names: str) -> None:
        entries = "".join(
            f"<SignedIdentifier><Id>{name}</Id><AccessPolicy><Expiry>{moment(timedelta(hours=1))}</Expiry>"
            f"<Permission>{permissions[name]}</Permission></AccessPolicy></SignedIdentifier>"
            for name in names
        )
        body = f'<?xml version="1.0" encoding="utf-8"?><SignedIdentifiers>{entries}</SignedIdentifiers>'
        open_as("owner")._client.request(
            "Set Container ACL", "PUT", query={"restype": "container", "comp": "acl"}, body=body.encode()
        )

    policies("writer", "reader")
    writer = open_as("writer", f'sas_token = "{azurite.sas(container, "", policy="writer")}"')
    reader = open_as("reader", f'sas_token = "{azurite.sas(container, "", policy="reader")}"')
    writer.put_bytes("db/x", b"x")
    refused(lambda: writer.get_bytes("db/x"))
    assert reader.get_bytes("db/x") == b"x"
    policies("reader")
    refused(lambda: writer.put_bytes("db/y", b"y"))
    assert [info.key for info in reader.list()] == ["db/x"]


def test_a_token_of_another_container_opens_nothing(open_as: Open, azurite: Azurite) -> None:
    other = azurite.sas("another-container", "rwdlc")
    refused(lambda: open_as("reader", f'sas_token = "{other}"').check())


def refused(call: Callable[[], object]) -> None:
    """The server itself says no, to this identity."""
    with pytest.raises(OpsError) as caught:
        call()
    assert caught.value.code == "STORE_ACCESS_DENIED"
    assert isinstance(caught.value.__cause__, AzureError)
    assert caught.value.__cause__.status == 403


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"endpoint": "https://127.0.0.1:9/x"}, "STORE_UNREACHABLE", "cannot be reached"),
        ({"endpoint": "https://no-such-host.invalid"}, "STORE_UNREACHABLE", "cannot be reached"),
        ({"endpoint": "nonsense"}, "CONFIG_INVALID", "not the address"),
        ({"bucket": "no-such-bucket-here"}, "STORE_BUCKET_MISSING", "does not exist"),
        ({"ca_file": None}, "STORE_TLS_FAILED", "not trusted"),
        ({"ca_file": Path("/nonexistent.pem")}, "CONFIG_INVALID", "/nonexistent.pem"),
        ({"credentials": f'account_key = "{"A" * 88}"'}, "STORE_ACCESS_DENIED", "account key is wrong"),
        ({"credentials_file": Path("/nonexistent.toml")}, "STORE_CREDENTIALS_INVALID", "/nonexistent.toml"),
    ],
)
def test_what_is_wrong_is_named(open_as: Open, changes: dict[str, object], code: str, words: str) -> None:
    for call in (
        lambda: open_as("owner", **changes).check(),
        lambda: open_as("owner", **changes).put_bytes("db/x", b"x"),
        lambda: open_as("owner", **changes).put_stream("db/x", blocks(40)),
    ):
        with pytest.raises(OpsError, match=words) as caught:
            call()
        assert caught.value.code == code
        assert caught.value.action


def test_an_expired_token_is_named(open_as: Open, azurite: Azurite, container: str) -> None:
    token = azurite.sas(container, "cwrl", expires=timedelta(minutes=-1))
    store = open_as("writer", f'sas_token = "{token}"')
    for call in (store.check, lambda: store.put_stream("db/x", blocks(40)), lambda: store.get_bytes("db/x")):
        with pytest.raises(OpsError, match="SAS token ended") as caught:
            call()
        assert caught.value.code == "STORE_CREDENTIALS_EXPIRED"


def test_a_token_that_expires_in_mid_upload_leaves_nothing(
    open_as: Open, azurite: Azurite, container: str
) -> None:
    token = azurite.sas(container, "cw", expires=timedelta(seconds=2))

    def slow() -> Iterator[bytes]:
        yield from blocks(20)
        time.sleep(3)
        yield from blocks(20)

    with pytest.raises(OpsError, match="have expired") as caught:
        open_as("writer", f'sas_token = "{token}"').put_stream("db/x", slow())
    assert caught.value.code == "STORE_CREDENTIALS_EXPIRED"
    assert list(open_as("reader").list()) == []


def test_a_token_with_a_wrong_signature_is_named(open_as: Open, azurite: Azurite, container: str) -> None:
    token = azurite.sas(container, "rl", key="A" * 88)
    with pytest.raises(OpsError, match="SAS token is wrong") as caught:
        open_as("reader", f'sas_token = "{token}"').check()
    assert caught.value.code == "STORE_ACCESS_DENIED"


def test_lists_across_pages_in_order(open_as: Open) -> None:
    writer = open_as("writer")
    keys = [f"db/{number:04d}" for number in range(120)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: writer.put_bytes(key, b""), keys))
    reader = open_as("reader")
    assert [info.key for info in reader.list("db/")] == keys
    paged = azure_listing.blobs(reader._client, "site/db/", limit=50)
    assert [blob.name for blob in paged] == [f"site/{key}" for key in keys]
    assert [info.key for info in reader.list("db/011")] == keys[110:]


@pytest.mark.parametrize("identity", ["writer", "owner"])
def test_no_secret_is_logged_or_said(
    open_as: Open, azurite: Azurite, caplog: pytest.LogCaptureFixture, identity: str
) -> None:
    caplog.set_level(logging.DEBUG)
    store = open_as(identity)
    store.put_bytes("db/x", b"x")
    with pytest.raises(OpsError) as caught:
        store.put_bytes("db/x", b"x")
    token = store._credentials.token
    signature = token.rpartition("sig=")[2]
    text = f"{caplog.text}{caught.value}{caught.value.__cause__!r}{store.description}{store._credentials!r}"
    assert "db/x" in caplog.text, "httpx logs the requests"
    for secret in (azurite.key, signature or azurite.key, "sig="):
        assert secret not in text


def test_tier_and_lock_are_asked_for_at_upload(open_as: Open, azurite: Azurite, middle: Middle) -> None:
    """That the lock holds is not shown: Azurite does not know immutability policies."""
    store = open_as(
        "writer",
        endpoint=middle.endpoint(azurite),
        storage_class="Cool",
        lock_mode="COMPLIANCE",
        lock_days=30,
    )
    store.put_bytes("db/x", b"x")
    asked = next(seen for seen in middle.seen if "comp=blocklist" in seen.path).headers
    assert asked["x-ms-access-tier"] == "Cool"
    assert asked["x-ms-immutability-policy-mode"] == "Locked"
    assert asked["x-ms-immutability-policy-until-date"].endswith("GMT")
    assert asked["if-none-match"] == "*"
    assert b"<AccessTier>Cool</AccessTier>" in _listing(open_as("reader"))


def test_what_azurite_does_not_enforce(open_as: Open) -> None:
    """Fails when Azurite learns to lock: then the documentation can claim more."""
    open_as("writer", lock_mode="COMPLIANCE", lock_days=30).put_bytes("db/x", b"x")
    pruner = open_as("pruner")
    assert pruner.locked_until("db/x") is None
    pruner.delete("db/x")
    assert open_as("owner").protection().locking is None
    assert open_as("reader").protection().locking is None


def _listing(store: AzureStore) -> bytes:
    query = {"restype": "container", "comp": "list"}
    return store._client.request("List Blobs", "GET", query=query).content


def test_the_bandwidth_is_limited_over_all_threads(open_as: Open) -> None:
    began = time.monotonic()
    open_as("writer", bandwidth_limit=10 * MIB).put_stream("db/x", blocks(30))
    assert 2.5 < time.monotonic() - began < 6


def test_a_failure_does_not_wait_for_what_is_sent_slowly(open_as: Open) -> None:
    def broken() -> Iterator[bytes]:
        yield from blocks(20)
        raise RuntimeError("the dump died")

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="the dump died"):
        open_as("writer", bandwidth_limit=MIB).put_stream("db/x", broken())
    assert time.monotonic() - began < 4, "a block of 16 MiB would take 16 s"


def test_memory_stays_within_a_smaller_budget(open_as: Open) -> None:
    assert azure_upload.block_bytes(12 * MIB) == 2 * MIB
    store = open_as("writer")
    store._block_bytes = 2 * MIB
    assert store.put_stream("db/x", blocks(9)).sha256 == digest_of(9)
    assert hashlib.sha256(open_as("reader").get_bytes("db/x")).hexdigest() == digest_of(9)


def test_nobody_listens(open_as: Open) -> None:
    store = open_as("writer", endpoint=f"https://127.0.0.1:{free_port()}/x")
    with pytest.raises(OpsError) as caught:
        store.put_stream("db/x", blocks(1))
    assert caught.value.code == "STORE_UNREACHABLE"
