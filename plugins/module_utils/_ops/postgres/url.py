# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A DATABASE_URL, as providers of managed PostgreSQL hand it out, taken apart by libpq's own parser.

No message quotes any of it: it holds a password.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .. import _deps
from ..errors import OpsError

SYSTEM_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""What a certificate is held to when nothing else is named: the authorities that the host trusts."""

ENVIRONMENT = {
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "hostaddr": "PGHOSTADDR",
    "options": "PGOPTIONS",
    "sslcert": "PGSSLCERT",
    "sslcrl": "PGSSLCRL",
    "sslkey": "PGSSLKEY",
    "sslsni": "PGSSLSNI",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
"""Parameters that are passed on as they are, and the variable by which a child program gets each."""

# What a client chooses for itself, and we for ourselves.
_OURS = frozenset({"application_name", "connect_timeout", "fallback_application_name"})
_NEEDED = ("host", "user", "dbname")
_ACTION = "Deploy it again (the role pharma.hardening.backup writes it) or correct url_file."


@dataclass(frozen=True, kw_only=True)
class Address:
    """What a URL says; ``sslmode`` and ``sslrootcert`` are empty where it does not."""

    dbname: str
    host: str
    port: int
    user: str
    password: str | None = field(repr=False)
    sslmode: str
    sslrootcert: str
    parameters: dict[str, str]


def read(path: Path) -> Address:
    """The address in a file that holds one DATABASE_URL.

    :raises OpsError: ``SECRET_MISSING`` or ``SECRET_INVALID``; names the file and what is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise OpsError(
            "SECRET_MISSING", f"The DATABASE_URL {path} cannot be read: {error.strerror}.", _ACTION
        ) from error
    except UnicodeDecodeError as error:
        raise _invalid(path, "it is not UTF-8 text") from error
    if not text.startswith(("postgresql://", "postgres://")) or len(text.split()) != 1:
        raise _invalid(path, "it is not one URL that begins with postgresql://")
    psycopg = _deps.load("psycopg")
    parser = _deps.load("psycopg.conninfo")
    try:
        words = parser.conninfo_to_dict(text)
    except psycopg.Error:
        # The parser quotes what it does not understand.
        raise _invalid(path, "libpq cannot parse it (are '@', ':', '/' and '%' in it escaped?)") from None
    return _address(path, {key: str(value) for key, value in words.items() if value not in (None, "")})


def _address(path: Path, words: dict[str, str]) -> Address:
    if missing := [name for name in _NEEDED if name not in words]:
        raise _invalid(path, f"it names no {missing[0]}")
    known = {"dbname", "host", "port", "user", "password", "sslmode", "sslrootcert", *ENVIRONMENT, *_OURS}
    if unknown := sorted(set(words) - known):
        raise _invalid(path, f"its parameter {unknown[0]} is not one that a backup can pass on")
    port = words.get("port", "5432")
    if "," in words["host"] or not port.isdigit():
        raise _invalid(path, "it names several hosts, where a backup reads one, or its port is no number")
    return Address(
        dbname=words["dbname"],
        host=words["host"],
        port=int(port),
        user=words["user"],
        password=words.get("password"),
        sslmode=words.get("sslmode", ""),
        sslrootcert=words.get("sslrootcert", ""),
        parameters={name: words[name] for name in ENVIRONMENT if name in words},
    )


def authority(address: Address, sslmode: str) -> Path | None:
    """The file of authorities that the server's certificate is held to, None where libpq looks at none.

    ``sslmode=require`` with a file would be ``verify-ca``, which a provider's own authority fails.
    """
    if address.sslrootcert and address.sslrootcert != "system":
        return Path(address.sslrootcert)
    # The libpq of Debian 12 does not know sslrootcert=system.
    return SYSTEM_AUTHORITIES if sslmode.startswith("verify-") or address.sslrootcert else None


def _invalid(path: Path, reason: str) -> OpsError:
    return OpsError("SECRET_INVALID", f"The DATABASE_URL in {path} cannot be used: {reason}.", _ACTION)
