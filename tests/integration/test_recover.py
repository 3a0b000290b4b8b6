# SPDX-License-Identifier: GPL-3.0-or-later
"""Recoveries of a real Debian cluster: what comes back, what is refused, what is never lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from material import Keys
from recover_host import DATABASE, MAJOR, RecoverHost

from pharma_ops.recover import debian
from pharma_ops.recover.stages import remove

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root sets a data directory aside")

STAGES = (
    "select",
    "preflight",
    "confirm",
    "fetch",
    "verify_artefacts",
    "decrypt",
    "provision",
    "restore",
    "compare",
    "stop",
    "set_aside",
    "settle",
    "teardown",
    "evidence",
)
# Where something is left that the next run has to sweep.
AGAIN = ("stage:fetch", "stage:decrypt", "stage:restore", "stage:stop", "step:setting_aside")
STEPS = ("setting_aside", "placing", "placed", "finished")


@pytest.fixture(autouse=True)
def engine(engine_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(engine_path))


@pytest.fixture(scope="module")
def made(keys: Keys, engine_path: Path) -> Iterator[RecoverHost]:
    """One host for all tests: each leaves it with the data of the backup in place."""
    os.environ["PYTHONPATH"] = str(engine_path)
    host = RecoverHost(keys)
    host.backup_id = host.back_up()
    yield host
    host.remove()


@pytest.fixture
def host(made: RecoverHost) -> Iterator[RecoverHost]:
    """The host with one sale more than the backup, and nothing of an earlier test beside its data."""
    if not made.cluster.running:
        made.cluster.start()
    made.psql(
        "DELETE FROM shop.sale WHERE id > 2000; INSERT INTO shop.sale (what) VALUES ('later')", DATABASE
    )
    yield made
    made.write_config()
    for mark in (".before-", ".undone-", ".recovering-"):
        for path in made.beside(mark):
            remove(path)
    shutil.rmtree(made.base / "state", ignore_errors=True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def stages(result: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["verdict"] for stage in result["stages"]}


def untouched(host: RecoverHost) -> None:
    """The server runs as before on the old data, and nothing lies about."""
    assert host.cluster.running
    assert host.sales() == 2001
    assert [host.beside(mark) for mark in (".before-", ".recovering-", ".undone-")] == [[], [], []]


def test_the_database_comes_back_and_the_old_data_lie_aside_untouched(host: RecoverHost) -> None:
    before = host.psql("SELECT system_identifier FROM pg_control_system()")
    status, result, text = host.recover()
    assert status == 0, text
    assert (result["verdict"], result["backup_id"]) == ("passed", host.backup_id)
    assert set(stages(result).values()) == {"passed"}
    assert tuple(stages(result)) == STAGES
    assert host.sales() == 2000
    aside = Path(result["set_aside"])
    assert aside == host.data.with_name(f"{host.data.name}.before-{result['recovery_id']}")
    assert debian.system_identifier(host.cluster.bin_dir, aside) == before
    assert host.psql("SELECT system_identifier FROM pg_control_system()") != before
    assert host.psql("SHOW data_checksums") == "on"
    assert host.psql("SHOW track_commit_timestamp") == "on", "the configuration in /etc is kept"
    assert (
        host.psql("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'sale'", DATABASE)
        == "shop_owner"
    )
    assert host.psql("SELECT has_table_privilege('shop_app', 'shop.sale', 'INSERT')", DATABASE) == "t"
    assert host.psql("SELECT reltuples FROM pg_class WHERE relname = 'sale'", DATABASE) == "2000"
    assert host.beside(".recovering-") == []


def test_the_evidence_names_the_set_and_verifies(host: RecoverHost) -> None:
    _status, result, text = host.recover()
    directory = Path(result["evidence_dir"])
    predicate = json.loads((directory / "evidence.json").read_text())
    assert predicate["subject"][0] == {
        "name": f"{DATABASE}/{host.backup_id}/manifest.json",
        "digest": {"sha256": result["manifest_sha256"]},
    }
    assert predicate["predicate"]["scope"] == "recovery"
    assert predicate["predicate"]["verdict"] == "passed"
    page = (directory / "report.html").read_text()
    assert "Recuperação da produção" in page
    assert "Recovery of production" in page
    assert result["recovery_id"] in (directory / "report.md").read_text()
    public = host.base / "public.pem"
    subprocess.run(
        ["openssl", "pkey", "-in", host.keys.signing_key, "-pubout", "-out", public],
        check=True,
        capture_output=True,
    )
    status, _verified, text = host.command("evidence", "verify", str(directory), "--public-key", str(public))
    assert status == 0, text


def test_without_a_key_the_evidence_is_unsigned_and_says_so(host: RecoverHost) -> None:
    config = host.base / "config.toml"
    config.write_text(config.read_text().replace(str(host.keys.signing_key), "/nonexistent"))
    status, result, text = host.recover("--evidence", str(host.base / "unsigned"))
    assert status == 0, text
    directory = Path(result["evidence_dir"])
    assert not (directory / "evidence.dsse.json").exists()
    assert "NOT SIGNED" in (directory / "report.html").read_text()


def test_undo_brings_the_old_data_back_and_keeps_the_restored(host: RecoverHost) -> None:
    _status, recovered, _text = host.recover()
    identity = host.psql("SELECT system_identifier FROM pg_control_system()")
    status, result, text = host.undo()
    assert status == 0, text
    assert result["recovery_id"] == recovered["recovery_id"]
    assert host.sales() == 2001
    assert debian.system_identifier(host.cluster.bin_dir, Path(result["kept"])) == identity
    status, result, _text = host.undo()
    assert (status, result["error"]["code"]) == (2, "NOTHING_TO_UNDO")
    assert host.sales() == 2001


@pytest.mark.parametrize("words", [("--confirm", "shopp"), ("--confirm", "")])
def test_a_wrong_confirmation_touches_nothing(host: RecoverHost, words: tuple[str, ...]) -> None:
    status, result, _text = host.recover(*words)
    assert (status, stages(result)["confirm"], stages(result)["fetch"]) == (2, "unknown", "not_run")
    assert result["touched"] is False
    untouched(host)


def test_without_a_terminal_and_without_confirm_nothing_is_touched(host: RecoverHost) -> None:
    status, result, _text = host.command("recover", "--cluster", host.name, "--database", DATABASE)
    assert (status, stages(result)["confirm"]) == (2, "unknown")
    untouched(host)


def test_a_dry_run_looks_and_touches_nothing(host: RecoverHost) -> None:
    status, result, text = host.recover("--dry-run")
    assert status == 0, text
    assert stages(result) == {"select": "passed", "preflight": "passed"}
    assert "nothing was touched" in result["cause"]
    untouched(host)
    assert not (host.base / "state/recover").exists()


def test_sessions_keep_the_server_from_being_stopped(host: RecoverHost) -> None:
    with subprocess.Popen(
        [
            "runuser",
            "-u",
            "postgres",
            "--",
            "psql",
            "-p",
            "5599",
            "-d",
            DATABASE,
            "-c",
            "SELECT pg_sleep(60)",
        ],
        stdout=subprocess.DEVNULL,
    ) as session:
        try:
            wait_for(
                lambda: host.psql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
            )
            status, result, text = host.recover()
        finally:
            subprocess.run(["pkill", "-P", str(session.pid)], check=False)
            session.kill()
    assert (status, stages(result)["confirm"]) == (2, "unknown")
    assert "postgres at this host (psql)" in result["cause"], text
    untouched(host)


def test_a_cluster_that_is_down_is_recovered(host: RecoverHost) -> None:
    host.cluster.stop()
    old = host.identity(host.data)
    status, result, text = host.recover()
    assert status == 0, text
    assert host.identity(Path(result["set_aside"])) == old, "set aside byte for byte"
    assert host.sales() == 2000
    status, result, text = host.undo()
    assert status == 0, text
    assert not host.cluster.running, "it did not run before"
    assert host.identity(host.data) == old


def test_a_data_directory_that_is_gone_is_recovered(host: RecoverHost) -> None:
    host.cluster.stop()
    lost = host.data.with_name("lost")
    host.data.rename(lost)
    try:
        status, result, text = host.recover()
    finally:
        shutil.rmtree(lost)
    assert status == 0, text
    assert result["set_aside"] is None
    assert host.sales() == 2000


def test_a_wrong_key_touches_nothing(host: RecoverHost, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.txt"
    subprocess.run(["age-keygen", "-o", wrong], check=True, capture_output=True)
    status, result, _text = host.recover("--identity", str(wrong))
    assert (status, stages(result)["preflight"], stages(result)["fetch"]) == (1, "failed", "not_run")
    assert "was encrypted for the recipients" in result["cause"]
    untouched(host)


def test_the_escrow_key_is_read_from_standard_input_and_lies_on_no_disk(host: RecoverHost) -> None:
    host.write_config(identity=host.base / "none.txt")
    escrow = host.keys.identity.with_name("escrow.txt").read_text()
    status, result, text = host.recover("--identity", "-", typed=escrow)
    assert status == 0, text
    assert host.sales() == 2000
    secret = escrow.split()[-1]
    kept = [path for path in host.base.rglob("*") if path.is_file() and secret in path.read_text("latin-1")]
    assert kept == []
    assert secret not in json.dumps(result) + text


def test_a_set_that_was_damaged_in_the_store_touches_nothing(host: RecoverHost) -> None:
    dump = host.store / DATABASE / host.backup_id / "dump.age"
    whole = dump.read_bytes()
    dump.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        status, result, _text = host.recover()
    finally:
        dump.write_bytes(whole)
    assert (status, stages(result)["verify_artefacts"]) == (1, "failed")
    assert stages(result)["decrypt"] == "not_run"
    assert Path(result["evidence_dir"]).is_dir()
    untouched(host)


def test_a_missing_server_version_is_named(
    host: RecoverHost, monkeypatch: pytest.MonkeyPatch, keys: Keys
) -> None:
    """A set of a version that this host has no programs of."""
    from pharma_ops.sealing import signing

    directory = host.store / DATABASE / host.backup_id
    manifest, signature = (
        (directory / "manifest.json").read_bytes(),
        (directory / "manifest.json.sig").read_bytes(),
    )
    data = json.loads(manifest)
    data["server"]["versionNumber"] = 290001
    altered = json.dumps(data).encode()
    try:
        (directory / "manifest.json").write_bytes(altered)
        (directory / "manifest.json.sig").write_bytes(signing.sign(keys.signing_key.read_bytes(), altered))
        status, result, _text = host.recover()
    finally:
        (directory / "manifest.json").write_bytes(manifest)
        (directory / "manifest.json.sig").write_bytes(signature)
    assert (status, stages(result)["preflight"], stages(result)["confirm"]) == (2, "unknown", "not_run")
    assert "29" in result["cause"]
    untouched(host)


def test_other_databases_are_not_taken_along(host: RecoverHost) -> None:
    host.psql("CREATE DATABASE payroll")
    try:
        status, result, text = host.recover()
        assert (status, stages(result)["preflight"]) == (2, "unknown")
        assert "payroll" in result["cause"], text
        host.cluster.stop()
        status, result, text = host.recover()
        assert (status, stages(result)["preflight"]) == (2, "unknown"), text
        host.cluster.start()
        untouched(host)
        status, result, text = host.recover("--others-too")
        assert status == 0, text
    finally:
        if host.psql("SELECT count(*) FROM pg_database WHERE datname = 'payroll'") == "1":
            host.psql("DROP DATABASE payroll")


def test_a_ledger_chooses_the_newest_proven_set(host: RecoverHost, tmp_path: Path) -> None:
    status, result, _text = host.recover("--proven", "--ledger", str(tmp_path / "none.jsonl"))
    assert (status, stages(result)["select"]) == (2, "unknown")
    status, result, _text = host.recover("--proven")
    assert (status, result["error"]["code"]) == (2, "ARGUMENT_INVALID")


class SmallHost(RecoverHost):
    """Another cluster, which runs beside the other tests' one."""

    name = "small"
    port = 5598


