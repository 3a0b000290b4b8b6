# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles write of a store: the engine reads it, and no secret stands in it."""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from pharma_ops import config

BASE = "/etc/pharma-ops/keys/store-offsite"
FULL = {
    "name": "offsite", "type": "s3", "endpoint": "https://s3:7443", "bucket": "b", "region": "sa-east-1",
    "access_key": "AK", "secret_key": "planted-1", "ca": "PEM\n", "sse": "customer", "sse_customer_key": "planted-2",
    "lock_mode": "COMPLIANCE", "lock_days": 30, "bandwidth_limit": 0, "storage_class": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def filters(root: Path) -> dict[str, Callable[..., Any]]:
    """The filters as Ansible loads them, from the checkout's collection."""
    from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

    _AnsibleCollectionFinder([str(root / "collections")])._install()
    found: dict[str, Callable[..., Any]] = {}
    for name in ("to_toml", "store_files", "store_config"):
        module = importlib.import_module(f"ansible_collections.pharma.hardening.plugins.filter.{name}")
        found |= module.FilterModule().filters()
    assert "ansible_collections.pharma.hardening" in sys.modules
    return found


def test_the_engine_reads_it_and_finds_the_secrets_in_files(filters: dict[str, Any]) -> None:
    section = filters["store_config"](FULL, BASE, "pharma-backup", "backup_store_offsite")
    text = filters["to_toml"](section)
    assert "planted" not in text
    read = config.parse(tomllib.loads('environment = "lab"\n' + text))
    files = {file["path"]: file["content"] for file in filters["store_files"](FULL, BASE)}
    store = read.store("offsite")
    assert {str(store.credentials_file), str(store.ca_file), str(store.sse_customer_key_file)} == set(files)
    assert tomllib.loads(files[str(store.credentials_file)]) == {
        "access_key": "AK",
        "secret_key": "planted-1",
    }
    assert files[str(store.sse_customer_key_file)] == "planted-2"
    assert (store.lock_mode, store.lock_days, store.region) == ("COMPLIANCE", 30, "sa-east-1")
    assert {str(secret.file) for secret in read.secrets.values()} == {f"{BASE}.toml", f"{BASE}-sse.key"}


def test_stores_without_secrets_stand_in_one_file(filters: dict[str, Any]) -> None:
    stores = [{"name": name, "type": "local", "path": f"/mnt/{name}"} for name in ("a", "b")]
    text = "".join(filters["to_toml"](filters["store_config"](one, BASE, "x", one["name"])) for one in stores)
    assert set(config.parse(tomllib.loads('environment = "lab"\n' + text)).stores) == {"a", "b"}
    assert [filters["store_files"](one, BASE) for one in stores] == [[], []]


@pytest.mark.parametrize("wrong", [None, "offsite", {}, {"name": "x"}, {"type": "s3"}])
def test_what_is_no_store_is_refused(filters: dict[str, Any], wrong: Any) -> None:
    with pytest.raises(AnsibleFilterError):
        filters["store_config"](wrong, BASE, "x", "x")
