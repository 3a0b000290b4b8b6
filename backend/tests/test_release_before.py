# SPDX-License-Identifier: GPL-3.0-or-later
"""The release before works on the migrations of this one: it does while it is replaced, and after a roll back."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from backend_harness import PASSWORD, Cluster, make_cli, start_service

from pharma_backend import migrate

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = "backend/src/pharma_backend/migrations"


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The backend as it was before the newest migration was added."""
    if git("rev-parse", "--is-shallow-repository").strip() == b"true":
        pytest.skip("a shallow clone does not have the release before: git fetch --unshallow")
    newest = migrate.packaged()[-1]
    path = f"{MIGRATIONS}/{newest.version:04d}_{newest.name}.sql"
    added = git("log", "--diff-filter=A", "--format=%H", "--", path).split()
    # A migration that is not committed yet came after everything that is.
    commit = f"{added[-1].decode()}^" if added else "HEAD"
    home = tmp_path_factory.mktemp("before")
    tree = git("archive", commit, "backend/src", "backend/journey.yaml")
    subprocess.run(["tar", "-x", "-C", str(home)], input=tree, check=True)
    return home / "backend"


def test_it_serves_on_the_new_migrations(
    before: Path, cluster: Cluster, tmp_path: Path, engine: None
) -> None:
    name = cluster.new_database("release_before")
    cli = make_cli(cluster, name, tmp_path)
    old = {"PYTHONPATH": str(before / "src")}
    older = cli.run("migrate", **old)
    cli.json("demo-data", "--sales", "100", "--seed", "7")
    assert '"applied"' in older.stdout
    newer = cli.json("migrate")
    assert newer["applied"] == [migrate.packaged()[-1].version]
    # Whoever puts the release before back runs its migrate again.
    assert f'"newer": [{newer["head"]}]' in cli.run("migrate", **old).stdout

    running = start_service(cli, tmp_path, **old)
    run_id = f"before-{uuid4().hex[:12]}"
    try:
        cli.run(
            *("create-user", "--username", run_id, "--role", "manager", "--password-stdin"),
            stdin=PASSWORD,
            **old,
        )
        with psycopg.connect(cluster.url("postgres", name), autocommit=True) as connection:
            outcome = importlib.import_module("pharma_ops.journey.run").run(
                importlib.import_module("pharma_ops.journey.spec").load(before / "journey.yaml"),
                base_url="http://pharma",
                socket=running.socket,
                given={"username": run_id, "password": PASSWORD, "run_id": run_id},
                connection=connection,
            )
        assert [finding for finding in outcome.findings if finding.met is not True] == []
        assert len(outcome.findings) > 30
    finally:
        running.client.close()
        assert running.stop() == 0