def test_a_disk_that_is_too_small_is_seen_before_anything_is_touched(keys: Keys) -> None:
    """A cluster on a filesystem of 250 MB: nothing is fetched."""
    small = Path(tempfile.mkdtemp(prefix="small-", dir="/var/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=250m,mode=0755", "none", small], check=True)
    host = None
    try:
        host = SmallHost(keys, small / "data")
        host.back_up()
        status, result, _text = host.recover()
        assert (status, stages(result)["preflight"]) == (2, "unknown")
        assert "free disk" in result["cause"]
        assert sorted(path.name for path in small.iterdir()) == ["data"]
        assert host.sales() == 2000
    finally:
        if host is not None:
            host.remove()
        subprocess.run(["umount", "--lazy", small], check=True)


@pytest.mark.parametrize("where", [f"stage:{name}" for name in STAGES] + [f"step:{name}" for name in STEPS])
def test_killed_anywhere_the_old_data_are_there_and_come_back(host: RecoverHost, where: str) -> None:
    """After SIGKILL the old directory is in place or under a name that is told; undo or another run succeeds."""
    old = host.psql("SELECT system_identifier FROM pg_control_system()")
    status, _result, _text = host.recover(die=where)
    assert status == -9
    places = [host.data, *host.beside(".before-")]
    there = [place for place in places if place.exists()]
    found = [place for place in there if debian.system_identifier(host.cluster.bin_dir, place) == old]
    assert len(found) == 1, f"{where}: {places}"
    words: tuple[str, ...] = ()
    if found[0] == host.data:
        if not host.cluster.running:
            host.cluster.start()
        assert host.sales() == 2001
        if where not in AGAIN:
            return
        status, _result, text = host.recover()
        assert status == 0, text
    else:
        words = ("--recovery", found[0].name.partition(".before-")[2])
        if where not in ("stage:settle", "stage:teardown", "stage:evidence", "step:finished"):
            _status, _result, text = host.recover("--dry-run")
            assert str(found[0]) in text, "the next run tells where the old data are"
    status, _result, text = host.undo(*words)
    assert status == 0, text
    if not host.cluster.running:
        host.cluster.start()
    assert host.psql("SELECT system_identifier FROM pg_control_system()") == old
    assert host.sales() == 2001
    assert host.beside(".recovering-") == [], "no decrypted file is left"


