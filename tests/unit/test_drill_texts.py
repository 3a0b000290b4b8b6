# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill reads out of dumps, globals and configured commands, and what it starts units with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pharma_ops.drill import application, archive, isolation, preflight, restoring, workspace
from pharma_ops.errors import OpsError
from pharma_ops.postgres.cluster import MAX_SOCKET_DIRECTORY_BYTES, Cluster, Locale, bulk_load_settings

SCHEMA = """\
CREATE SCHEMA shop;
ALTER SCHEMA shop OWNER TO "Shop Owner";
ALTER TABLE shop.t OWNER TO pharma_owner;
CREATE POLICY p ON shop.t FOR SELECT TO cashier, "o""dd" USING (true);
CREATE POLICY q ON shop.t USING (true);
REVOKE USAGE ON SCHEMA public FROM PUBLIC;
GRANT SELECT ON TABLE shop.t TO reader WITH GRANT OPTION;
SET SESSION AUTHORIZATION grantor;
GRANT SELECT ON TABLE shop.t TO farmácia;
ALTER DEFAULT PRIVILEGES FOR ROLE definer IN SCHEMA shop GRANT SELECT ON TABLES TO later;
"""


def test_every_role_that_a_dump_needs_is_found() -> None:
    wanted = ["Shop Owner", "cashier", "definer", "farmácia", "grantor", 'o"dd', "pharma_owner", "reader"]
    assert archive.roles_in(SCHEMA) == tuple(sorted([*wanted, "later"]))


def test_globals_lose_the_bootstrap_superuser_and_the_tablespaces_and_nothing_else() -> None:
    sql = (
        "CREATE ROLE pharma_app;\n"
        "CREATE ROLE postgres;\n"
        "ALTER ROLE postgres WITH SUPERUSER;\n"
        "CREATE ROLE postgres_exporter;\n"
        "CREATE TABLESPACE fast OWNER postgres LOCATION '/fast';\n"
        "GRANT ALL ON TABLESPACE fast TO pharma_app;\n"
    )
    kept = [line for line in restoring.replayable(sql).splitlines() if line]
    assert kept == [
        "CREATE ROLE pharma_app;",
        "ALTER ROLE postgres WITH SUPERUSER;",
        "CREATE ROLE postgres_exporter;",
    ]


def test_words_of_a_command_are_filled() -> None:
    words = ["{release}/bin/app", "--uds={socket}", "{}"]
    names = {"release": "/opt/r", "socket": "/w/s"}
    assert application.fill(words, names) == ["/opt/r/bin/app", "--uds=/w/s", "{}"]
    with pytest.raises(OpsError, match="username") as caught:
        application.fill(["{username}"], names)
    assert caught.value.code == "CONFIG_INVALID"


def test_a_unit_has_no_network_and_no_secret_in_its_words(tmp_path: Path) -> None:
    sandbox = isolation.Sandbox(
        unit_prefix="pharma-drill-1",
        user="postgres",
        hidden=tmp_path,
        writable=tmp_path / "app",
        readable=(tmp_path / "s",),
        log=tmp_path / "log",
        credentials={"JWT_SECRET": tmp_path / "JWT_SECRET"},
    )
    words = sandbox.words("app")
    assert "--unit=pharma-drill-1-app.service" in words
    for wanted in ("PrivateNetwork=yes", "ProtectSystem=strict", "User=postgres", "CapabilityBoundingSet="):
        assert f"--property={wanted}" in words
    assert f"--property=LoadCredential=JWT_SECRET:{tmp_path}/JWT_SECRET" in words


def test_a_release_is_what_its_file_says(tmp_path: Path) -> None:
    with pytest.raises(OpsError) as caught:
        preflight.read_release(tmp_path)
    assert caught.value.code == "RELEASE_MISSING"
    (tmp_path / "release.json").write_text('{"name": "app", "version": "1.2.3", "digest": "ab"}')
    release = preflight.read_release(tmp_path)
    assert (release.name, release.version, release.sha256) == ("app", "1.2.3", "ab")


@pytest.mark.parametrize(("memory", "shared"), [(1 << 28, "64MB"), (1 << 32, "512MB"), (1 << 40, "1024MB")])
def test_the_server_takes_what_the_host_can_give(memory: int, shared: str) -> None:
    assert bulk_load_settings(memory, 2)["shared_buffers"] == shared


def test_a_path_that_no_socket_can_have_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * MAX_SOCKET_DIRECTORY_BYTES)
    with pytest.raises(OpsError) as caught:
        Cluster(bin_dir=Path("/none"), directory=directory).create(Locale())
    assert caught.value.code == "SOCKET_PATH_TOO_LONG"


def test_processes_in_a_directory_are_found_and_those_beside_it_are_not(tmp_path: Path) -> None:
    inside, beside = tmp_path / "drill-1", tmp_path / "drill-1.log"
    inside.mkdir()
    beside.touch()
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        subprocess.Popen(sleep, cwd=inside) as by_cwd,
        subprocess.Popen([*sleep, f"--data={inside}"]) as by_word,
        subprocess.Popen([*sleep, beside]) as other,
    ):
        try:
            assert set(workspace.processes_of(inside)) == {by_cwd.pid, by_word.pid}
            assert os.getpid() not in workspace.processes_of(Path.cwd())
            workspace.end_processes(inside)
            assert (by_cwd.wait(5), by_word.wait(5), other.poll()) == (-15, -15, None)
        finally:
            for process in (by_cwd, by_word, other):
                process.kill()
