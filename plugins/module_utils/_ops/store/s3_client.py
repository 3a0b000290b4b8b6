# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to an S3 API: keys, certificates, timeouts and the first line of retries."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _deps, config
from ..errors import OpsError
from .s3_upload import THREADS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS = 5
READ_SECONDS = 60
ATTEMPTS = 4


def connect(spec: config.Store, description: str, keys: dict[str, str] | None = None) -> S3Client:
    """A client of the S3 API that the section describes; nothing is asked of it yet.

    :param description: the store, for messages.
    :param keys: ``access_key``, ``secret_key``, ``session_token`` in the place of the credentials file.
    :raises OpsError: ``CONFIG_INVALID``, ``STORE_CREDENTIALS_INVALID``, ``LIBRARY_MISSING``.
    """
    _deps.require("boto3", "botocore")
    import boto3
    import botocore.session

    keys = _credentials(spec.credentials_file) if keys is None else keys
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=moment)
    session = boto3.session.Session(
        botocore_session=core,
        aws_access_key_id=keys.get("access_key"),
        aws_secret_access_key=keys.get("secret_key"),
        aws_session_token=keys.get("session_token"),
        region_name=spec.region,
    )
    try:
        client: S3Client = session.client(
            "s3",
            endpoint_url=spec.endpoint,
            verify=str(spec.ca_file) if spec.ca_file else True,
            config=_settings(spec),
        )
    except ValueError as error:
        raise OpsError(
            "CONFIG_INVALID",
            f"The endpoint of {description} is not a URL: {error}.",
            "Write it as https://host:port in the store's section.",
        ) from error
    return client


def moment(text: Any) -> datetime:
    """A time of an answer.

    Two thirds of the work of a long listing are spent on this; the library's parser takes any format.
    """
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        parsed: datetime = _deps.load("botocore.utils").parse_timestamp(text)
        return parsed
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _settings(spec: config.Store) -> Any:
    settings: dict[str, Any] = {
        "signature_version": "s3v4",
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "retries": {"mode": "standard", "max_attempts": ATTEMPTS},
        "s3": {"addressing_style": spec.addressing_style},
        "max_pool_connections": THREADS + 1,
    }
    kind = _deps.load("botocore.config").Config
    try:
        # Newer botocore adds trailing checksums by default, which other servers than AWS's refuse.
        return kind(
            **settings,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
    except TypeError:
        return kind(**settings)


def _credentials(path: Path | None) -> dict[str, str]:
    """The keys of a credentials file; without a file boto3 finds those of the instance's role."""
    if path is None:
        return {}
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not TOML"
        raise _no_credentials(path, str(reason)) from None
    keys: dict[str, str] = {}
    for name in ("access_key", "secret_key", "session_token"):
        if name not in data and name != "session_token":
            raise _no_credentials(path, f"it has no {name}")
        if name in data and not (isinstance(data[name], str) and data[name]):
            raise _no_credentials(path, "a key is empty or not a string")
        if name in data:
            keys[name] = data[name]
    return keys


def _no_credentials(path: Path, reason: str) -> OpsError:
    return OpsError(
        "STORE_CREDENTIALS_INVALID",
        f"{path} does not give the store's credentials: {reason}.",
        'It must be readable by this account and hold access_key = "…" and secret_key = "…".',
    )
