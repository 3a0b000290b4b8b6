# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input gets a clear error and leaves no backup behind that could be mistaken for one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import manual
import pytest
from cluster import Cluster
from material import BACKUP_PASSWORD, BACKUP_ROLE, Keys, MakeConfig, superuser

from pharma_ops import config, locks
from pharma_ops.backup.catalogue import list_sets
from pharma_ops.backup.create import create_backup
from pharma_ops.backup.manifest import GLOBALS_NAME, Manifest
from pharma_ops.backup.verify import read_manifest, verify_set
from pharma_ops.errors import ExitCode, OpsError
from pharma_ops.log import Log
from pharma_ops.postgres import programs
from pharma_ops.postgres.content import compare, read_content
from pharma_ops.progress import Silent
from pharma_ops.store.open import open_store

SHOP = """
CREATE TABLE accounts (id integer PRIMARY KEY, balance numeric NOT NULL);
INSERT INTO accounts SELECT i, 100 FROM generate_series(1, 200) i;
CREATE TABLE journal (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL);
INSERT INTO journal (text) SELECT md5(i::text) || md5((i + 7)::text) FROM generate_series(1, 120000) i;
"""


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Cluster:
    """A cluster with the database ``shop``, some 15 MB that do not compress well."""
    cluster.create("shop", SHOP)
    return cluster


def failure(settings: config.Config, log: Log, exit_code: ExitCode = ExitCode.COULD_NOT_RUN) -> OpsError:
    """The error of a backup that must not come to be."""
    with pytest.raises(OpsError) as caught:
        create_backup(settings, log, Silent())
    assert caught.value.exit_code == exit_code
    assert caught.value.action
    return caught.value


def sets(settings: config.Config) -> list[str]:
    """The states of the sets that the store lists."""
    return [item.state for item in list_sets(open_store(settings.store("offsite")), "shop")]


