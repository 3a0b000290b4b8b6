# SPDX-License-Identifier: GPL-3.0-or-later
"""What the store's client makes of a network that breaks and a service that stumbles, in front of Azurite."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from middle import Middle, Seen, first
from server import Azurite, running

from content import MIB, blocks, digest_of
from pharma_ops.errors import OpsError
from pharma_ops.store import azure_client
from pharma_ops.store.azure import AzureStore

Open = Callable[..., AzureStore]


def test_busy_and_broken_answers_are_tried_again(open_as: Open, azurite: Azurite, middle: Middle) -> None:
    faults = [
        first(2, "PUT /pharmatests/", "busy"),
        first(2, "comp=block&", "reset"),
        first(1, "comp=block&", "mute"),
        first(1, "comp=blocklist", "busy"),
    ]

    def fault(seen: Seen) -> str:
        return next((found for decide in faults if (found := decide(seen))), "")

    middle.fault = fault  # type: ignore[assignment]
    stored = open_as("writer", endpoint=middle.endpoint(azurite)).put_stream("db/x", blocks(40))
    assert stored.sha256 == digest_of(40)
    assert middle.count("comp=block&") > 3
    assert middle.count("comp=blocklist") == 2
    assert hashlib.sha256(open_as("reader").get_bytes("db/x")).hexdigest() == digest_of(40)


def test_a_list_whose_answer_was_lost_is_known_as_ours(
    open_as: Open, azurite: Azurite, middle: Middle
) -> None:
    middle.fault = first(1, "comp=blocklist", "mute")
    stored = open_as("writer", endpoint=middle.endpoint(azurite)).put_stream("db/x", blocks(20))
    assert stored.sha256 == digest_of(20)
    assert middle.count("comp=blocklist") == 3, "lost, refused because it is there, proven to be ours"
    assert hashlib.sha256(open_as("reader").get_bytes("db/x")).hexdigest() == digest_of(20)


def test_a_blob_of_another_is_never_taken_for_ours(open_as: Open, azurite: Azurite, middle: Middle) -> None:
    """The first answer is lost before anything arrived, and in between another writes that name."""
    other = open_as("writer")

    def fault(seen: Seen) -> str:
        if "comp=blocklist" in seen.path and middle.count("comp=blocklist") == 1:
            other.put_bytes("db/x", b"theirs")
            return "reset"
        return ""

    middle.fault = fault  # type: ignore[assignment]
    with pytest.raises(OpsError) as caught:
        open_as("writer", endpoint=middle.endpoint(azurite)).put_stream("db/x", blocks(20))
    assert caught.value.code == "STORE_OBJECT_EXISTS"
    assert open_as("reader").get_bytes("db/x") == b"theirs"


def test_a_block_that_is_damaged_on_the_way_is_sent_again(
    open_as: Open, azurite: Azurite, middle: Middle
) -> None:
    middle.fault = first(2, "comp=block&", "corrupt")
    stored = open_as("writer", endpoint=middle.endpoint(azurite)).put_stream("db/x", blocks(40))
    assert stored.sha256 == digest_of(40)
    assert middle.count("comp=block&") == 5, "3 blocks, 2 of them twice"
    assert hashlib.sha256(open_as("reader").get_bytes("db/x")).hexdigest() == digest_of(40)


def test_what_is_damaged_every_time_is_refused(open_as: Open, azurite: Azurite, middle: Middle) -> None:
    middle.fault = first(100, "comp=block&", "corrupt")
    with pytest.raises(OpsError) as caught:
        open_as("writer", endpoint=middle.endpoint(azurite)).put_stream("db/x", blocks(2))
    assert caught.value.code == "STORE_TRANSFER_DAMAGED"
    assert list(open_as("reader").list()) == []


def test_an_answer_with_another_digest_is_refused(open_as: Open, azurite: Azurite, middle: Middle) -> None:
    middle.fault = first(1, "comp=block&", "lie")
    with pytest.raises(OpsError, match="other bytes") as caught:
        open_as("writer", endpoint=middle.endpoint(azurite)).put_stream("db/x", blocks(40))
    assert caught.value.code == "STORE_TRANSFER_DAMAGED"
    assert list(open_as("reader").list()) == []


def test_a_download_that_breaks_off_is_resumed(
    open_as: Open, azurite: Azurite, middle: Middle, tmp_path: Path
) -> None:
    open_as("writer").put_stream("db/x", blocks(70))
    middle.fault = first(3, "GET", "cut")
    open_as("reader", endpoint=middle.endpoint(azurite)).get_file("db/x", tmp_path / "x")
    assert hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest() == digest_of(70)
    ranges = [seen.headers["range"] for seen in middle.seen if seen.method == "GET"]
    assert len(ranges) == 6
    starts = [int(text.removeprefix("bytes=").partition("-")[0]) for text in ranges]
    resumed = [start for start in starts if start % (32 * MIB)]
    assert resumed, "they go on where they broke off"
    assert len({seen.headers["if-match"] for seen in middle.seen if seen.method == "GET"}) == 1


def test_a_download_that_breaks_off_for_good_leaves_no_file(
    open_as: Open, azurite: Azurite, middle: Middle, tmp_path: Path
) -> None:
    open_as("writer").put_bytes("db/x", b"x" * 1000)
    middle.fault = first(100, "GET", "reset")
    store = open_as("reader", endpoint=middle.endpoint(azurite))
    for call in (lambda: store.get_file("db/x", tmp_path / "x"), lambda: store.get_bytes("db/x")):
        with pytest.raises(OpsError) as caught:
            call()
        assert caught.value.code == "STORE_UNREACHABLE"
    assert list(tmp_path.glob("*x")) == []


def test_a_blob_that_is_replaced_while_it_is_read_is_not_mixed(
    open_as: Open, azurite: Azurite, middle: Middle, tmp_path: Path
) -> None:
    owner = open_as("owner")
    owner.put_stream("db/x", blocks(40))

    def fault(seen: Seen) -> str:
        if seen.method == "GET" and middle.count("GET") == 1:
            owner.delete("db/x")
            owner.put_stream("db/x", blocks(41))
        return ""

    middle.fault = fault  # type: ignore[assignment]
    with pytest.raises(OpsError, match="replaced") as caught:
        open_as("reader", endpoint=middle.endpoint(azurite)).get_file("db/x", tmp_path / "x")
    assert caught.value.code == "STORE_TRANSFER_DAMAGED"
    assert not (tmp_path / "x").exists()


def test_a_server_that_is_gone_in_mid_upload_leaves_nothing(
    open_as: Open, azurite: Azurite, middle: Middle
) -> None:
    def gone(seen: Seen) -> str:
        return "reset" if middle.count("comp=block&") > 2 else ""

    middle.fault = gone  # type: ignore[assignment]
    with pytest.raises(OpsError) as caught:
        open_as("writer", endpoint=middle.endpoint(azurite)).put_stream("db/x", blocks(100))
    assert caught.value.code == "STORE_UNREACHABLE"
    assert list(open_as("reader").list()) == []


def test_a_store_that_stays_busy_is_told(open_as: Open, azurite: Azurite, middle: Middle) -> None:
    middle.fault = first(100, "comp=block&", "busy")
    with pytest.raises(OpsError) as caught:
        open_as("writer", endpoint=middle.endpoint(azurite)).put_stream("db/x", blocks(1))
    assert caught.value.code == "STORE_BUSY"
    assert middle.count("comp=block&") == azure_client.PATIENT_ATTEMPTS


def test_a_server_that_ends_in_mid_upload_holds_nothing_when_it_is_back(
    program: Path, tmp_path: Path, open_as: Open
) -> None:
    credentials = tmp_path / "key.toml"

    def store(server: Azurite) -> AzureStore:
        credentials.write_text(f'account_key = "{server.key}"\n')
        changes = {"endpoint": server.endpoint, "ca_file": server.ca_file, "credentials_file": credentials}
        return open_as("owner", **changes)

    with running(program, tmp_path) as server:
        store(server)._client.request("Create Container", "PUT", query={"restype": "container"})
        store(server).put_bytes("db/before", b"whole")

        def dying() -> Iterator[bytes]:
            yield from blocks(40)
            # Not killed: Azurite writes down what it has every few seconds only, containers among it.
            server.process.terminate()
            server.process.wait()
            yield from blocks(40)

        with pytest.raises(OpsError) as caught:
            store(server).put_stream("db/x", dying())
        assert caught.value.code == "STORE_UNREACHABLE"
    with running(program, tmp_path, again=server) as back:
        assert [info.key for info in store(back).list()] == ["db/before"]
        store(back).put_bytes("db/x", b"next try")
        assert store(back).get_bytes("db/x") == b"next try"
