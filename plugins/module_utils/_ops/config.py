# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a host, ``/etc/pharma-ops/config.toml``: read whole, checked, then used.

Secrets are never in it, only the paths of the files that hold them. Relative paths are refused,
unknown keys too: a misspelt key must not become a silent default.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .config_foreign import Foreign
from .errors import OpsError

DEFAULT_PATH = Path("/etc/pharma-ops/config.toml")


@dataclass(frozen=True, kw_only=True)
class Database:
    """A database that is backed up, as the backup connects to it; its key in ``[databases]`` names its sets.

    ``dbname`` is its name on the server (empty: the key). ``url_file`` holds a DATABASE_URL and stands
    in place of dbname, host, port, user and password_file; see :meth:`.postgres.connection.Target.from_config`.
    How the database tells which release of the application it belongs to (empty: not asked):
    ``release_sql`` returns one row (name, version, sha256 digest), ``migration_head_sql`` one value.
    """

    dbname: str = ""
    host: str = "/var/run/postgresql"
    port: int = 5432
    user: str = "pharma_backup"
    password_file: Path | None = None
    sslmode: str = "prefer"
    sslrootcert: Path | None = None
    url_file: Path | None = None
    release_sql: str = ""
    migration_head_sql: str = ""


@dataclass(frozen=True, kw_only=True)
class Backup:
    """How a backup is made, and the names of the stores that each one goes to.

    ``stall_seconds``: a store that takes nothing in for so long is given up.
    """

    stores: tuple[str, ...] = ("offsite",)
    recipients_file: Path = Path("/etc/pharma-ops/recipients.txt")
    signing_key_file: Path = Path("/etc/pharma-ops/keys/backup-signing.pem")
    compression: str = "auto"
    fingerprint_sessions: int = 1
    stall_seconds: int = 600


@dataclass(frozen=True, kw_only=True)
class Store:
    """Where backup sets are kept: a directory, a bucket of any S3 API, or a container of Azure Blob Storage.

    ``credentials_file`` is a TOML file: access_key and secret_key (``s3``), account_key or sas_token
    (``azure``). ``endpoint`` is the address of the S3 API or of the storage account; ``bucket`` is the
    container of ``azure``. ``lock_mode`` and ``lock_days``: what is uploaded cannot be removed before
    then. ``bandwidth_limit`` is in bytes a second, 0 means none.
    """

    type: Literal["local", "s3", "azure"]
    path: Path | None = None
    endpoint: str | None = None
    region: str = "us-east-1"
    bucket: str | None = None
    prefix: str = ""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    ca_file: Path | None = None
    credentials_file: Path | None = None
    storage_class: str = ""
    sse: Literal["", "AES256", "aws:kms", "customer"] = ""
    sse_kms_key_id: str = ""
    sse_customer_key_file: Path | None = None
    lock_mode: Literal["", "GOVERNANCE", "COMPLIANCE"] = ""
    lock_days: int = 0
    bandwidth_limit: int = 0


@dataclass(frozen=True, kw_only=True)
class DrillApplication:
    """How the release is started on the restored copy.

    Words of the commands may hold {release} (directory of the release), {socket} (unix socket to
    listen on), {username}. Commands read secrets as files in ``$CREDENTIALS_DIRECTORY``:
    ``DATABASE_URL`` (as ``database_user``) and one random value for each name in ``random_secrets``.
    """

    releases_dir: Path = Path("/opt/pharma/releases")
    start: tuple[str, ...] = ()
    create_user: tuple[str, ...] = ()
    health_path: str = "/health/ready"
    database_user: str = "pharma_app"
    random_secrets: tuple[str, ...] = ("JWT_SECRET", "REFRESH_SECRET")
    environment: dict[str, str] = field(default_factory=dict)
    start_timeout_seconds: int = 30


