# SPDX-License-Identifier: GPL-3.0-or-later
"""The release on the restored copy, in a real systemd unit without network. Needs systemd and root."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from material import Keys, MakeConfig

from pharma_ops import config
from pharma_ops.backup.create import create_backup
from pharma_ops.drill import isolation, workspace
from pharma_ops.drill.run import DrillOutcome, run_drill
from pharma_ops.evidence.record import Verdict
from pharma_ops.log import Log
from pharma_ops.progress import Silent

pytestmark = pytest.mark.skipif(bool(isolation.unavailable()), reason=isolation.unavailable())

DIGEST = "ab" * 32
SOURCE = f"""
CREATE SCHEMA shop;
CREATE TABLE shop.users (name text PRIMARY KEY, password_length integer NOT NULL);
CREATE TABLE shop.sales (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, quantity integer NOT NULL);
INSERT INTO shop.sales (quantity) SELECT g FROM generate_series(1, 50) g;
CREATE TABLE shop.releases (name text, version text, digest text);
INSERT INTO shop.releases VALUES ('shop', '1.0.0', '{DIGEST}');
DO $$ BEGIN CREATE ROLE shop_app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT USAGE ON SCHEMA shop TO shop_app;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA shop TO shop_app;
"""
# A release as small as can be: it sells over a unix socket, and it tries to reach the world.
PROGRAM = """\
import json, os, socketserver, subprocess, sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
secrets = Path(os.environ["CREDENTIALS_DIRECTORY"])
url = (secrets / "DATABASE_URL").read_text()
assert (secrets / "JWT_SECRET").read_text()
assert "JWT_SECRET" not in os.environ
def ask(sql):
    return subprocess.run(["psql", "-XAtq", url, "-c", sql], check=True, capture_output=True, text=True).stdout.strip()
if sys.argv[1] == "create-user":
    password = sys.stdin.readline().strip()
    ask(f"INSERT INTO shop.users VALUES ('{sys.argv[2]}', {len(password)})")
    sys.exit(0)
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(200, {"status": "ok", "release": "1.0.0+abab"})
    def do_POST(self):
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if ask(f"SELECT count(*) FROM shop.users WHERE name = '{wanted['username']}'") != "1":
            return self.reply(401, {})
        sale = ask(f"INSERT INTO shop.sales (quantity) VALUES ({int(wanted['quantity'])}) RETURNING id")
        self.reply(201, {"id": int(sale)})
    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_):
        pass
class Server(socketserver.ThreadingUnixStreamServer):
    def get_request(self):
        return super().get_request()[0], ("local", 0)