def test_a_wrong_password_is_told_from_an_unreachable_host(
    shop: Cluster, make_config: MakeConfig, log: Log, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wr0ng-secret")
    settings = make_config(shop, "shop", database={"password_file": str(wrong)})
    error = failure(settings, log)
    assert error.code == "DATABASE_LOGIN_REFUSED"
    assert BACKUP_ROLE in error.message
    assert "wr0ng-secret" not in str(error)
    error = failure(make_config(shop, "shop", database={"port": 1}), log)
    assert error.code == "DATABASE_UNREACHABLE"
    assert "127.0.0.1:1" in error.message
    error = failure(make_config(shop, "shop", database={"host": str(tmp_path)}), log)
    assert error.code == "DATABASE_UNREACHABLE"
    error = failure(make_config(shop, "no-shop"), log)
    assert error.code == "DATABASE_MISSING"
    assert sets(settings) == []


def test_missing_secrets_are_named(shop: Cluster, make_config: MakeConfig, log: Log, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    cases = [
        ("SECRET_MISSING", {"database": {"password_file": gone}}),
        ("RECIPIENTS_MISSING", {"backup": {"recipients_file": gone}}),
        ("SIGNING_KEY_MISSING", {"backup": {"signing_key_file": gone}}),
        ("STORE_UNREACHABLE", {"store": {"path": gone}}),
    ]
    for code, sections in cases:
        error = failure(make_config(shop, "shop", **sections), log)
        assert error.code == code
        assert gone in error.message


def test_an_unknown_recipient_is_refused(
    shop: Cluster, make_config: MakeConfig, log: Log, keys: Keys, tmp_path: Path
) -> None:
    altered = tmp_path / "recipients.txt"
    text = keys.recipients.read_text()
    altered.write_text(text.replace(text[10], "q" if text[10] != "q" else "p", 1))
    settings = make_config(shop, "shop", backup={"recipients_file": str(altered)})
    assert failure(settings, log).code == "RECIPIENT_INVALID"
    assert sets(settings) == []


def test_a_server_newer_than_pg_dump_is_refused(
    shop: Cluster, make_config: MakeConfig, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only pg_dump on this host is of version 14, as far as the engine can see."""
    old = tmp_path / "14" / "bin"
    old.mkdir(parents=True)
    (old / "pg_dump").symlink_to(shop.bin / "pg_dump")
    monkeypatch.setattr(programs, "ROOTS", (str(tmp_path / "{major}" / "bin"),))
    settings = make_config(shop, "shop")
    error = failure(settings, log)
    assert error.code == "PROGRAM_TOO_OLD"
    assert "postgresql-client-" in error.action
    assert sets(settings) == []


def test_a_role_from_which_rows_are_hidden_is_refused(
    shop: Cluster, make_config: MakeConfig, log: Log
) -> None:
    settings = make_config(shop, "shop")
    shop.execute("ALTER TABLE accounts ENABLE ROW LEVEL SECURITY", "shop")
    shop.execute(f"ALTER ROLE {BACKUP_ROLE} NOBYPASSRLS")
    try:
        error = failure(settings, log)
        assert error.code == "ROW_SECURITY_HIDES_ROWS"
        assert "public.accounts" in error.message
        shop.execute(f"REVOKE pg_read_all_data FROM {BACKUP_ROLE}")
        error = failure(settings, log)
        assert error.code == "BACKUP_ROLE_CANNOT_READ"
        assert "public.accounts" in error.message
        assert "public.journal" in error.message
    finally:
        shop.execute(f"GRANT pg_read_all_data TO {BACKUP_ROLE}; ALTER ROLE {BACKUP_ROLE} BYPASSRLS")
        shop.execute("ALTER TABLE accounts DISABLE ROW LEVEL SECURITY", "shop")
    assert sets(settings) == []


def test_an_unreadable_large_object_fails_the_backup(
    cluster: Cluster, make_config: MakeConfig, log: Log, store_dir: Path
) -> None:
    cluster.create("lob", "SELECT lo_from_bytea(4711, 'x')")
    error = failure(make_config(cluster, "lob"), log, ExitCode.FAILED)
    assert error.code == "DUMP_FAILED"
    assert "4711" in error.message or "large object" in error.message
    assert [
        item.state for item in list_sets(open_store(make_config(cluster, "lob").store("offsite")), "lob")
    ] == ["unfinished"]


def test_a_second_backup_is_refused_and_names_the_first(
    shop: Cluster, make_config: MakeConfig, log: Log
) -> None:
    settings = make_config(shop, "shop")
    with locks.held(settings.lock_dir, "backup-shop", "20260101T000000Z-0a0a0a"):
        error = failure(settings, log)
    assert error.code == "LOCK_HELD"
    assert "20260101T000000Z-0a0a0a" in error.message
    assert str(os.getpid()) in error.message


def write_config(path: Path, settings: config.Config) -> Path:
    """The settings as the file that the command reads."""
    assert settings.backup
    name, database = settings.database(None)
    store = settings.store("offsite")
    path.write_text(f"""
environment = "lab"
lock_dir = "{settings.lock_dir}"
state_dir = "{settings.state_dir}"
metrics_dir = "{settings.metrics_dir}"
[databases.{name}]
host = "{database.host}"
port = {database.port}
user = "{database.user}"
password_file = "{database.password_file}"
[backup]
recipients_file = "{settings.backup.recipients_file}"
signing_key_file = "{settings.backup.signing_key_file}"
[stores.offsite]
type = "local"
path = "{store.path}"
""")
    return path


def command(engine_path: Path, config_file: Path, *words: str) -> list[str]:
    """The command line of pharma-ops as the host starts it."""
    return [
        "env",
        f"PYTHONPATH={engine_path}",
        sys.executable,
        "-m",
        "pharma_ops.cli",
        *words,
        "--config",
        str(config_file),
    ]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_killed_backup_is_unfinished_and_the_next_one_works(
    shop: Cluster,
    make_config: MakeConfig,
    log: Log,
    engine_path: Path,
    tmp_path: Path,
    store_dir: Path,
    number: signal.Signals,
) -> None:
    settings = make_config(shop, "shop")
    config_file = write_config(tmp_path / "config.toml", settings)
    child = subprocess.Popen(
        command(engine_path, config_file, "backup", "create"), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    deadline = time.monotonic() + 30
    while not list(store_dir.glob("shop/*/globals.sql.age")):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    child.send_signal(number)
    child.communicate(timeout=30)
    assert child.returncode == (-9 if number == signal.SIGKILL else 2)
    assert sets(settings) == ["unfinished"]
    unfinished = list_sets(open_store(settings.store("offsite")), "shop")[0]
    with pytest.raises(OpsError, match="never finished") as caught:
        read_manifest(open_store(settings.store("offsite")), "shop", unfinished.id, b"")
    assert caught.value.code == "BACKUP_UNFINISHED"
    create_backup(settings, log, Silent())
    assert sorted(sets(settings)) == ["complete", "unfinished"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory with 2 MiB of space: a tmpfs of its own, else what is left of /dev/shm."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mounted], capture_output=True)
    if done.returncode == 0:
        yield mounted
        subprocess.run(["umount", mounted], check=True)
        return
    shared = Path("/dev/shm")
    free = shutil.disk_usage(shared).free
    if free > 256 << 20:
        pytest.skip("needs the right to mount a tmpfs, or a small /dev/shm")
    directory = shared / f"small-{os.getpid()}"
    directory.mkdir()
    with (directory / "filler").open("wb") as filler:
        filler.write(b"\0" * (free - (2 << 20)))
    yield directory
    shutil.rmtree(directory)


def test_a_full_disk_fails_the_backup_and_leaves_no_dump(
    shop: Cluster, make_config: MakeConfig, log: Log, small_disk: Path
) -> None:
    settings = make_config(shop, "shop", store={"path": str(small_disk)})
    error = failure(settings, log, ExitCode.FAILED)
    assert error.code == "STORE_FULL"
    assert str(small_disk) in error.message
    assert "complete" not in sets(settings)
    assert not list(small_disk.glob("shop/*/dump.age*"))
    assert not list(small_disk.glob("shop/*/.*"))


def test_a_server_that_dies_fails_the_backup(make_config: MakeConfig, log: Log, store_dir: Path) -> None:
    mortal = Cluster()
    try:
        mortal.create("shop", SHOP)
        settings = make_config(mortal, "shop", database={"host": mortal.host, "user": "postgres"})

        class Killer(Silent):
            def started(self, step: str) -> None:
                if step == "dump":
                    deadline = time.monotonic() + 10
                    while not list(store_dir.glob(f"shop/*/{GLOBALS_NAME}")):
                        assert time.monotonic() < deadline, "the globals never reached the store"
                        time.sleep(0.01)
                    mortal.stop()

        with pytest.raises(OpsError) as caught:
            create_backup(settings, log, Killer())
        assert caught.value.code in {
            "DATABASE_LOST",
            "DUMP_FAILED",
            "DATABASE_UNREACHABLE",
            "DATABASE_REFUSED",
        }
        assert sets(settings) == ["unfinished"]
    finally:
        mortal.start()
        mortal.remove()


def test_damage_and_forgery_are_found_by_reading_back(
    shop: Cluster, make_config: MakeConfig, log: Log, keys: Keys, store_dir: Path, tmp_path: Path
) -> None:
    settings = make_config(shop, "shop")
    result = create_backup(settings, log, Silent())
    store = open_store(settings.store("offsite"))
    signers = keys.signers.read_bytes()
    directory = store_dir / "shop" / result.backup_id
    assert verify_set(store, "shop", result.backup_id, signers, Silent(), tmp_path).bytes == result.bytes

    whole = (directory / "dump.age").read_bytes()
    (directory / "dump.age").write_bytes(whole[:-1])
    with pytest.raises(OpsError, match=r"dump\.age is not what the manifest says") as caught:
        verify_set(store, "shop", result.backup_id, signers, Silent(), tmp_path)
    assert (caught.value.code, caught.value.exit_code) == ("BACKUP_DAMAGED", ExitCode.FAILED)
    (directory / "dump.age").write_bytes(whole)

    manifest = (directory / "manifest.json").read_bytes()
    (directory / "manifest.json").write_bytes(manifest.replace(b'"rows": 200', b'"rows": 199'))
    with pytest.raises(OpsError) as caught:
        verify_set(store, "shop", result.backup_id, signers, Silent(), tmp_path)
    assert caught.value.code == "SIGNATURE_INVALID"
    (directory / "manifest.json").write_bytes(manifest)

    moved = result.backup_id[:-6] + "ffffff"
    directory.rename(directory.with_name(moved))
    with pytest.raises(OpsError) as caught:
        verify_set(store, "shop", moved, signers, Silent(), tmp_path)
    assert caught.value.code == "MANIFEST_MISPLACED"


def test_live_writes_during_the_backup_change_nothing_of_it(
    cluster: Cluster,
    other_cluster: Cluster,
    make_config: MakeConfig,
    log: Log,
    keys: Keys,
    store_dir: Path,
    tmp_path: Path,
) -> None:
    """Transfers keep the sum of the balances; every row of the restore is of one moment."""
    cluster.create("live", SHOP)
    stop = threading.Event()
    done = [0, 0]
    errors: list[BaseException] = []

    def write(worker: int) -> None:
        try:
            with cluster.connect("live") as connection:
                while not stop.is_set():
                    number = done[worker] % 200
                    # Locked in the order of their ids, so that the writers never wait for each other in a ring.
                    steps = sorted([(number + 1, -1), (200 - number, 1)])
                    with connection.transaction():
                        for account, amount in steps:
                            connection.execute(
                                "UPDATE accounts SET balance = balance + %s WHERE id = %s", (amount, account)
                            )
                        connection.execute("INSERT INTO journal (text) VALUES ('live')")
                    connection.execute("DELETE FROM journal WHERE id = %s", (1 + worker + 2 * done[worker],))
                    done[worker] += 1
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            errors.append(error)

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(2)]
    for writer in writers:
        writer.start()
    try:
        time.sleep(0.3)
        before = sum(done)
        result = create_backup(make_config(cluster, "live"), log, Silent())
        during = sum(done) - before
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not errors
    assert during > 20

    directory = store_dir / "live" / result.backup_id
    manifest = Manifest.from_json((directory / "manifest.json").read_bytes())
    sequence = manifest.content.sequences["public.journal_id_seq"]
    assert sequence.low < sequence.high
    manual.restore(other_cluster, directory, keys.identity, tmp_path / "restore")
    restored = read_content(superuser(other_cluster, "live"), snapshot=None, sessions=2, progress=Silent())
    assert compare(manifest.content, restored) == []
    now = read_content(superuser(cluster, "live"), snapshot=None, sessions=2, progress=Silent())
    assert {item.name for item in compare(manifest.content, now)} >= {"public.accounts", "public.journal"}
    with other_cluster.connect("live") as connection:
        row = connection.execute("SELECT sum(balance) FROM accounts").fetchone()
    assert row == (20000,)
    assert manifest.newest_change_basis == "commit_timestamp"
    assert manifest.started_at <= manifest.snapshot_at
    assert manifest.newest_change_at <= manifest.snapshot_at <= manifest.finished_at


def test_no_password_is_in_an_argument_or_environment(
    shop: Cluster, make_config: MakeConfig, log: Log
) -> None:
    """Looks at every child of this process while a backup runs."""
    seen: set[str] = set()
    leaks: list[str] = []
    stop = threading.Event()

    def look(children: Path) -> None:
        for pid in children.read_text().split():
            text = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
            seen.add(text.split(b"\0")[0].decode().rpartition("/")[2])
            if BACKUP_PASSWORD.encode() in text:
                leaks.append(pid)

    def watch() -> None:
        while not stop.is_set():
            for children in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
                with contextlib.suppress(OSError):  # threads and children end while they are looked at
                    look(children)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        create_backup(make_config(shop, "shop"), log, Silent())
    finally:
        stop.set()
        watcher.join()
    assert {"pg_dump", "age"} <= seen
    assert not leaks
