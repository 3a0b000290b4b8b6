# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-backend``: serve, migrate, record-release, create-user, demo-data, version. Exit 0 done, 2 could not."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg

from . import log, release, scrub, settings
from .errors import CommandError

DONE = 0
COULD_NOT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except CommandError as error:
        return _fail(options, error)
    except psycopg.Error as error:
        problem = CommandError(
            "DB_ERROR", f"The database refused: {scrub.message(error)}.", "Run pharma-backend migrate first?"
        )
        return _fail(options, problem)
    except BrokenPipeError:
        return COULD_NOT


def _fail(options: argparse.Namespace, error: CommandError) -> int:
    # A service speaks in lines of its log; a person at a terminal gets the sentence.
    if options.command == "serve" and not log.stderr_is_terminal():
        log.fatal("startup_failed", error, action=error.action)
    else:
        print(f"pharma-backend {options.command}: {error}", file=sys.stderr)
    return COULD_NOT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pharma-backend", description="The pharmacy backend.")
    commands = parser.add_subparsers(dest="command", required=True)

    serve = commands.add_parser("serve", help="serve the API")
    where = serve.add_mutually_exclusive_group()
    where.add_argument("--fd", type=int, metavar="N", help="listening socket to inherit; 3 from systemd")
    where.add_argument("--uds", type=Path, metavar="PATH", help="unix socket to listen on")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    serve.set_defaults(run=_serve)

    migrate = commands.add_parser("migrate", help="apply the migrations")
    migrate.set_defaults(run=_migrate)

    record = commands.add_parser("record-release", help="record that this release serves now")
    record.set_defaults(run=_record_release)

    user = commands.add_parser("create-user", help="create a user")
    user.add_argument("--username", required=True)
    user.add_argument("--role", required=True, choices=("admin", "manager", "cashier"))
    user.add_argument("--store", metavar="CODE", help="code of the store (default: the first one)")
    user.add_argument(
        "--password-stdin", action="store_true", required=True, help="read the password from stdin"
    )
    user.set_defaults(run=_create_user)

    demo = commands.add_parser("demo-data", help="fill an empty database with a plausible pharmacy")
    demo.add_argument("--sales", type=int, default=20_000, help="number of sales (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=1, help="the same seed and day give the same rows")
    demo.add_argument(
        "--as-of",
        type=date.fromisoformat,
        default=None,
        metavar="DATE",
        help="the day that is today in the data (default: today)",
    )
    demo.set_defaults(run=_demo_data)

    version = commands.add_parser("version", help="print the release as JSON")
    version.set_defaults(run=_version)
    return parser


def _serve(options: argparse.Namespace) -> int:
    # Before anything can fail: from here on every word of the process is a line of its log.
    log.configure()
    chosen = settings.load()
    secrets = settings.secrets("DATABASE_URL", "JWT_SECRET", "REFRESH_SECRET")
    identity = release.identify()
    # The framework is loaded here and not above: the other commands start in a fraction of its time.
    from . import app, server

    endpoint = server.Endpoint(options.fd, options.uds, options.host, options.port)
    return server.serve(app.services(chosen, identity, secrets), endpoint)


def _migrate(_options: argparse.Namespace) -> int:
    from . import migrate

    secrets = settings.secrets("MIGRATION_DATABASE_URL")
    _print(migrate.run(secrets["MIGRATION_DATABASE_URL"], release.identify()))
    return DONE


def _record_release(_options: argparse.Namespace) -> int:
    from . import migrate

    secrets = settings.secrets("MIGRATION_DATABASE_URL")
    _print(migrate.record_release(secrets["MIGRATION_DATABASE_URL"], release.identify()))
    return DONE


def _create_user(options: argparse.Namespace) -> int:
    from . import users

    secrets = settings.secrets("DATABASE_URL")
    password = sys.stdin.readline().rstrip("\r\n")
    _print(users.create(secrets["DATABASE_URL"], options.username, options.role, options.store, password))
    return DONE


def _demo_data(options: argparse.Namespace) -> int:
    from .demo import load

    chosen = settings.load()
    if chosen.env == "prod":
        raise CommandError(
            "DEMO_REFUSED",
            "Demo data are not loaded where PHARMA_ENV is prod.",
            "Set PHARMA_ENV=lab or PHARMA_ENV=staging for this command.",
        )
    if options.sales < 0:
        raise CommandError("DEMO_REFUSED", "--sales is negative.", "Give a number of sales.")
    secrets = settings.secrets("DATABASE_URL")
    today = options.as_of or datetime.now(tz=UTC).date()
    _print(load.run(secrets["DATABASE_URL"], sales=options.sales, seed=options.seed, today=today))
    return DONE


def _version(_options: argparse.Namespace) -> int:
    from . import migrate

    _print(release.identify().as_dict() | {"migrationHead": len(migrate.packaged())})
    return DONE


def _print(document: dict[str, object]) -> None:
    print(json.dumps(document, ensure_ascii=False))