@pytest.mark.parametrize("step", ["placing", "placed"])
def test_killed_between_the_renames_another_run_ends_it(host: RecoverHost, step: str) -> None:
    old = host.psql("SELECT system_identifier FROM pg_control_system()")
    assert host.recover(die=f"step:{step}")[0] == -9
    status, result, text = host.recover()
    assert status == 0, text
    assert host.sales() == 2000
    found = [p for p in host.beside(".before-") if debian.system_identifier(host.cluster.bin_dir, p) == old]
    assert len(found) == 1
    if step == "placing":
        assert result["set_aside"] == str(found[0]), "the first run's old data stay under their name"


def test_two_recoveries_at_once_are_refused(host: RecoverHost) -> None:
    from pharma_ops import locks

    with locks.held(host.base / "lock", "recover", "recovery-held"):
        status, result, _text = host.recover()
    assert (status, result["error"]["code"]) == (2, "LOCK_HELD")
    assert "recovery-held" in result["error"]["message"]
    untouched(host)


def test_a_fresh_host_without_a_cluster_gets_one(host: RecoverHost) -> None:
    """The database host is new: Debian's tools make the cluster, the set fills it."""
    name, RecoverHost.name = RecoverHost.name, "fresh"
    try:
        status, _result, text = host.recover()
        assert status == 0, text
        port = host.cluster.port
        words = ["runuser", "-u", "postgres", "--", "psql", "-XAt", "-p", str(port), "-d", DATABASE]
        shown = subprocess.run(
            [*words, "-c", "SELECT count(*) FROM shop.sale"], capture_output=True, text=True, check=True
        )
        assert shown.stdout.strip() == "2000"
    finally:
        subprocess.run(["pg_dropcluster", "--stop", str(MAJOR), "fresh"], check=False)
        for path in Path(f"/var/lib/postgresql/{MAJOR}").glob("fresh.*"):
            shutil.rmtree(path)
        RecoverHost.name = name
