# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds PostgreSQL's client programs in the version that fits a server."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from .. import process
from ..errors import OpsError

ROOTS = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin")
OLDEST_SERVER_MAJOR = 14
NEWEST_MAJOR_LOOKED_FOR = 30


def major_of(server_version: int) -> int:
    """The major version in a ``server_version_num`` (170005: 17)."""
    return server_version // 10000


def find(program: str, server_version: int, roots: tuple[str, ...] | None = None) -> Path:
    """The program in the server's own major version, else in the next newer one.

    :param server_version: ``server_version_num``, such as 170005.
    :param roots: directories to look in, with ``{major}`` in them; None: :data:`ROOTS`.
    :raises OpsError: ``PROGRAM_MISSING`` when the host has none, ``PROGRAM_TOO_OLD`` when the server
        is newer than the newest there is (``pg_dump`` refuses such a server, and rightly so).
    """
    wanted = major_of(server_version)
    installed = _installed(program, roots or ROOTS)
    for major in sorted(installed):
        if major >= wanted:
            return installed[major]
    package = f"postgresql-client-{wanted}" if program.startswith("pg_") else f"postgresql-{wanted}"
    if not installed:
        raise OpsError(
            "PROGRAM_MISSING",
            f"{program} is not on this host.",
            f"Install the Debian package {package}.",
        )
    newest = max(installed)
    raise OpsError(
        "PROGRAM_TOO_OLD",
        f"The server is PostgreSQL {wanted}, newer than the newest {program} on this host, "
        f"{newest} ({installed[newest]}).",
        f"Install the Debian package {package}.",
    )


def _installed(program: str, roots: tuple[str, ...]) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for major in range(OLDEST_SERVER_MAJOR, NEWEST_MAJOR_LOOKED_FOR):
        for root in roots:
            path = Path(root.format(major=major)) / program
            if path.is_file():
                found.setdefault(major, path)
    if not found and (on_path := shutil.which(program)):
        found[major_of_program(Path(on_path))] = Path(on_path)
    return found


def version_text(program: Path) -> str:
    """What a program says of itself, such as ``pg_dump (PostgreSQL) 17.5 (Debian 17.5-1)``."""
    return process.run([program, "--version"], timeout=30).stdout.decode("utf-8", "replace").strip()


def major_of_program(program: Path) -> int:
    """The major version of a program, asked of itself.

    :raises OpsError: ``PROGRAM_UNKNOWN``.
    """
    text = version_text(program)
    match = re.search(r"\(PostgreSQL\) (\d+)", text)
    if not match:
        raise OpsError(
            "PROGRAM_UNKNOWN", f"{program} does not say which PostgreSQL it belongs to: {text!r}.", ""
        )
    return int(match.group(1))
