# SPDX-License-Identifier: GPL-3.0-or-later
"""What the store of type azure decides, and what Azurite cannot show: versions, locks, and their removal."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops import clock, config
from pharma_ops.errors import OpsError
from pharma_ops.store import azure_auth, azure_client, azure_errors, azure_listing, azure_upload
from pharma_ops.store.azure import AzureStore
from pharma_ops.store.azure_client import Answer, AzureError
from pharma_ops.store.base import NO_END, UPLOAD_BUDGET_BYTES, Protection
from pharma_ops.store.findings import findings
from pharma_ops.store.open import open_store

MIB = 1 << 20
KEY = base64.b64encode(b"0" * 64).decode()
ENDPOINT = "https://myaccount.blob.core.windows.net"


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "credentials.toml"
    path.write_text(f'account_key = "{KEY}"\n')
    return path


def section(credentials: Path, **changes: Any) -> config.Store:
    values: dict[str, Any] = {"endpoint": ENDPOINT, "bucket": "backups", "credentials_file": credentials}
    return config.Store(type="azure", **(values | changes))


# The signature: the example of "Authorize with Shared Key", and what the forms of endpoints do to it.


def test_the_string_to_sign_is_that_of_the_documentation() -> None:
    target = "/mycontainer?restype=container&comp=metadata&timeout=20"
    headers = [
        ("x-ms-version", "2015-02-21"),
        ("X-Ms-Date", "Fri, 26 Jun 2015 23:39:12 GMT"),
        ("Content-Length", "0"),
        ("Host", "myaccount.blob.core.windows.net"),
    ]
    assert azure_auth.string_to_sign("GET", "myaccount", target, headers) == (
        "GET\n\n\n\n\n\n\n\n\n\n\n\n"
        "x-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
        "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
    )


def test_headers_with_places_of_their_own_are_signed_there() -> None:
    headers = {"Content-MD5": "m", "Content-Length": "7", "If-None-Match": "*", "Range": "bytes=0-1"}
    text = azure_auth.string_to_sign("PUT", "a", "/a/c/b?blockid=x%3D&comp=block", headers.items())
    assert text == "PUT\n\n\n7\nm\n\n\n\n\n*\n\nbytes=0-1\n/a/a/c/b\nblockid:x=\ncomp:block"


@pytest.mark.parametrize(
    ("endpoint", "account"),
    [
        ("https://pharma.blob.core.windows.net", "pharma"),
        ("https://pharma.blob.core.windows.net/", "pharma"),
        ("http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1"),
        ("https://127.0.0.1:10000/devstoreaccount1/", "devstoreaccount1"),
    ],
)
def test_the_account_is_found_in_the_endpoint(endpoint: str, account: str) -> None:
    assert azure_auth.account_of(endpoint) == account


def test_a_token_goes_into_the_address_and_a_key_into_a_header() -> None:
    token = azure_auth.Credentials(token="sv=1&sig=x")
    assert azure_auth.signed(token, "a", "GET", "/c/b", {}) == ("/c/b?sv=1&sig=x", {})
    assert azure_auth.signed(token, "a", "GET", "/c?comp=list", {}) == ("/c?comp=list&sv=1&sig=x", {})
    target, headers = azure_auth.signed(azure_auth.Credentials(key=b"k"), "a", "GET", "/c/b", {})
    assert target == "/c/b"
    assert headers["Authorization"].startswith("SharedKey a:")


# The credentials file.


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "neither or both"),
        ("not toml =", "not TOML"),
        (f'account_key = "{KEY}"\nsas_token = "sv=1&sig=x"', "neither or both"),
        ('account_key = "not base64!"', "not base64"),
        ("account_key = 1", "not a string"),
        ('sas_token = "sig=x"', "is not one"),
        ('sas_token = "https://a.blob.core.windows.net/c?sv=1&sig=x"', "is not one"),
    ],
)
def test_a_credentials_file_that_is_none_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "credentials.toml"
    path.write_text(text)
    with pytest.raises(OpsError, match=reason) as caught:
        azure_auth.read(path)
    assert caught.value.code == "STORE_CREDENTIALS_INVALID"
    assert str(path) in caught.value.message
    assert KEY not in str(caught.value)


def test_a_store_without_credentials_is_refused() -> None:
    with pytest.raises(OpsError, match="no credentials_file") as caught:
        open_store(config.Store(type="azure", endpoint=ENDPOINT, bucket="b"))
    assert caught.value.code == "STORE_CREDENTIALS_INVALID"


def test_the_end_of_a_token_is_read_from_it(tmp_path: Path) -> None:
    path = tmp_path / "credentials.toml"
    path.write_text('sas_token = "?sv=2021-12-02&st=2026-01-01T00:00:00Z&se=2026-02-01T00%3A00%3A00Z&sig=x"')
    found = azure_auth.read(path)
    assert found.begins == datetime(2026, 1, 1, tzinfo=UTC)
    assert found.expires == datetime(2026, 2, 1, tzinfo=UTC)
    assert "sig" not in repr(found)
    assert azure_auth.Credentials(token="sv=1&si=policy&sig=x").expires is None
    assert azure_auth.Credentials(token="sv=1&se=soon&sig=x").expires is None


# What is refused before anything is asked of the service.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bucket": None}, "needs 'bucket'"),
        ({"endpoint": None}, "needs 'endpoint'"),
        ({"endpoint": "myaccount"}, "not the address"),
        ({"endpoint": f"{ENDPOINT}?sv=1&sig=x"}, "not the address"),
        ({"endpoint": "https://user@host"}, "not the address"),
        ({"lock_mode": "COMPLIANCE"}, "go together"),
        ({"lock_days": 3}, "go together"),
        ({"storage_class": "Archive"}, "cannot be read by a drill"),
        ({"sse": "aws:kms"}, "encrypts everything by itself"),
        ({"sse_customer_key_file": Path("/key")}, "encrypts everything by itself"),
        ({"bandwidth_limit": -1}, "below 0"),
    ],
)
def test_a_wrong_section_is_refused(credentials: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OpsError, match=words) as caught:
        open_store(section(credentials, **changes))
    assert caught.value.code == "CONFIG_INVALID"
    assert "sig=x" not in str(caught.value)


def test_a_budget_that_is_too_small_is_a_defect(credentials: Path) -> None:
    with pytest.raises(ValueError, match="an upload needs"):
        AzureStore(section(credentials), 5 * MIB)


# Blocks.


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 9))
def test_blocks_hold_the_stream_and_have_their_size(chunks: list[int], size: int) -> None:
    data = [bytes([number % 251]) * length for number, length in enumerate(chunks)]
    cut = [bytes(block) for block in azure_upload.blocks(iter(data), size)]
    assert b"".join(cut) == b"".join(data)
    assert all(len(block) == size for block in cut[:-1])
    assert all(0 < len(block) <= size for block in cut[-1:])


def test_a_blob_is_full_after_its_last_block() -> None:
    assert len(list(azure_upload.blocks(iter((b"12345678",)), 2, most=4))) == 4
    with pytest.raises(OpsError) as caught:
        list(azure_upload.blocks(iter((b"123456789",)), 2, most=4))
    assert caught.value.code == "STORE_OBJECT_TOO_LARGE"
    assert azure_upload.block_bytes(UPLOAD_BUDGET_BYTES) * azure_upload.MAX_BLOCKS >> 30 == 781


@given(st.integers(1, 30), st.floats(0.5, 1))
def test_waiting_grows_and_has_an_end(attempt: int, chance: float) -> None:
    waited = azure_client.delay(attempt, chance)
    assert 0 < waited <= azure_client.LONGEST_DELAY_SECONDS
    assert waited <= azure_client.delay(attempt + 1, chance)


def test_a_busy_store_is_borne_for_half_a_minute() -> None:
    waits = [azure_client.delay(attempt, 0.5) for attempt in range(1, azure_client.PATIENT_ATTEMPTS)]
    assert sum(waits) > 30


# Listings, versions and locks. The XML has the form of the examples of "List Blobs".

VERSIONED = """\ufeff<?xml version="1.0" encoding="utf-8"?>
<EnumerationResults ServiceEndpoint="https://myaccount.blob.core.windows.net/" ContainerName="backups"><Blobs>
<Blob><Name>db/x</Name><VersionId>2026-01-01T00:00:00.0000001Z</VersionId><Properties>
<Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified><Content-Length>3</Content-Length></Properties></Blob>
<Blob><Name>db/x</Name><VersionId>2026-01-02T00:00:00.0000001Z</VersionId><IsCurrentVersion>true</IsCurrentVersion>
<Properties><Last-Modified>Fri, 02 Jan 2026 00:00:00 GMT</Last-Modified><Content-Length>5</Content-Length>
{lock}</Properties></Blob>
<Blob><Name>db/x2</Name><VersionId>2026-01-01T00:00:00.0000001Z</VersionId><IsCurrentVersion>true</IsCurrentVersion>
<Properties><Last-Modified>Fri, 02 Jan 2026 00:00:00 GMT</Last-Modified><Content-Length>5</Content-Length></Properties>
</Blob></Blobs><NextMarker /></EnumerationResults>"""
LOCKED = (
    "<ImmutabilityPolicyUntilDate>Fri, 01 Jan 2100 00:00:00 GMT</ImmutabilityPolicyUntilDate>"
    "<ImmutabilityPolicyMode>locked</ImmutabilityPolicyMode>"
)
PAST = "<ImmutabilityPolicyUntilDate>Wed, 01 Jan 2020 00:00:00 GMT</ImmutabilityPolicyUntilDate>"
HELD = "<LegalHold>true</LegalHold>"


class FakeClient:
    """Answers listings with what it is given and notes every other request."""

    def __init__(self, library: Any, listing: str, fail: int = 0) -> None:
        self.library = library
        self.listing = listing
        self.fail = fail
        self.removed: list[str] = []
        self.headers: dict[str, str] = {}

    def request(
        self,
        operation: str,
        method: str,
        name: str = "",
        query: Mapping[str, str] | None = None,
        *_: Any,
    ) -> Answer:
        if method == "DELETE":
            if self.fail:
                raise AzureError(operation, self.fail, "BlobImmutableDueToPolicy", "", None)
            self.removed.append(f"{name}?{(query or {}).get('versionid', '')}")
        return Answer(status=200, headers=self.headers, content=self.listing.encode())


def store_with(credentials: Path, listing: str, fail: int = 0) -> tuple[AzureStore, FakeClient]:
    store = AzureStore(section(credentials))
    fake = FakeClient(store._client.library, listing, fail)
    store._client = fake  # type: ignore[assignment]
    return store, fake


def test_removal_takes_old_versions_first_and_the_current_one_last(credentials: Path) -> None:
    store, fake = store_with(credentials, VERSIONED.format(lock=PAST))
    store.delete("db/x")
    assert fake.removed == [
        "db/x?2026-01-01T00:00:00.0000001Z",
        "db/x?",
        "db/x?2026-01-02T00:00:00.0000001Z",
    ]


@pytest.mark.parametrize(("lock", "end"), [(LOCKED, datetime(2100, 1, 1, tzinfo=UTC)), (HELD, NO_END)])
def test_nothing_of_a_locked_object_is_removed(credentials: Path, lock: str, end: datetime) -> None:
    store, fake = store_with(credentials, VERSIONED.format(lock=lock))
    assert store.locked_until("db/x") == end
    assert store.locked_until("db/x2") is None
    with pytest.raises(OpsError, match="db/x") as caught:
        store.delete("db/x")
    assert caught.value.code == "STORE_OBJECT_LOCKED"
    assert fake.removed == []


def test_a_lock_that_is_over_is_none(credentials: Path) -> None:
    store, _fake = store_with(credentials, VERSIONED.format(lock=PAST))
    assert store.locked_until("db/x") is None


def test_a_lock_that_the_listing_does_not_tell_is_told_by_the_removal(credentials: Path) -> None:
    """A policy of the whole container does not stand in the listing."""
    store, _fake = store_with(credentials, VERSIONED.format(lock=""), fail=409)
    with pytest.raises(OpsError) as caught:
        store.delete("db/x")
    assert caught.value.code == "STORE_OBJECT_LOCKED"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("true", Protection(versioning=True, locking=True, lock_mode=None, lock_days=None)),
        ("false", Protection(versioning=None, locking=False, lock_mode="", lock_days=0)),
        (None, Protection(versioning=None, locking=None, lock_mode=None, lock_days=None)),
    ],
)
def test_protection_is_what_the_container_says(
    credentials: Path, header: str | None, expected: Protection
) -> None:
    store, fake = store_with(credentials, "")
    fake.headers = {"x-ms-immutable-storage-with-versioning-enabled": header} if header else {}
    assert store.protection() == expected


def test_a_retention_that_is_not_told_is_not_called_missing(credentials: Path) -> None:
    told = Protection(versioning=True, locking=True, lock_mode=None, lock_days=None)
    found = findings(section(credentials), told, wanted_days=30)
    assert [(one.level, "not told" in one.text) for one in found] == [("note", True)]
    missing = Protection(versioning=True, locking=True, lock_mode="", lock_days=0)
    assert [one.level for one in findings(section(credentials), missing)] == ["warning"]


def test_a_page_of_a_listing_is_read() -> None:
    page = """<EnumerationResults><Blobs>
      <Blob><Name Encoded="true">a%2Fb%20c</Name><Properties><Content-Length>7</Content-Length>
        <Last-Modified>Thu, 01 Jan 2026 12:00:00 GMT</Last-Modified></Properties></Blob>
      <Blob><Name>folder</Name><Properties><ResourceType>directory</ResourceType></Properties></Blob>
      <Blob><Name>begun</Name><Properties/></Blob>
      <Blob><Name>s</Name><Snapshot>2026</Snapshot><Properties/></Blob>
    </Blobs><NextMarker>more</NextMarker></EnumerationResults>"""
    found, marker = azure_listing.parsed(page.encode())
    assert marker == "more"
    assert [(blob.name, blob.bytes, blob.current) for blob in found] == [
        ("a/b c", 7, True),
        ("begun", 0, True),
        ("s", 0, False),
    ]
    assert found[0].modified == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert found[1].modified is None


@pytest.mark.parametrize("text", ["", "<html>", "<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>"])
def test_what_is_no_listing_is_refused(text: str) -> None:
    with pytest.raises(AzureError, match="NotAListing"):
        azure_listing.parsed(text.encode())


# Errors that Azurite does not give.


@pytest.mark.parametrize(
    ("status", "code", "operation", "expected"),
    [
        (403, "AuthenticationFailed", "Get Blob", "STORE_ACCESS_DENIED"),
        (403, "AuthorizationPermissionMismatch", "Get Blob", "STORE_ACCESS_DENIED"),
        (403, "AuthorizationFailure", "Get Blob", "STORE_ACCESS_DENIED"),
        (403, "UnauthorizedBlobOverwrite", "Put Block List", "STORE_OBJECT_EXISTS"),
        (404, "ContainerNotFound", "Get Blob", "STORE_BUCKET_MISSING"),
        (404, "BlobNotFound", "Get Blob", "STORE_OBJECT_MISSING"),
        (404, "404", "Get Blob Properties", "STORE_OBJECT_MISSING"),
        (409, "BlobAlreadyExists", "Put Block List", "STORE_OBJECT_EXISTS"),
        (412, "ConditionNotMet", "Put Block List", "STORE_OBJECT_EXISTS"),
        (412, "ConditionNotMet", "Get Blob", "STORE_TRANSFER_DAMAGED"),
        (400, "Md5Mismatch", "Put Block", "STORE_TRANSFER_DAMAGED"),
        (400, "InvalidBlockList", "Put Block List", "STORE_UPLOAD_GONE"),
        (409, "BlobImmutableDueToPolicy", "Delete Blob", "STORE_OBJECT_LOCKED"),
        (413, "RequestBodyTooLarge", "Put Block", "STORE_OBJECT_TOO_LARGE"),
        (503, "ServerBusy", "Put Block", "STORE_BUSY"),
        (500, "InternalError", "Put Block", "STORE_REQUEST_FAILED"),
        (409, "BlobArchived", "Get Blob", "STORE_REQUEST_FAILED"),
    ],
)
def test_answers_have_codes(status: int, code: str, operation: str, expected: str) -> None:
    error = AzureError(operation, status, code, "why", clock.now())
    found = azure_errors.translated(error, "azure://b at e", azure_auth.Credentials(key=b"k"), "db/x")
    assert found.code == expected
    assert found.action
    assert "azure://b at e" in found.message


def test_clocks_that_differ_are_named() -> None:
    late = AzureError("Get Blob", 403, "AuthenticationFailed", "", clock.now() - timedelta(hours=1))
    found = azure_errors.translated(late, "azure://b", azure_auth.Credentials(key=b"k"))
    assert found.code == "STORE_CLOCK_SKEW"


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [
        ("sv=1&se=2020-01-01T00:00:00Z&sig=x", "STORE_CREDENTIALS_EXPIRED", "ended 2020-01-01"),
        ("sv=1&st=2099-01-01T00:00:00Z&sig=x", "STORE_ACCESS_DENIED", "begins only 2099-01-01"),
        ("sv=1&si=policy&sig=x", "STORE_ACCESS_DENIED", "has been revoked"),
    ],
)
def test_what_is_wrong_with_a_token_is_said(token: str, code: str, words: str) -> None:
    error = AzureError("Get Blob", 403, "AuthenticationFailed", "", clock.now())
    found = azure_errors.translated(error, "azure://b", azure_auth.Credentials(token=token))
    assert found.code == code
    assert words in found.message
    assert "sig=x" not in str(found)
