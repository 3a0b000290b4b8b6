# SPDX-License-Identifier: GPL-3.0-or-later
"""Production destroyed and brought back from the object store alone, and brought back on a living host.

The tests run in order: the first ones destroy the database host, the last ones recover on the new one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from load import Traffic
from playbooks import Playbooks, Played
from shop import Shop
from testinfra.host import Host  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "pharma-backups"
DATABASE = "pharma"
# What differs between a database and a manifest (standard input), read anew on the host: one JSON list.
FINGERPRINT = """
cat > /run/manifest.json && PYTHONPATH=/usr/local/lib/pharma-ops python3 - <<'SCRIPT'
import json, pathlib
from pharma_ops import config
from pharma_ops.backup.manifest import Manifest
from pharma_ops.postgres.connection import Target
from pharma_ops.postgres.content import compare, read_content
from pharma_ops.progress import Silent
manifest = Manifest.from_json(pathlib.Path("/run/manifest.json").read_bytes())
loaded = config.load()
target = Target.from_config(*loaded.database("pharma"))
read = read_content(target, snapshot=None, sessions=1, progress=Silent())
print(json.dumps({"rows": read.rows, "differences": [str(item) for item in compare(manifest.content, read)]}))
SCRIPT
"""

# Before the release meets a client, its smoke journey tries a login that must be refused, which is counted.
COUNTED = "pharmacy.login_attempts"

OnHost = Callable[..., str]


@pytest.fixture(scope="module")
def playbooks(root: Path) -> Playbooks:
    """Playbooks on the scenario's hosts."""
    return Playbooks(root, "--limit", "db1:app1:localhost")


@pytest.fixture(scope="module")
def play(playbooks: Playbooks) -> Callable[..., Played]:
    """Runs a playbook."""
    return playbooks.run


