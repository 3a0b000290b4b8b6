# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases that others run: backed up by a DATABASE_URL over TLS, by a role that is no superuser."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import manual
import pytest
from cluster import Cluster
from material import Keys, MakeConfig, superuser

from pharma_ops import config
from pharma_ops.backup.create import create_backup
from pharma_ops.backup.manifest import Manifest
from pharma_ops.errors import OpsError
from pharma_ops.log import Log
from pharma_ops.postgres.content import compare, read_content
from pharma_ops.progress import Silent

PASSWORD = "p@ss:w/ord?#%"
APP = """
CREATE ROLE app_owner LOGIN; CREATE ROLE app_reader;
GRANT CREATE, CONNECT ON DATABASE app TO app_owner; GRANT CREATE ON SCHEMA public TO app_owner;
SET ROLE app_owner;
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant integer NOT NULL, text text);
INSERT INTO orders (tenant, text) SELECT i % 3, md5(i::text) FROM generate_series(1, 5000) i;
GRANT SELECT ON orders TO app_reader;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON orders USING (tenant = 1);
RESET ROLE;
"""


@pytest.fixture(scope="module")
def managed() -> Iterator[Cluster]:
    """A server as a provider runs it: TLS only, no commit timestamps, nobody gets the superuser."""
    cluster = Cluster()
    data = cluster.directory / "data"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *(
                "-addext",
                "subjectAltName=DNS:localhost",
                "-keyout",
                data / "server.key",
                "-out",
                data / "server.crt",
            ),
        ],
        check=True,
        capture_output=True,
    )
    for name in ("server.key", "server.crt"):
        (data / name).chmod(0o600)
        shutil.chown(data / name, "postgres", "postgres")
    (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
    with (data / "postgresql.conf").open("a") as conf:
        conf.write("ssl = on\ntrack_commit_timestamp = off\n")
    cluster.stop()
    cluster.start()
    cluster.create("app", APP)
    with cluster.connect() as connection:
        verifier = connection.pgconn.encrypt_password(PASSWORD.encode(), b"runner", b"scram-sha-256").decode()
        connection.execute(f"CREATE ROLE runner LOGIN PASSWORD '{verifier}'")
    yield cluster
    cluster.remove()


@pytest.fixture
def settings(managed: Cluster, make_config: MakeConfig, tmp_path: Path) -> config.Config:
    """The runner: nothing of the server but its address, in a file, and the authority of its certificate."""
    url = tmp_path / "url"
    url.write_text(f"postgresql://runner:{quote(PASSWORD, safe='')}@localhost:{managed.port}/app\n")
    authority = tmp_path / "ca.crt"
    shutil.copy(managed.directory / "data/server.crt", authority)
    made = make_config(managed, "unused")
    section = config.Database(url_file=url, sslrootcert=authority)
    return dataclasses.replace(made, databases={"shop-app": section})


@pytest.fixture
def may_read(managed: Cluster) -> Iterator[None]:
    """What docs/adopting.md tells an administrator to grant, where there is one who may."""
    managed.execute("GRANT pg_read_all_data TO runner; ALTER ROLE runner BYPASSRLS")
    yield
    managed.execute("REVOKE pg_read_all_data FROM runner; ALTER ROLE runner NOBYPASSRLS")


@pytest.mark.usefixtures("may_read")
def test_a_database_of_others_is_backed_up_over_tls_and_restored_by_hand(
    managed: Cluster,
    other_cluster: Cluster,
    settings: config.Config,
    log: Log,
    keys: Keys,
    store_dir: Path,
    tmp_path: Path,
) -> None:
    seen: list[tuple[object, ...]] = []

    class Look(Silent):
        def started(self, step: str) -> None:
            if step == "dump":
                with managed.connect() as connection:
                    query = (
                        "SELECT s.ssl, r.rolsuper FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)"
                        " JOIN pg_roles r ON r.rolname = a.usename WHERE a.usename = 'runner'"
                    )
                    seen.extend(connection.execute(query).fetchall())

    result = create_backup(settings, log, Look())
    assert seen
    assert set(seen) == {(True, False)}, "every session has TLS, and none is a superuser's"
    directory = store_dir / "shop-app" / result.backup_id
    manifest = Manifest.from_json((directory / "manifest.json").read_bytes())
    assert (manifest.database, manifest.restored_name) == ("shop-app", "app")
    assert manifest.newest_change_basis == "snapshot", "the server keeps no commit times"
    manual.restore(other_cluster, directory, keys.identity, tmp_path / "restore")
    restored = read_content(superuser(other_cluster, "app"), snapshot=None, sessions=1, progress=Silent())
    assert compare(manifest.content, restored) == []


def test_without_rights_the_tables_are_named_and_no_set_is_begun(
    managed: Cluster, settings: config.Config, log: Log, store_dir: Path
) -> None:
    with pytest.raises(OpsError) as caught:
        create_backup(settings, log, Silent())
    assert caught.value.code == "BACKUP_ROLE_CANNOT_READ"
    assert "public.orders" in caught.value.message
    managed.execute("GRANT pg_read_all_data TO runner")
    with pytest.raises(OpsError) as caught:
        create_backup(settings, log, Silent())
    assert caught.value.code == "ROW_SECURITY_HIDES_ROWS"
    managed.execute("REVOKE pg_read_all_data FROM runner")
    assert list(store_dir.iterdir()) == []


def test_where_nobody_may_grant_bypassrls_the_owner_of_the_tables_backs_up(
    managed: Cluster, settings: config.Config, log: Log
) -> None:
    managed.execute("GRANT app_owner TO runner")
    try:
        result = create_backup(settings, log, Silent())
        assert result.rows == 5000
        managed.execute("ALTER TABLE orders FORCE ROW LEVEL SECURITY", "app")
        with pytest.raises(OpsError) as caught:
            create_backup(settings, log, Silent())
        assert caught.value.code == "ROW_SECURITY_HIDES_ROWS"
    finally:
        managed.execute("ALTER TABLE orders NO FORCE ROW LEVEL SECURITY", "app")
        managed.execute("REVOKE app_owner FROM runner")


def test_a_server_that_cannot_prove_who_it_is_gets_no_password(
    managed: Cluster, settings: config.Config, log: Log, tmp_path: Path
) -> None:
    def failure(**changes: object) -> str:
        section = dataclasses.replace(settings.databases["shop-app"], **changes)  # type: ignore[arg-type]
        with pytest.raises(OpsError) as caught:
            create_backup(dataclasses.replace(settings, databases={"shop-app": section}), log, Silent())
        assert PASSWORD not in str(caught.value)
        return caught.value.code

    assert failure(sslrootcert=None) == "DATABASE_TLS_FAILED", (
        "its authority is not one that this host trusts"
    )
    by_address = tmp_path / "by-address"
    by_address.write_text(f"postgresql://runner:{quote(PASSWORD, safe='')}@127.0.0.1:{managed.port}/app")
    assert failure(url_file=by_address) == "DATABASE_TLS_FAILED", "the certificate names another host"
    plain = tmp_path / "plain"
    plain.write_text(
        f"postgresql://runner:{quote(PASSWORD, safe='')}@localhost:{managed.port}/app?sslmode=disable"
    )
    assert failure(url_file=plain) == "DATABASE_LOGIN_REFUSED", "this server takes nobody without TLS"