@dataclass(frozen=True, kw_only=True)
class Drill:
    """What a drill needs on the staging host."""

    store: str = "offsite"
    database: str = ""
    work_dir: Path = Path("/var/lib/pharma-ops/drill")
    user: str = "postgres"
    identity_file: Path = Path("/etc/pharma-ops/keys/age-identity.txt")
    trusted_signers_file: Path = Path("/etc/pharma-ops/keys/backup-signers.pem")
    jobs: int = 2
    rto_objective_seconds: int = 4 * 3600
    rpo_objective_seconds: int = 26 * 3600
    journey_file: Path | None = None
    application: DrillApplication | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Where the signed evidence of the drills is kept, and how the report is written.

    ``language`` is the one that is shown first; ``timezone`` stands beside UTC.
    """

    dir: Path = Path("/var/lib/pharma-ops/evidence")
    signing_key_file: Path = Path("/etc/pharma-ops/keys/evidence-signing.pem")
    language: Literal["pt-BR", "en"] = "pt-BR"
    timezone: str = "America/Sao_Paulo"


@dataclass(frozen=True, kw_only=True)
class Release:
    """How the releases of one service are put into service on this host (docs/releases.md).

    ``unit`` and ``socket_unit`` hold {colour}, ``migrate_unit`` and
    ``record_unit`` {version} (empty: nothing is migrated, nobody is told which release serves).
    ``health_release_key`` is the key of the health answer that begins with the version (empty: not looked
    at). Without ``access_log`` nothing is watched.
    """

    unit: str
    socket_unit: str
    root: Path = Path("/opt/pharma")
    socket_dir: Path = Path("/run/pharma-backend")
    migrate_unit: str = ""
    record_unit: str = ""
    health_path: str = "/health/ready"
    health_release_key: str = "release"
    health_timeout_seconds: int = 60
    smoke_journey_file: Path | None = None
    access_log: Path | None = None
    watch_seconds: int = 120
    watch_minimum_requests: int = 50
    watch_max_5xx_ratio: float = 0.02
    watch_max_p95_seconds: float = 1.0
    releases_keep: int = 5


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A secret of this host for the inventory: the file that holds it and who answers for it.

    ``ring``: one secret a line, of which the first signs; else the whole file is the value.
    """

    file: Path
    owner: str
    max_age_days: Literal[90, 180]
    ring: bool = False


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Which sets are kept (docs/backup-estate.md); removing them needs stores with the pruner's identity.

    Counts are of periods in ``timezone``. ``max_age_hours``: when the newest complete set is older, the
    last cycle failed and nothing is removed. ``grace_hours``: how long a set may stay unfinished.
    ``evidence_keys_file``: public keys of those whose drills count; without it the host's own key's.
    """

    stores: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    timezone: str = "America/Sao_Paulo"
    daily: int = 30
    weekly: int = 8
    monthly: int = 12
    yearly: int = 2
    newest: int = 3
    max_age_hours: int = 26
    grace_hours: int = 48
    evidence_keys_file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is read back every day with the reader's identity; empty: the drill's store and database."""

    stores: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    trusted_signers_file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Mail:
    """Where failures are mailed to, by SMTP; ``security`` says how the connection is encrypted."""

    to: tuple[str, ...]
    sender: str
    host: str = "localhost"
    port: int = 25
    security: Literal["none", "starttls", "tls"] = "none"
    ca_file: Path | None = None
    user: str = ""
    password_file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Where failures are posted to; the address is a secret, so it lies in a file."""

    url_file: Path
    kind: Literal["json", "ntfy", "slack", "teams"] = "json"
    ca_file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Ping:
    """A dead man's switch: an address that is asked at start (``/start``), success and failure (``/fail``)."""

    url_file: Path
    ca_file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Notify:
    """Who is told when a job fails. ``pings`` has an entry for each job: backup, seen, drill, prune."""

    mail: Mail | None = None
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    pings: dict[str, Ping] = field(default_factory=dict)
    language: Literal["pt-BR", "en"] = "pt-BR"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a host's jobs need; sections that a host does not use are None or empty."""

    environment: Literal["prod", "staging", "lab"]
    state_dir: Path = Path("/var/lib/pharma-ops")
    lock_dir: Path = Path("/run/lock/pharma-ops")
    databases: dict[str, Database] = field(default_factory=dict)
    backup: Backup | None = None
    stores: dict[str, Store] = field(default_factory=dict)
    drill: Drill | None = None
    evidence: Evidence = Evidence()
    releases: dict[str, Release] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    fingerprint_key_file: Path = Path("/etc/pharma-ops/keys/fingerprint.key")
    retention: Retention | None = None
    seen: Seen | None = None
    notify: Notify = Notify()
    metrics_dir: Path = Path("/var/lib/pharma-ops/metrics")
    foreign: dict[str, Foreign] = field(default_factory=dict)

    def store(self, name: str) -> Store:
        """The store of that name.

        :raises OpsError: ``CONFIG_INVALID``; lists the names there are.
        """
        if name not in self.stores:
            known = ", ".join(sorted(self.stores)) or "none"
            raise _invalid(f"no store is named {name!r} (there are: {known})")
        return self.stores[name]

    def database(self, name: str | None) -> tuple[str, Database]:
        """The name of a database's sets and how it is reached; None: the only one that is configured.

        :raises OpsError: ``CONFIG_INVALID``; lists the databases there are.
        """
        known = ", ".join(sorted(self.databases)) or "none"
        if not self.databases:
            raise _invalid("no database is configured on this host ([databases.<name>])")
        if name is None and len(self.databases) != 1:
            raise _invalid(f"name the database with --database (there are: {known})")
        chosen = name if name is not None else next(iter(self.databases))
        if chosen not in self.databases:
            raise _invalid(f"no database {chosen!r} is configured on this host (there are: {known})")
        return chosen, self.databases[chosen]

    def release(self, service: str | None) -> tuple[str, Release]:
        """The name of a service and how it is released; None: the only one that is configured.

        :raises OpsError: ``CONFIG_INVALID``, ``ARGUMENT_INVALID``; lists the services there are.
        """
        known = ", ".join(sorted(self.releases)) or "none"
        if service is None and len(self.releases) > 1:
            raise OpsError(
                "ARGUMENT_INVALID",
                f"This host releases several services: {known}.",
                "Name one of them with --service.",
            )
        if service is None and not self.releases:
            raise _invalid("no service is released on this host")
        name = service if service is not None else next(iter(self.releases))
        if name not in self.releases:
            raise _invalid(f"no service {name!r} is released on this host (there are: {known})")
        return name, self.releases[name]