@pytest.fixture(scope="module")
def newest(s3_as: Callable[..., S3Client]) -> dict[str, Any]:
    """The manifest of the newest set, as the reader finds it in the store."""
    client = s3_as("reader")
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET, Prefix=f"{DATABASE}/")["Contents"]]
    key = max(key for key in keys if key.endswith("/manifest.json"))
    manifest: dict[str, Any] = json.loads(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    return manifest


@pytest.fixture(scope="module")
def recovered(play: Callable[..., Played], newest: dict[str, Any], root: Path) -> Played:
    """The database host is destroyed with all its data, and a new one takes its name and address."""
    assert newest["content"]["tables"]
    name = f"{os.environ['LAB_NAME']}-db1"
    subprocess.run(
        ["podman", "rm", "--force", "--volumes", "--time", "2", name], check=True, capture_output=True
    )
    for playbook in ("lab/create.yml", "lab/prepare.yml"):
        made = play(playbook, LAB_HOSTS="db1")
        assert made.code == 0, made.output
    played = play("playbooks/recover.yml", "-e", f"recover_confirm={DATABASE}")
    assert played.code == 0, played.output[-6000:]
    return played


def evidence(played: Played) -> dict[str, Any]:
    """What the evidence says that the playbook brought."""
    found = re.search(r"(/\S+)/report\.html", played.output)
    assert found, played.output[-3000:]
    statement: dict[str, Any] = json.loads((Path(found[1]) / "evidence.json").read_text())
    return statement


def difference(on_host: OnHost, newest: dict[str, Any]) -> dict[str, Any]:
    """What differs between the database now and the manifest, but for what the release counted since."""
    found: dict[str, Any] = json.loads(on_host("db1", FINGERPRINT, json.dumps(newest)).splitlines()[-1])
    return found | {"differences": [each for each in found["differences"] if COUNTED not in each]}


def test_production_comes_back_from_the_store_alone(
    recovered: Played, newest: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    statement = evidence(recovered)
    predicate = statement["predicate"]
    assert (predicate["scope"], predicate["verdict"]) == ("recovery", "passed")
    assert predicate["backup"]["id"] == newest["id"]
    compared = next(stage for stage in predicate["stages"] if stage["name"] == "compare")
    assert (compared["verdict"], compared["facts"]["differences"]) == ("passed", 0)
    assert compared["facts"]["tables"] == len(newest["content"]["tables"])
    with capsys.disabled():
        stages = ", ".join(f"{stage['name']} {stage['seconds']:.1f}" for stage in predicate["stages"])
        print(
            f"\nrecovered on a fresh host: {recovered.seconds:.0f} s for the playbook, "
            f"{predicate['rto']['seconds']:.1f} s for the database ({stages})"
        )


def test_an_independent_reading_finds_no_difference(
    recovered: Played, on_host: OnHost, newest: dict[str, Any]
) -> None:
    """The roles have their passwords again, the release is in service, and every hash is the manifest's."""
    found = difference(on_host, newest)
    assert found["differences"] == []
    assert found["rows"] > 2000


def test_the_key_and_the_credentials_are_gone(
    recovered: Played, lab_host: Callable[[str], Host], root: Path
) -> None:
    database = lab_host("db1")
    assert not database.file("/run/pharma-recover").exists
    assert (
        database.run("grep -rl AGE-SECRET-KEY /etc /run /root /var/lib/pharma-ops /var/tmp /tmp").stdout == ""
    )
    assert database.check_output("find /var/lib/postgresql -name '*.recovering-*'") == ""


def test_users_log_in_and_sell(
    recovered: Played, traffic: Callable[..., Traffic], shop: Shop, newest: dict[str, Any]
) -> None:
    """Through the proxy, on the release that the manifest names."""
    named = newest["application"]["release"]
    release = shop.release()
    assert (release["version"], release["digest"]) == (named["version"], named["sha256"])
    before = int(shop.sql("select count(*) from pharmacy.sales"))
    with traffic() as load:
        report = load.finish(at_least=300)
    assert report.failed == 0, report.summary()
    assert int(shop.sql("select count(*) from pharmacy.sales")) > before


def test_the_new_host_is_backed_up_again(recovered: Played, play: Callable[..., Played]) -> None:
    assert play("playbooks/backup.yml").code == 0


def fingerprint(on_host: OnHost, data: str) -> str:
    """Digests of what tells a stopped data directory from every other."""
    return on_host("db1", f"cd {data} && sha256sum PG_VERSION global/pg_control global/pg_filenode.map")


def test_a_wrong_confirmation_touches_nothing(
    recovered: Played, play: Callable[..., Played], on_host: OnHost, shop: Shop
) -> None:
    """Not even the service is stopped."""
    before = shop.sql("select system_identifier, pg_postmaster_start_time() from pg_control_system()")
    started = on_host("app1", "systemctl show --property=ExecMainStartTimestamp 'pharma-backend@*.service'")
    for words in (("-e", "recover_confirm=pharmacy"), ()):
        refused = play("playbooks/recover.yml", *words)
        assert refused.code != 0
        assert "not confirmed" in refused.output
    assert shop.sql("select system_identifier, pg_postmaster_start_time() from pg_control_system()") == before
    assert (
        on_host("app1", "systemctl show --property=ExecMainStartTimestamp 'pharma-backend@*.service'")
        == started
    )


def test_check_mode_looks_and_touches_nothing(
    recovered: Played, playbooks: Playbooks, shop: Shop, state_dir: Path
) -> None:
    """The key is not in the inventory: it is typed."""
    identity = (state_dir / "escrow" / "identity.txt").read_text().split()[-1]
    before = shop.sql("select system_identifier, pg_postmaster_start_time() from pg_control_system()")
    looked = playbooks.answer(
        "AGE-SECRET-KEY-1 (it is not shown)",
        identity,
        "playbooks/recover.yml",
        "--check",
        "-e",
        "recover_ask_identity=true",
        "-e",
        "recover_identity=",
    )
    assert looked.code == 0, looked.output[-3000:]
    assert identity not in looked.output
    assert "the present data would lie in" in looked.words
    assert shop.sql("select system_identifier, pg_postmaster_start_time() from pg_control_system()") == before


def test_on_a_living_host_the_old_data_lie_aside(
    recovered: Played,
    play: Callable[..., Played],
    on_host: OnHost,
    shop: Shop,
    newest: dict[str, Any],
    lab_host: Callable[[str], Host],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Back to the first set: what was sold since is not in it, and lies aside instead."""
    sales = shop.sql("select count(*) from pharmacy.sales")
    identifier = shop.sql("select system_identifier from pg_control_system()").strip()
    again = play(
        "playbooks/recover.yml",
        "-e",
        f"recover_confirm={DATABASE}",
        "-e",
        f"recover_backup_id={newest['id']}",
    )
    assert again.code == 0, again.output[-6000:]
    predicate = evidence(again)["predicate"]
    placed = next(stage for stage in predicate["stages"] if stage["name"] == "set_aside")
    aside = placed["facts"]["setAsideAs"]
    bin_dir = on_host("db1", "ls -d /usr/lib/postgresql/*/bin").split()[-1]
    control = on_host("db1", f"{bin_dir}/pg_controldata -D {aside}")
    assert identifier in control
    assert re.search(r"cluster state: +shut down\n", control)
    assert difference(on_host, newest)["differences"] == []
    with capsys.disabled():
        print(
            f"\nrecovered on a living host: {again.seconds:.0f} s, database {predicate['rto']['seconds']:.1f} s"
        )
    on_host("app1", "systemctl stop 'pharma-backend@*'")
    undone = lab_host("db1").run(f"pharma-ops recover undo --confirm {DATABASE}")
    assert undone.rc == 0, undone.stderr
    assert shop.sql("select count(*) from pharmacy.sales") == sales
    on_host("app1", "systemctl start pharma-backend@blue.socket pharma-backend@green.socket")
