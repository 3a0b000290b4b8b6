# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release this is: ``release.json`` in the root of the virtual environment it is installed in."""

from __future__ import annotations

import json
import platform
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .errors import CommandError

NO_DIGEST = "0" * 64
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Release:
    """Identity of the installed release; ``digest`` is the sha256 of its SHA256SUMS."""

    name: str
    version: str
    digest: str
    python: str
    development: bool

    def as_dict(self) -> dict[str, Any]:
        """The identity as ``pharma-backend version`` prints it."""
        return asdict(self)

    @property
    def label(self) -> str:
        """``version+first 12 digits of the digest``, for log lines and probes."""
        return f"{self.version}+{'development' if self.development else self.digest[:12]}"


def identify(root: Path | None = None) -> Release:
    """Read the identity; without a file it is a development tree.

    :raises CommandError: ``RELEASE_INVALID`` when the file is not one that build_release.py writes.
    """
    path = (root or Path(sys.prefix)) / "release.json"
    python = ".".join(platform.python_version_tuple()[:2])
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Release("pharma-backend", __version__, NO_DIGEST, python, development=True)
    except (OSError, ValueError) as error:
        raise _invalid(path, type(error).__name__) from error
    if (
        not isinstance(data, dict)
        or not all(isinstance(data.get(key), str) for key in ("name", "version", "digest", "python"))
        or not _DIGEST.fullmatch(data["digest"])
    ):
        raise _invalid(path, "a key is missing or malformed")
    if data["version"] != __version__:
        raise _invalid(path, f"it says version {data['version']}, installed is {__version__}")
    return Release(data["name"], data["version"], data["digest"], data["python"], development=False)


def _invalid(path: Path, cause: str) -> CommandError:
    return CommandError(
        "RELEASE_INVALID",
        f"{path} does not describe this release: {cause}.",
        "Install the release again from its directory.",
    )
