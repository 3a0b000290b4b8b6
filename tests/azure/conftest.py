# SPDX-License-Identifier: GPL-3.0-or-later
"""Azurite, a container in it, and the three identities."""

from __future__ import annotations

import base64
import json
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from middle import Middle, between
from server import Azurite, running

from pharma_ops import config
from pharma_ops.store import azure_auth, azure_client
from pharma_ops.store.azure import AzureStore
from pharma_ops.store.open import open_store

Open = Callable[..., AzureStore]


@pytest.fixture(scope="session")
def program(root: Path) -> Path:
    path = root / ".cache/azurite/node_modules/azurite/dist/src/blob/main.js"
    assert path.exists(), "Azurite is not installed: run `make azure`"
    return path


@pytest.fixture(scope="session")
def azurite(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with running(program, tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture
def container(azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new container; tries follow each other at once."""
    monkeypatch.setattr(azure_client, "DELAY_SECONDS", 0.01)
    name = f"backups-{uuid.uuid4().hex[:12]}"
    admin(azurite, name).request("Create Container", "PUT", query={"restype": "container"})
    return name


def admin(azurite: Azurite, container: str) -> azure_client.Client:
    """Who may do everything there, with the account's key."""
    key = azure_auth.Credentials(key=base64.b64decode(azurite.key))
    return azure_client.Client(azurite.endpoint, container, key, azurite.ca_file)


@pytest.fixture(scope="session")
def permissions(root: Path) -> dict[str, str]:
    """What the SAS token of each identity may do, from the ready-made policies."""
    data = json.loads((root / "docs/policies/azure-sas.json").read_text(encoding="utf-8"))
    return {name: entry["permissions"] for name, entry in data.items()}


@pytest.fixture
def open_as(azurite: Azurite, container: str, permissions: dict[str, str], tmp_path: Path) -> Open:
    """Gives the store as `writer`, `reader` or `pruner` see it, or `owner` with the account's key.

    `credentials` replaces what the file holds, other keywords keys of the store's section.
    """

    def connect(identity: str, credentials: str = "", **changes: object) -> AzureStore:
        path = tmp_path / f"{uuid.uuid4().hex}.toml"
        token = azurite.sas(container, permissions.get(identity, "r"))
        kind, value = ("account_key", azurite.key) if identity == "owner" else ("sas_token", token)
        path.write_text(credentials or f'{kind} = "{value}"\n')
        section: dict[str, object] = {
            "type": "azure",
            "endpoint": azurite.endpoint,
            "bucket": container,
            "prefix": "site",
            "ca_file": azurite.ca_file,
            "credentials_file": path,
        }
        store = open_store(config.Store(**(section | changes)))  # type: ignore[arg-type]
        assert isinstance(store, AzureStore)
        return store

    return connect


@pytest.fixture
def middle(azurite: Azurite) -> Iterator[Middle]:
    with between(azurite) as server:
        yield server
