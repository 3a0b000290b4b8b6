# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fixtures and the tests of this directory both name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster import Cluster

from pharma_ops import config
from pharma_ops.postgres.connection import Target

BACKUP_ROLE = "pharma_backup"
BACKUP_PASSWORD = "only:for\\tests"

MakeConfig = Callable[..., config.Config]


@dataclass(frozen=True)
class Keys:
    """Files of keys that live as long as the test session."""

    identity: Path
    recipients: Path
    signing_key: Path
    signers: Path


def superuser(cluster: Cluster, dbname: str) -> Target:
    """The target of a database as its cluster's superuser."""
    return Target(host=cluster.host, port=cluster.port, dbname=dbname, user="postgres")