Server(sys.argv[2], Handler).serve_forever()
"""
JOURNEY = {
    "name": "shop",
    "steps": [
        {
            "name": "Sell",
            "request": {
                "method": "POST",
                "path": "/sales",
                "json": {"username": "{{username}}", "quantity": 7},
            },
            "expect": {"status": 201},
            "capture": {"sale_id": "id"},
        }
    ],
    "sql": [
        {
            "name": "It is in the table",
            "query": "select quantity from shop.sales where id = %(sale_id)s",
            "expect": [[7]],
        }
    ],
}


@pytest.fixture
def base() -> Iterator[Path]:
    # Units have a /tmp and a /var/tmp of their own.
    directory = Path(tempfile.mkdtemp(prefix="drill-", dir="/srv"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def settings(cluster: Cluster, make_config: MakeConfig, keys: Keys, base: Path, log: Log) -> config.Config:
    """A host with a backup of ``shop`` and the release that belongs to it."""
    cluster.create("shop", SOURCE)
    release = base / "releases" / "1.0.0"
    release.mkdir(parents=True)
    (release / "shop.py").write_text(PROGRAM)
    (release / "release.json").write_text(
        json.dumps({"name": "shop", "version": "1.0.0", "digest": DIGEST, "python": "3"})
    )
    (base / "journey.yaml").write_text(json.dumps(JOURNEY))
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    application = config.DrillApplication(
        releases_dir=base / "releases",
        start=(python, "{release}/shop.py", "serve", "{socket}"),
        create_user=(python, "{release}/shop.py", "create-user", "{username}"),
        database_user="shop_app",
        start_timeout_seconds=10,
    )
    asked = {"release_sql": "SELECT name, version, digest FROM shop.releases"}
    made = make_config(cluster, "shop", database=asked)
    made = dataclasses.replace(
        made,
        drill=config.Drill(
            database="shop",
            work_dir=base / "work",
            identity_file=keys.identity,
            trusted_signers_file=keys.signers,
            rpo_objective_seconds=1_000_000,
            journey_file=base / "journey.yaml",
            application=application,
        ),
        evidence=config.Evidence(dir=base / "evidence", signing_key_file=keys.signing_key),
    )
    create_backup(made, log, Silent())
    return made


def drill(settings: config.Config) -> DrillOutcome:
    return run_drill(settings, log=Log("lab", "test-run-0001", []), progress=Silent())


def changed(settings: config.Config, **values: object) -> config.Config:
    assert settings.drill is not None
    assert settings.drill.application is not None
    application = dataclasses.replace(settings.drill.application, **values)  # type: ignore[arg-type]
    return dataclasses.replace(settings, drill=dataclasses.replace(settings.drill, application=application))


def verdicts(outcome: DrillOutcome) -> dict[str, str]:
    return {stage.name: stage.verdict.value for stage in outcome.record.stages}


def assert_nothing_left(settings: config.Config) -> None:
    assert settings.drill is not None
    assert list(settings.drill.work_dir.iterdir()) == []
    assert workspace.processes_of(settings.drill.work_dir) == {}
    assert isolation.units("pharma-drill-") == []


def test_a_whole_drill_passes_and_binds_manifest_and_release(settings: config.Config) -> None:
    outcome = drill(settings)
    assert outcome.record.verdict is Verdict.PASSED, outcome.record.cause
    assert set(verdicts(outcome).values()) == {"passed"}
    assert [subject.sha256 for subject in outcome.record.subjects][1:] == [DIGEST]
    assert outcome.record.rto.seconds is not None
    checks = {check.name: check.observed for stage in outcome.record.stages for check in stage.checks}
    assert checks["no network: interfaces of the release"] == "lo"
    assert checks["no network: namespace of the release"] == "its own"
    assert_nothing_left(settings)


def test_a_role_that_had_lost_its_turn_is_let_in(settings: config.Config, cluster: Cluster, log: Log) -> None:
    """Login roles take turns: a backup from before or after a rotation is drilled with the same configuration."""
    cluster.execute("ALTER ROLE shop_app NOLOGIN")
    try:
        create_backup(settings, log, Silent())
    finally:
        cluster.execute("ALTER ROLE shop_app LOGIN")
    outcome = drill(settings)
    assert outcome.record.verdict is Verdict.PASSED, outcome.record.cause
    assert_nothing_left(settings)


def test_a_release_with_a_network_fails(settings: config.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_all = tuple(item for item in isolation._HARDENING if item != "PrivateNetwork=yes")
    monkeypatch.setattr(isolation, "_HARDENING", open_to_all)
    outcome = drill(settings)
    assert verdicts(outcome)["app_start"] == "failed"
    assert "no network" in outcome.record.cause
    assert_nothing_left(settings)


def test_a_journey_that_finds_something_else_fails(settings: config.Config) -> None:
    assert settings.drill is not None
    assert settings.drill.journey_file is not None
    wrong = JOURNEY | {"sql": [{"name": "Wrong", "query": "select 1", "expect": [[2]]}]}
    settings.drill.journey_file.write_text(json.dumps(wrong))
    outcome = drill(settings)
    assert (verdicts(outcome)["journey"], verdicts(outcome)["teardown"]) == ("failed", "passed")


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"start": ("/bin/false",)}, "APPLICATION_DID_NOT_START"),
        ({"start": ("/bin/sleep", "60"), "start_timeout_seconds": 1}, "APPLICATION_NOT_READY"),
        ({"create_user": ("/bin/false",)}, "USER_NOT_CREATED"),
    ],
)
def test_a_release_that_does_not_work_fails(
    settings: config.Config, values: dict[str, object], code: str
) -> None:
    outcome = drill(changed(settings, **values))
    stage = next(stage for stage in outcome.record.stages if stage.name == "app_start")
    assert stage.verdict is Verdict.FAILED
    assert stage.error is not None
    assert stage.error["code"] == code
    assert_nothing_left(settings)


def test_another_release_than_the_manifest_names_is_not_started(settings: config.Config, base: Path) -> None:
    path = base / "releases/1.0.0/release.json"
    path.write_text(path.read_text().replace(DIGEST, "cd" * 32))
    outcome = drill(settings)
    assert (verdicts(outcome)["preflight"], verdicts(outcome)["app_start"]) == ("failed", "not_run")
