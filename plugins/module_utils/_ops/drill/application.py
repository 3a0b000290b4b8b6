# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages ``app_start`` and ``journey``: the real release on the restored data, without any network."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from .. import _deps
from ..config import DrillApplication
from ..errors import OpsError
from ..journey import run as journey_run
from ..journey import spec
from ..postgres.cluster import own_directory
from ..postgres.connection import connect
from ..restoring.context import needed
from ..restoring.runner import Report
from . import isolation
from .context import Application, Drill, Release
from .isolation import Sandbox

_POLL_SECONDS = 0.1
_BASE_URL = "http://restored"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def app_start(drill: Drill, report: Report) -> None:
    """Start the release in a unit without network, create a user, and wait until it says that it is ready.

    :raises OpsError: ``APPLICATION_NOT_CONFIGURED``, ``RELEASE_UNKNOWN``, ``ISOLATION_UNAVAILABLE``,
        ``APPLICATION_DID_NOT_START``, ``APPLICATION_NOT_READY``, ``USER_NOT_CREATED``.
    """
    release, settings = drill.release, drill.settings.application
    if settings is None or not settings.start:
        raise OpsError(
            "APPLICATION_NOT_CONFIGURED",
            "The configuration does not say how the release is started.",
            "Set drill.application (the role pharma.hardening.staging does).",
        )
    if release is None:
        raise OpsError(
            "RELEASE_UNKNOWN",
            "The manifest does not name the release that the backup belongs to.",
            "Set release_sql of the database on the backup host, or name one with --release.",
        )
    if reason := isolation.unavailable():
        raise OpsError(
            "ISOLATION_UNAVAILABLE",
            f"The release was not started, because {reason}: without isolation it never is.",
            "Run the drill as root on a staging host with systemd.",
        )
    sandbox = _sandbox(drill, settings)
    _let_log_in(drill, settings.database_user)
    socket = sandbox.writable / "app.sock"
    names = {"release": str(release.directory), "socket": str(socket)}
    unit = isolation.start(sandbox, "app", fill(settings.start, names))
    username, password = f"drill-{secrets.token_hex(4)}", secrets.token_urlsafe(24)
    drill.application = Application(unit, socket, sandbox, username, password)
    if settings.create_user:
        # While the release starts.
        _create_user(drill.application, release, settings)
        report.check("user created by the release's own command", True, "exit status 0", "exit status 0")
    reply = _wait_until_ready(unit, socket, settings, sandbox.log)
    report.check(f"GET {settings.health_path}", True, "200", "200")
    _check_isolation(report, unit)
    told = str(reply.get("release", "")) if isinstance(reply, dict) else ""
    if told:
        report.check("release that answers", told.startswith(release.version), release.version, told)
    report.facts |= {"unit": unit, "release": release.version}
    if report.verdict == "passed":
        report.summary = f"{release.name} {release.version} is ready on the restored copy, without network."


def _sandbox(drill: Drill, settings: DrillApplication) -> Sandbox:
    cluster = needed(drill.cluster)
    writable = drill.place("app")
    own_directory(writable, drill.user)
    folder = drill.place("credentials")
    folder.mkdir(mode=0o700)
    host = quote(str(cluster.socket_dir), safe="")
    url = (
        f"postgresql://{quote(settings.database_user)}@/{quote(drill.dbname)}?host={host}&port={cluster.port}"
    )
    values = {"DATABASE_URL": url} | {name: secrets.token_urlsafe(48) for name in settings.random_secrets}
    return Sandbox(
        unit_prefix=drill.workspace.unit_prefix,
        user=drill.settings.user,
        hidden=drill.workspace.directory,
        writable=writable,
        readable=(cluster.socket_dir,),
        log=drill.place("app.log"),
        credentials={name: _secret(folder / name, value) for name, value in values.items()},
        environment=settings.environment,
    )


def _let_log_in(drill: Drill, role: str) -> None:
    """Roles that take turns: the one that the drill uses may be the one that could not log in at the time."""
    sql = _deps.load("psycopg.sql")
    with connect(needed(drill.cluster).target(drill.dbname), autocommit=True) as connection:
        found = connection.execute(
            "SELECT FROM pg_catalog.pg_roles WHERE rolname = %s AND NOT rolcanlogin", [role]
        ).fetchone()
        if found is not None:
            connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role)))


def _secret(path: Path, value: str) -> Path:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as stream:
        stream.write(value)
    return path


