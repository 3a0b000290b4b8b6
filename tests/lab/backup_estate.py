# SPDX-License-Identifier: GPL-3.0-or-later
"""The backups of the scenario `backup`, seen from its hosts and from its object store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from prometheus_client.parser import text_string_to_metric_families

from pharma_ops.backup.catalogue import SetInfo, sets_of
from pharma_ops.store.base import ObjectInfo

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "pharma-backups"
DATABASE = "pharma"
UNIT = f"pharma-backup@{DATABASE}.service"
METRICS = "/var/lib/pharma-ops/metrics"
LOCAL = ("first", "second")
# How the gateway begins the names of parts (.1, .2, …) and of the upload itself (.meta).
MULTIPART = "_multipart_"

Metrics = dict[tuple[str, str], float]


def until(what: str, found: Callable[[], object], seconds: float = 60) -> Any:
    """Ask until the answer is not empty; returns it."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.2)
    return answer


def metrics_of(text: str) -> Metrics:
    """Name and store of each metric without another database's, to its value, by Prometheus's own parser."""
    return {
        (sample.name, sample.labels.get("store", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("database", DATABASE) == DATABASE
    }


@dataclass(frozen=True)
class Estate:
    """Asks the database's host, the object store as its reader, and the store's own host."""

    on_host: Callable[..., str]
    reader: S3Client

    def db(self, command: str, text: str = "") -> str:
        """Run a command on the database's host."""
        return self.on_host("db1", command, text)

    def sql(self, statement: str) -> str:
        """Run a statement in the database."""
        return self.db(f"runuser -u postgres -- psql -qAt -v ON_ERROR_STOP=1 {DATABASE}", statement).strip()

    def sets(self) -> list[SetInfo]:
        """The sets in the object store as the reader's identity sees them, oldest first."""
        pages = self.reader.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{DATABASE}/")
        listed = [
            ObjectInfo(key=item["Key"], bytes=item["Size"], modified=item["LastModified"])
            for page in pages
            for item in page.get("Contents", [])
        ]
        return sets_of(listed, DATABASE)

    def local_sets(self, store: str) -> dict[str, str]:
        """Id to state of the sets in a directory, by the host's own command."""
        shown = self.db(f"pharma-ops backup list --database {DATABASE} --store {store} --json")
        return {item["backup_id"]: item["state"] for item in json.loads(shown)["backups"]}

    def record(self) -> dict[str, Any]:
        """The record of the backups."""
        loaded: dict[str, Any] = json.loads(self.db(f"cat /var/lib/pharma-ops/backups/{DATABASE}.json"))
        return loaded

    def metrics(self) -> Metrics:
        """What the backup has written for Prometheus."""
        return metrics_of(self.db(f"cat {METRICS}/pharma_backup_{DATABASE}.prom"))

    def state_files(self) -> dict[str, str]:
        """Path to digest of every file of the state, records and metrics, hidden ones included."""
        found = self.db("cd /var/lib/pharma-ops && find . -type f -exec sha256sum {} +")
        return {line.split(maxsplit=1)[1]: line.split()[0] for line in found.splitlines()}

    def under_way(self) -> dict[str, int]:
        """Key of each upload that is neither completed nor aborted, to the parts that the store has of it.

        From the index of the bucket: by the API only the writer itself might list parts, and it may not.
        """
        index = (
            f"radosgw-admin bi list --bucket={BUCKET} 2>/dev/null | grep -ao '\"{MULTIPART}[^\"]*' | sort -u"
        )
        found: dict[str, int] = {}
        for name in self.on_host("s3", index).splitlines():
            key, _upload, part = name.removeprefix(f'"{MULTIPART}').rsplit(".", 2)
            found[key] = found.get(key, 0) + (part != "meta")
        return found

    def part_arrives(self, known: dict[str, int]) -> str:
        """Wait until the store has a part of a new upload of a dump; returns the id of the attempt."""

        def arrived() -> list[str]:
            return [key for key, parts in self.under_way().items() if key not in known and parts]

        [key] = until("a part of an upload", arrived)
        database, backup_id, name = key.split("/")
        assert (database, name) == (DATABASE, "dump.age")
        return str(backup_id)

    def gateway_answers(self) -> bool:
        """Whether the object store is there."""
        try:
            self.reader.list_objects_v2(Bucket=BUCKET, MaxKeys=1)
        except (BotoCoreError, ClientError):
            return False
        return True
