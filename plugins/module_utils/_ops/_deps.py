# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards for third-party libraries: one place that says what is missing and how to get it."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from .errors import OpsError

# import name -> Debian package
PACKAGES = {
    "boto3": "python3-boto3",
    "botocore": "python3-boto3",
    "cryptography": "python3-cryptography",
    "httpx": "python3-httpx",
    "jinja2": "python3-jinja2",
    "jmespath": "python3-jmespath",
    "prometheus_client": "python3-prometheus-client",
    "psycopg": "python3-psycopg",
    "rich": "python3-rich",
    "yaml": "python3-yaml",
}


def require(*names: str) -> None:
    """Check that libraries can be imported, before anything is touched.

    :raises OpsError: ``LIBRARY_MISSING``; names the library, the interpreter and the Debian package.
    """
    for name in names:
        load(name)


def load(name: str) -> ModuleType:
    """Import a library of :data:`PACKAGES` at the moment of its first use.

    :raises OpsError: ``LIBRARY_MISSING``.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = PACKAGES[name.partition(".")[0]]
        raise OpsError(
            "LIBRARY_MISSING",
            f"The Python library {name} cannot be imported by {sys.executable}: {error}.",
            f"Install the Debian package {package} on this host (the role pharma.hardening.ops does).",
        ) from error