def fill(words: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Replace ``{name}`` in the words of a command.

    :raises OpsError: ``CONFIG_INVALID`` for a name that there is not.
    """
    wanted = {name for word in words for name in _PLACEHOLDER.findall(word)}
    if unknown := sorted(wanted - set(names)):
        raise OpsError(
            "CONFIG_INVALID",
            f"A command of drill.application names {{{unknown[0]}}}; known here: {', '.join(sorted(names))}.",
            "Correct the configuration and run again.",
        )
    return [_PLACEHOLDER.sub(lambda found: names[found[1]], word) for word in words]


def _wait_until_ready(unit: str, socket: Path, settings: DrillApplication, log: Path) -> object:
    httpx = _deps.load("httpx")
    deadline = time.monotonic() + settings.start_timeout_seconds
    last = "it did not open its socket"
    transport = httpx.HTTPTransport(uds=str(socket))
    with httpx.Client(base_url=_BASE_URL, transport=transport, timeout=5, trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                reply = client.get(settings.health_path)
                if reply.status_code == 200:
                    return _json(reply.text)
                last = f"it answered {reply.status_code}: {reply.text[:200]}"
            except httpx.HTTPError as error:
                last = f"{type(error).__name__}: {error}" if socket.exists() else last
            if isolation.main_pid(unit) is None:
                raise _not_started(unit, log)
            time.sleep(_POLL_SECONDS)
    raise OpsError(
        "APPLICATION_NOT_READY",
        f"The release was not ready within {settings.start_timeout_seconds} s: {last}. {_tail(log)}",
        "Start that release on a copy of the database by hand, and read what it logs.",
    )


def _json(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return None
    return value


def _not_started(unit: str, log: Path) -> OpsError:
    return OpsError(
        "APPLICATION_DID_NOT_START",
        f"The release ended before it was ready (unit {unit}). {_tail(log)}",
        "Run the release's start command by hand on this host.",
    )


def _tail(log: Path) -> str:
    """The release's own last words."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "It wrote no log."
    return "Its last lines: " + " | ".join(line[:300] for line in lines[-4:])


def _check_isolation(report: Report, unit: str) -> None:
    """Ask the kernel, not the unit's settings, which systemd may silently not have applied."""
    pid = isolation.main_pid(unit)
    if pid is None:
        report.check("no network", None, "only lo", "the process has ended")
        return
    seen = isolation.interfaces(pid)
    report.check("no network: interfaces of the release", seen == ["lo"], "lo", ", ".join(seen) or "none")
    shared = isolation.shares_our_network(pid)
    words = {True: "the host's", False: "its own", None: "cannot be told"}[shared]
    report.check(
        "no network: namespace of the release", None if shared is None else not shared, "its own", words
    )


def _create_user(application: Application, release: Release, settings: DrillApplication) -> None:
    names = {"release": str(release.directory), "username": application.username}
    isolation.run(
        application.sandbox,
        "create-user",
        fill(settings.create_user, names),
        stdin=f"{application.password}\n".encode(),
        code="USER_NOT_CREATED",
        action="Run the release's command that creates a user by hand on a restored copy.",
    )


def journey(drill: Drill, report: Report) -> None:
    """Walk the journey as the user whom the release's own command has created.

    :raises OpsError: ``JOURNEY_MISSING``, ``JOURNEY_INVALID``.
    """
    application = needed(drill.application)
    if drill.settings.journey_file is None:
        raise OpsError("JOURNEY_MISSING", "No journey is configured.", "Set drill.journey_file.")
    plan = spec.load(drill.settings.journey_file)
    given = {
        "username": application.username,
        "password": application.password,
        "run_id": drill.drill_id,
    }
    with connect(needed(drill.cluster).target(drill.dbname)) as connection:
        outcome = journey_run.run(
            plan,
            base_url=_BASE_URL,
            socket=application.socket,
            given=given,
            connection=connection,
            on_step=lambda _name, done, total: drill.progress.advanced("journey", done, total, "steps"),
        )
    for finding in outcome.findings:
        report.check(finding.name, finding.met, finding.expected, finding.observed)
    report.facts |= {
        "journey": plan.name,
        "steps": len(plan.steps),
        "assertions": len(plan.sql),
        "milliseconds": dict(outcome.durations),
    }
    if outcome.met:
        found = f"{len(plan.steps)} steps, and the rows they left by {len(plan.sql)} SQL assertions"
        report.summary = f"The journey {plan.name} succeeded: {found}."
