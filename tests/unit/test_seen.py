# SPDX-License-Identifier: GPL-3.0-or-later
"""The daily read-back: what counts as seen whole, and what every fault leaves in record and metrics."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families
from test_manifest import MANIFEST

from pharma_ops import config
from pharma_ops.backup import seen
from pharma_ops.backup.manifest import ObjectEntry
from pharma_ops.cli.main import main
from pharma_ops.errors import OpsError
from pharma_ops.log import Log
from pharma_ops.progress import Silent
from pharma_ops.sealing import signing

OLD, NEW = "20260214T123456Z-0a1b2c", "20260215T123456Z-0a1b2c"
PRIVATE, PUBLIC = signing.generate()
OTHER_PRIVATE, _ = signing.generate()
OBJECTS = {"globals.sql.age": b"g" * 500, "dump.age": bytes(range(256)) * 9000}


def put_set(store: Path, backup_id: str, *, key: bytes = PRIVATE, finished: bool = True) -> Path:
    """A set as the backup leaves it."""
    directory = store / "pharma" / backup_id
    directory.mkdir(parents=True)
    for name, content in OBJECTS.items():
        (directory / name).write_bytes(content)
    entries = tuple(
        ObjectEntry(
            name=name, bytes=len(content), sha256=hashlib.sha256(content).hexdigest(),
            plaintext_bytes=1, plaintext_sha256="b" * 64,
        )
        for name, content in sorted(OBJECTS.items())
    )  # fmt: skip
    moment = datetime.strptime(backup_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    manifest = dataclasses.replace(MANIFEST, id=backup_id, objects=entries, newest_change_at=moment)
    if finished:
        sign(directory, manifest.to_json(), key)
    return directory


def sign(directory: Path, data: bytes, key: bytes = PRIVATE) -> None:
    (directory / "manifest.json").write_bytes(data)
    (directory / "manifest.json.sig").write_bytes(signing.sign(key, data))


@dataclasses.dataclass
class Host:
    """A staging host with two stores."""

    base: Path
    config: config.Config

    @property
    def config_file(self) -> Path:
        return self.base / "config.toml"

    def store(self, name: str = "offsite") -> Path:
        return self.base / name

    def read(self, **more: Any) -> dict[str, seen.Record]:
        (self.base / "work").mkdir(exist_ok=True)
        records = seen.read_back(
            self.config, PUBLIC, self.base / "work", Log("lab", "run-12345", []), Silent(), **more
        )
        assert list((self.base / "work").iterdir()) == []
        return {record.store: record for record in records}

    def metrics(self) -> dict[tuple[str, str], float]:
        text = (self.base / "metrics/pharma_seen.prom").read_text()
        return {
            (sample.name.removeprefix("pharma_backup_seen_"), sample.labels["store"]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "signers.pem").write_bytes(PUBLIC)
    (tmp_path / "config.toml").write_text(
        f'environment = "lab"\nstate_dir = "{tmp_path}"\nlock_dir = "{tmp_path}/lock"\n'
        f'metrics_dir = "{tmp_path}/metrics"\n'
        f'[seen]\nstores = ["offsite", "second"]\ndatabases = ["pharma"]\n'
        f'trusted_signers_file = "{tmp_path}/signers.pem"\n'
        + "".join(
            f'[stores.{name}]\ntype = "local"\npath = "{tmp_path}/{name}"\n' for name in ("offsite", "second")
        )
    )
    made = Host(tmp_path, config.load(tmp_path / "config.toml"))
    for name in ("offsite", "second"):
        put_set(made.store(name), OLD)
        put_set(made.store(name), NEW)
    return made


def test_the_newest_set_is_read_whole_from_every_store(host: Host, root: Path) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    records = host.read()
    for name, record in records.items():
        assert record.verdict == "whole"
        assert record.last_seen is not None
        assert record.last_seen.backup_id == NEW
        assert record.last_seen.at >= before
        assert record.last_seen.signer == signing.key_id(PUBLIC)
        assert record.last_seen.bytes == sum(map(len, OBJECTS.values()))
        written = json.loads(seen.record_path(host.config, "pharma", name).read_text())
        schema = json.loads((root / "docs/schemas/seen.schema.json").read_text())
        Draft202012Validator(schema).validate(written)
        assert seen.Record.from_dict(written).as_dict() == written
    found = host.metrics()
    assert found[("success", "offsite")] == found[("success", "second")] == 1
    assert found[("whole_timestamp_seconds", "offsite")] == pytest.approx(
        records["offsite"].last_seen.at.timestamp(),
        abs=1,  # type: ignore[union-attr]
    )
    assert (
        found[("newest_change_timestamp_seconds", "offsite")]
        == datetime(2026, 2, 15, 12, 34, 56, tzinfo=UTC).timestamp()
    )


def altered(directory: Path) -> None:
    data = bytearray((directory / "dump.age").read_bytes())
    data[1_000_000] ^= 1
    (directory / "dump.age").write_bytes(data)


def truncated(directory: Path) -> None:
    data = (directory / "dump.age").read_bytes()
    (directory / "dump.age").write_bytes(data[:-1])


def missing(directory: Path) -> None:
    (directory / "globals.sql.age").unlink()


def manifest_altered(directory: Path) -> None:
    data = (directory / "manifest.json").read_bytes()
    (directory / "manifest.json").write_bytes(data.replace(b'"pharma"', b'"pharmb"'))


def manifest_truncated(directory: Path) -> None:
    data = (directory / "manifest.json").read_bytes()
    (directory / "manifest.json").write_bytes(data[:-100])


def manifest_of_another_version(directory: Path) -> None:
    data = json.loads((directory / "manifest.json").read_bytes())
    sign(directory, json.dumps(data | {"schemaVersion": 99}).encode())


def manifest_that_is_no_json(directory: Path) -> None:
    sign(directory, b"{")


def signed_by_another(directory: Path) -> None:
    sign(directory, (directory / "manifest.json").read_bytes(), OTHER_PRIVATE)


def without_signature(directory: Path) -> None:
    (directory / "manifest.json.sig").unlink()


def exchanged(directory: Path) -> None:
    for name in ("manifest.json", "manifest.json.sig"):
        shutil.copy(directory.parent / OLD / name, directory / name)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (altered, "BACKUP_DAMAGED"),
        (truncated, "BACKUP_DAMAGED"),
        (missing, "STORE_OBJECT_MISSING"),
        (manifest_altered, "SIGNATURE_INVALID"),
        (manifest_truncated, "SIGNATURE_INVALID"),
        (manifest_that_is_no_json, "MANIFEST_INVALID"),
        (signed_by_another, "SIGNATURE_INVALID"),
        (without_signature, "STORE_OBJECT_MISSING"),
        (exchanged, "MANIFEST_MISPLACED"),
    ],
)
def test_a_damaged_set_is_not_seen(host: Host, fault: Callable[[Path], None], code: str) -> None:
    first = host.read()["offsite"].last_seen
    fault(host.store() / "pharma" / NEW)
    records = host.read()
    record = records["offsite"]
    assert (record.verdict, record.backup_id) == ("damaged", NEW)
    assert record.error is not None
    assert record.error["code"] == code
    assert record.error["action"]
    assert record.last_seen == first, "when it was last seen whole stays"
    assert records["second"].verdict == "whole", "and the other store is read all the same"
    found = host.metrics()
    assert (found[("success", "offsite")], found[("success", "second")]) == (0, 1)
    assert found[("whole_timestamp_seconds", "offsite")] < found[("whole_timestamp_seconds", "second")]
    assert main(["backup", "seen", "--config", str(host.config_file)]) == 1


def test_a_signed_manifest_of_another_version_cannot_be_decided(host: Host) -> None:
    first = host.read()["offsite"].last_seen
    manifest_of_another_version(host.store() / "pharma" / NEW)
    record = host.read()["offsite"]
    assert (record.verdict, record.last_seen) == ("unknown", first)
    assert record.error is not None
    assert record.error["code"] == "MANIFEST_VERSION_UNKNOWN"
    assert host.metrics()[("success", "offsite")] == 0


def test_of_an_unfinished_set_the_one_before_is_read_and_its_age_tells(host: Host) -> None:
    (host.store() / "pharma" / NEW / "manifest.json").unlink()
    record = host.read()["offsite"]
    assert record.verdict == "whole"
    assert record.last_seen is not None
    assert record.last_seen.backup_id == OLD
    found = host.metrics()
    age = "newest_change_timestamp_seconds"
    assert found[(age, "second")] - found[(age, "offsite")] == 86400


def test_a_store_without_a_complete_set(host: Host) -> None:
    shutil.rmtree(host.store() / "pharma")
    put_set(host.store(), NEW, finished=False)
    record = host.read()["offsite"]
    assert (record.verdict, record.last_seen) == ("missing", None)
    assert ("whole_timestamp_seconds", "offsite") not in host.metrics()
    assert host.metrics()[("success", "offsite")] == 0


def test_a_store_that_cannot_be_reached_keeps_what_was_seen(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    first = host.read()["offsite"].last_seen
    before = host.metrics()[("whole_timestamp_seconds", "offsite")]
    host.store().rename(host.base / "away")
    record = host.read()["offsite"]
    assert (record.verdict, record.last_seen) == ("unknown", first)
    assert record.error is not None
    assert record.error["code"] == "STORE_UNREACHABLE"
    found = host.metrics()
    assert found[("success", "offsite")] == 0
    assert found[("whole_timestamp_seconds", "offsite")] == before
    assert main(["backup", "seen", "--config", str(host.config_file)]) == 2
    out = capsys.readouterr().out
    assert out.startswith("? pharma in directory")
    assert "Next: Mount or create it" in out
    assert "last seen whole" in out


def test_the_worst_is_what_is_told(host: Host) -> None:
    altered(host.store() / "pharma" / NEW)
    host.store("second").rename(host.base / "away")
    worst = seen.worst_of(host.read().values())
    assert worst is not None
    assert worst.code == "BACKUP_DAMAGED"
    assert worst.message.endswith("(and 1 more not seen whole: second)")
    (host.base / "away").rename(host.store("second"))
    shutil.rmtree(host.store() / "pharma")
    assert seen.worst_of(host.read().values()).code == "BACKUP_MISSING"  # type: ignore[union-attr]


def test_the_command_says_what_it_saw(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backup", "seen", "--json", "--config", str(host.config_file)]) == 0
    assert [one["lastRun"]["verdict"] for one in json.loads(capsys.readouterr().out)["seen"]] == ["whole"] * 2
    (host.base / "signers.pem").unlink()
    assert main(["backup", "seen", "--config", str(host.config_file)]) == 2
    assert "TRUSTED_KEYS_MISSING" in capsys.readouterr().err


def test_a_damaged_record_is_begun_anew(host: Host) -> None:
    host.read()
    path = seen.record_path(host.config, "pharma", "offsite")
    path.write_text("{")
    with pytest.raises(OpsError) as raised:
        seen.read_record(path)
    assert raised.value.code == "RECORD_INVALID"
    assert host.read()["offsite"].verdict == "whole"
    assert seen.read_record(path) is not None


def test_a_host_without_drill_or_seen_has_nothing_to_read(host: Host) -> None:
    with pytest.raises(OpsError) as raised:
        seen.targets(dataclasses.replace(host.config, seen=None))
    assert raised.value.code == "CONFIG_INVALID"
    drill = config.Drill(store="second", database="pharma")
    assert seen.targets(dataclasses.replace(host.config, seen=None, drill=drill)) == (("pharma", "second"),)
    with pytest.raises(OpsError):
        seen.targets(dataclasses.replace(host.config, seen=config.Seen(stores=("x",), databases=("a",))))


def test_a_second_one_at_the_same_time_is_refused(host: Host) -> None:
    from pharma_ops import locks

    with locks.held(host.config.lock_dir, "seen", "other-run"), pytest.raises(OpsError) as raised:
        host.read()
    assert raised.value.code == "LOCK_HELD"
