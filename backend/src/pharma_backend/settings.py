# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings from ``PHARMA_*`` and secrets from ``$CREDENTIALS_DIRECTORY``.

A secret is a file named like the secret (systemd ``LoadCredential=``); ``JWT_SECRET`` and
``REFRESH_SECRET`` are key rings (:mod:`.keyring`). Outside ``PHARMA_ENV=prod``
an environment variable of that name is read when there is no file.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from . import keyring
from .errors import CommandError

SecretName = Literal["DATABASE_URL", "MIGRATION_DATABASE_URL", "JWT_SECRET", "REFRESH_SECRET"]
_KEY_RINGS = ("JWT_SECRET", "REFRESH_SECRET")


class Settings(BaseSettings):
    """Everything that is not secret; times in seconds."""

    model_config = SettingsConfigDict(env_prefix="PHARMA_", extra="ignore")

    env: Literal["prod", "staging", "lab"] = "prod"
    colour: str = Field(default="", pattern=r"^[a-z]{0,16}$")
    pool_min_size: int = Field(default=2, ge=1)
    pool_max_size: int = Field(default=10, ge=1)
    pool_timeout: float = Field(default=3.0, gt=0)
    connect_timeout: int = Field(default=5, ge=1)
    statement_timeout: float = Field(default=10.0, gt=0)
    lock_timeout: float = Field(default=5.0, gt=0)
    readiness_interval: float = Field(default=2.0, gt=0)
    readiness_timeout: float = Field(default=1.0, gt=0)
    access_token_ttl: int = Field(default=15 * 60, ge=30)
    refresh_token_ttl: int = Field(default=12 * 3600, ge=60)
    # For how long a refresh token may come again when its answer was lost; 0: never.
    refresh_grace: int = Field(default=10, ge=0, le=60)
    heartbeat_seconds: float = Field(default=60.0, gt=0)
    body_bytes: int = Field(default=64 * 1024, ge=1024)
    body_timeout: float = Field(default=10.0, gt=0)
    request_timeout: float = Field(default=15.0, gt=0)
    sweep_seconds: float = Field(default=600.0, gt=0)
    login_free_attempts: int = Field(default=5, ge=1)
    login_free_attempts_address: int = Field(default=100, ge=1)
    drain_seconds: float | None = Field(default=None, ge=0)
    stop_timeout: int = Field(default=20, ge=1)
    metrics_peers: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = (
        IPv4Network("127.0.0.0/8"),
        IPv6Network("::1/128"),
    )

    secret_inventory: Path | None = None

    @field_validator("metrics_peers", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [part for part in value.replace(",", " ").split() if part] if isinstance(value, str) else value


class _Secrets(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", case_sensitive=True)

    DATABASE_URL: SecretStr | None = None
    MIGRATION_DATABASE_URL: SecretStr | None = None
    JWT_SECRET: SecretStr | None = None
    REFRESH_SECRET: SecretStr | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Files before the environment; the environment never in production."""
        if os.environ.get("PHARMA_ENV", "prod") == "prod":
            return (file_secret_settings,)
        return (file_secret_settings, env_settings)


def load() -> Settings:
    """Read the settings.

    :raises CommandError: ``SETTING_INVALID``; names the variable, never its value.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "PHARMA_" + str(first["loc"][0]).upper()
        raise CommandError(
            "SETTING_INVALID",
            f"{name} is not valid: {first['msg']}.",
            f"Correct {name} in the unit's environment.",
        ) from None


def secrets(*names: SecretName) -> dict[str, str]:
    """Read the named secrets, each present and long enough.

    :raises CommandError: ``CREDENTIALS_DIRECTORY_MISSING``, ``SECRET_MISSING``, ``SECRET_UNREADABLE``,
        ``SECRET_TOO_SHORT`` or ``SECRET_DUPLICATE``.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory and not Path(directory).is_dir():
        raise CommandError(
            "CREDENTIALS_DIRECTORY_MISSING",
            f"$CREDENTIALS_DIRECTORY names {directory}, which is not a directory.",
            "Check LoadCredential= of the unit; in a container the root mount must be shared.",
        )
    try:
        read = _Secrets(_secrets_dir=directory or None)  # type: ignore[call-arg]
    except (OSError, ValidationError) as error:
        raise CommandError(
            "SECRET_UNREADABLE",
            f"A secret in {directory or 'the environment'} cannot be read ({type(error).__name__}).",
            "Check the owner, the mode and the encoding (UTF-8) of the files.",
        ) from None
    values: dict[str, str] = {}
    for name in names:
        secret: SecretStr | None = getattr(read, name)
        values[name] = _checked(name, secret.get_secret_value().strip() if secret else "")
    return values


def _checked(name: str, value: str) -> str:
    if not value:
        where = (
            f"a file named {name} in $CREDENTIALS_DIRECTORY (LoadCredential={name}:/path of the unit)"
            if os.environ.get("PHARMA_ENV", "prod") == "prod"
            else f"a file named {name} in $CREDENTIALS_DIRECTORY, or for development as variable {name}"
        )
        raise CommandError("SECRET_MISSING", f"The secret {name} is missing.", f"Give it as {where}.")
    if name in _KEY_RINGS:
        keyring.parse(name, value)
    return value