def load(path: Path = DEFAULT_PATH) -> Config:
    """Read and check a configuration: the file and, beside it, the fragments of its directory.

    The fragments of ``/etc/pharma-ops/config.toml`` are ``/etc/pharma-ops/config.d/*.toml``, one for each
    role of the host. Tables are merged; two files may not say different things about one key.

    :raises OpsError: ``CONFIG_MISSING`` or ``CONFIG_INVALID``; names the file and the key.
    """
    data = _read(path)
    for fragment in sorted(path.with_suffix(".d").glob("*.toml")):
        data = merge(data, _read(fragment), str(fragment))
    try:
        return parse(data)
    except OpsError as error:
        raise OpsError(error.code, f"{path}: {error.message}", error.action) from error


def merge(base: dict[str, Any], addition: dict[str, Any], source: str, where: str = "") -> dict[str, Any]:
    """Both tables in one; what ``addition``, read from ``source``, says must not contradict ``base``.

    :raises OpsError: ``CONFIG_INVALID``; names the source and the key.
    """
    merged = dict(base)
    for key, value in addition.items():
        known = merged.get(key, value)
        if isinstance(known, dict) and isinstance(value, dict):
            merged[key] = merge(known, value, source, _join(where, key)) if key in base else value
        elif known != value:
            raise _invalid(f"{source} sets {_join(where, key)} once more, to another value")
        else:
            merged[key] = value
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OpsError(
            "CONFIG_MISSING",
            f"There is no configuration at {path}.",
            "Run the role pharma.hardening.ops on this host, or name another file with --config.",
        ) from error
    except OSError as error:
        raise OpsError(
            "CONFIG_MISSING", f"{path} cannot be read: {error.strerror}.", "Run as root."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _invalid(f"{path} is not TOML: {error}") from error


def parse(data: dict[str, Any]) -> Config:
    """Build a :class:`Config` from parsed TOML.

    :raises OpsError: ``CONFIG_INVALID``.
    """
    config: Config = _build(Config, data, "")
    return config


def _build(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise _invalid(f"{where or 'the file'} must be of type table, not {data!r}")
    hints = typing.get_type_hints(kind)
    if unknown := sorted(set(data) - set(hints)):
        raise _invalid(f"unknown key {_join(where, unknown[0])}")
    values = {key: _value(hints[key], value, _join(where, key)) for key, value in data.items()}
    missing = [
        spec.name
        for spec in dataclasses.fields(kind)
        if spec.name not in values
        and spec.default is dataclasses.MISSING
        and spec.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise _invalid(f"{_join(where, missing[0])} is missing")
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is types.UnionType:
        return _value(next(part for part in arguments if part is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if origin is dict:
        return {
            key: _value(arguments[1], item, _join(where, key))
            for key, item in _instance(dict, "table", value, where).items()
        }
    if origin is tuple:
        return tuple(_value(arguments[0], item, where) for item in _instance(list, "list", value, where))
    if origin is Literal:
        if value not in arguments:
            raise _invalid(f"{where} must be one of {', '.join(map(str, arguments))}, not {value!r}")
        return value
    if hint is Path:
        return _absolute_path(value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) is not (hint is bool):
        raise _invalid(f"{where} must be of type {hint.__name__}, not {value!r}")
    return _instance(hint, hint.__name__, value, where)


def _instance(kind: type, name: str, value: Any, where: str) -> Any:
    if not isinstance(value, kind):
        raise _invalid(f"{where} must be of type {name}, not {value!r}")
    return value


def _absolute_path(value: Any, where: str) -> Path:
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise _invalid(f"{where} must be an absolute path, not {value!r}")
    return Path(value)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _invalid(message: str) -> OpsError:
    return OpsError("CONFIG_INVALID", f"{message}.", "Correct the configuration and run again.")
