# SPDX-License-Identifier: GPL-3.0-or-later
"""The running lab as fixtures: its hosts over ssh, its secrets, its object store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
import testinfra  # type: ignore[import-untyped]
from botocore.config import Config
from testinfra.host import Host  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).parent))

import desk as desks
from cashiers import Cashier, Mix
from kept_alive import Endpoint
from load import Traffic, log_in, tills
from shop import Shop

from pharma_ops import config
from pharma_ops.store.base import UPLOAD_BUDGET_BYTES, ObjectStore
from pharma_ops.store.open import open_store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# As many as keep the service busy all the time and still get their answers in some tens of milliseconds.
CASHIERS = 16


@pytest.fixture(scope="session")
def state_dir(root: Path) -> Path:
    """Where the lab under test keeps its keys."""
    path = Path(os.environ.get("LAB_STATE_DIR") or root / ".lab")
    assert (path / "ssh" / "config").exists(), f"no lab at {path}: bring it up with `make lab-up`"
    return path


@pytest.fixture(scope="session")
def lab_host(state_dir: Path) -> Callable[[str], Host]:
    """Gives a host of the lab by its name, reached as any real host is."""

    def connect(name: str) -> Host:
        return testinfra.get_host(f"ssh://{name}", ssh_config=str(state_dir / "ssh" / "config"))

    return connect


@pytest.fixture(scope="session")
def lab_secrets(state_dir: Path) -> dict[str, str]:
    """All secrets of the lab."""
    loaded: dict[str, str] = json.loads((state_dir / "secrets.json").read_text())
    return loaded


@pytest.fixture(scope="session")
def s3_endpoint() -> str:
    """The object store by its address; the names of the lab are known to its hosts only."""
    return f"https://{os.environ.get('LAB_PREFIX') or '10.77.7'}.14:7443"


@pytest.fixture(scope="session")
def s3_as(state_dir: Path, lab_secrets: dict[str, str], s3_endpoint: str) -> Callable[..., S3Client]:
    """Gives a client of the object store that acts as `writer`, `reader` or `admin`."""

    def connect(user: str, *, secret_key: str | None = None) -> S3Client:
        return boto3.client(
            "s3",
            endpoint_url=s3_endpoint,
            region_name="us-east-1",
            aws_access_key_id=lab_secrets[f"s3_{user}_access_key"],
            aws_secret_access_key=secret_key or lab_secrets[f"s3_{user}_secret_key"],
            verify=str(state_dir / "pki" / "ca.crt"),
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )

    return connect


@pytest.fixture(scope="session")
def lab_policy(root: Path) -> str:
    """The policy that the role object_store puts on a bucket, for the lab's users."""
    text = root.joinpath("roles/object_store/files/bucket-policy.json").read_text(encoding="utf-8")
    for user in ("writer", "reader", "pruner"):
        text = text.replace(f'"{user.upper()}"', f'"arn:aws:iam:::user/{user}"')
    return text


@pytest.fixture
def prefix() -> str:
    """A prefix of the test's own. What it holds under retention stays until the store lets it go."""
    return f"test/{uuid.uuid4().hex}/"


@pytest.fixture
def open_as(
    tmp_path: Path, state_dir: Path, lab_secrets: dict[str, str], s3_endpoint: str, prefix: str
) -> Callable[..., ObjectStore]:
    """Gives the store as `writer`, `reader` or `pruner` see it; keywords replace keys of its section."""

    def connect(
        user: str,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        budget: int = UPLOAD_BUDGET_BYTES,
        **changes: object,
    ) -> ObjectStore:
        credentials = tmp_path / f"{user}.toml"
        secret = secret_key or lab_secrets[f"s3_{user}_secret_key"]
        access = access_key or lab_secrets[f"s3_{user}_access_key"]
        session = f'session_token = "{session_token}"\n' if session_token else ""
        credentials.write_text(f'access_key = "{access}"\nsecret_key = "{secret}"\n{session}')
        section: dict[str, object] = {
            "type": "s3",
            "endpoint": s3_endpoint,
            "bucket": "pharma-backups",
            "prefix": prefix,
            "addressing_style": "path",
            "ca_file": state_dir / "pki" / "ca.crt",
            "credentials_file": credentials,
        }
        spec = config.Store(**(section | changes))  # type: ignore[arg-type]
        return open_store(spec, upload_budget_bytes=budget)

    return connect


@pytest.fixture(scope="session")
def on_host(state_dir: Path) -> Callable[..., str]:
    """Runs a command on a host with text on its standard input: ``on_host("app1", "cat", "text")``; its output."""

    def run(host: str, command: str, text: str = "") -> str:
        done = subprocess.run(
            ["ssh", "-F", str(state_dir / "ssh" / "config"), host, command],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{host}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def endpoint(state_dir: Path) -> Endpoint:
    """The pharmacy as its users reach it: TLS at the proxy, verified by the lab's authority."""
    prefix = os.environ.get("LAB_PREFIX") or "10.77.7"
    return Endpoint(host=f"{prefix}.12", port=443, name="app1", ca=state_dir / "pki" / "ca.crt")


@pytest.fixture(scope="session")
def shop(on_host: Callable[..., str]) -> Shop:
    """The pharmacy seen from its hosts: users, stock, journal."""
    return Shop(on_host)


@pytest.fixture(scope="session")
def cashiers(shop: Shop, endpoint: Endpoint) -> list[Cashier]:
    """Users of all stores, logged in once for the whole run."""
    shop.restock()
    staff = [Cashier(user, seed) for seed, user in enumerate(shop.hire(CASHIERS))]
    log_in(endpoint, staff)
    return staff


@pytest.fixture
def traffic(endpoint: Endpoint, cashiers: list[Cashier]) -> Callable[..., Traffic]:
    """Makes a load of these cashiers: ``with traffic() as load: …; report = load.finish(at_least=10_000)``."""

    def make(through: Endpoint = endpoint, mix: Mix | None = None) -> Traffic:
        return Traffic(tills(through, cashiers, mix))

    return make


@pytest.fixture(scope="session")
def desk(state_dir: Path, root: Path, lab_secrets: dict[str, str]) -> Iterator[desks.Desk]:
    """Those who are told, within reach of the hosts of the scenario `backup`."""
    with desks.opened(state_dir, root, lab_secrets["notify_mail_password"]) as opened:
        for host in ("db1", "app1"):
            opened.listen(host)
        yield opened
