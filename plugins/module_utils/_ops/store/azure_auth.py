# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How requests to Azure Blob Storage are authorized: with the account's key or with a SAS token.

The signature is that of "Authorize with Shared Key" (learn.microsoft.com/rest/api/storageservices/
authorize-with-shared-key), in the form of version 2015-02-21 and later.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlsplit

from ..errors import OpsError

_SIGNED_HEADERS = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a credentials file gives: a key of the whole account, or a token that is limited.

    :ivar key: bytes of the account's key; None with a SAS token.
    :ivar token: the SAS token, without a leading question mark; empty with a key.
    :ivar account: name of the account when the endpoint does not say it.
    """

    key: bytes | None = field(default=None, repr=False)
    token: str = field(default="", repr=False)
    account: str = ""

    @property
    def expires(self) -> datetime | None:
        """The end of the token's time; None when it has none of its own (a key, a stored access policy)."""
        return self._moment("se")

    @property
    def begins(self) -> datetime | None:
        """The begin of the token's time."""
        return self._moment("st")

    def _moment(self, name: str) -> datetime | None:
        values = parse_qs(self.token).get(name)
        if not values:
            return None
        try:
            moment = datetime.fromisoformat(values[0])
        except ValueError:
            return None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read(path: Path | None) -> Credentials:
    """Read a credentials file: TOML with ``account_key`` or ``sas_token``, and maybe ``account_name``.

    :raises OpsError: ``STORE_CREDENTIALS_INVALID``; names the file and never what is in it.
    """
    if path is None:
        raise _invalid("The store of type azure", "no credentials_file is named in its section")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not TOML"
        raise _invalid(str(path), str(reason)) from None
    names = ("account_key", "sas_token", "account_name")
    values = {name: data.get(name, "") for name in names}
    if not all(isinstance(value, str) for value in values.values()):
        raise _invalid(str(path), "a key is not a string")
    if bool(values["account_key"]) is bool(values["sas_token"]):
        raise _invalid(str(path), "it holds neither or both of account_key and sas_token")
    return Credentials(
        key=_key(values["account_key"], path) if values["account_key"] else None,
        token=_token(values["sas_token"], path),
        account=values["account_name"],
    )


def _key(text: str, path: Path) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _invalid(str(path), "account_key is not base64") from None


def _token(text: str, path: Path) -> str:
    token = text.strip().removeprefix("?")
    if token and ("://" in token or not {"sig", "sv"} <= set(parse_qs(token))):
        raise _invalid(
            str(path), "sas_token is not one: it begins with sv= or ? and has a sig=, and is no URL"
        )
    return token


def _invalid(what: str, reason: str) -> OpsError:
    return OpsError(
        "STORE_CREDENTIALS_INVALID",
        f"{what} does not give the store's credentials: {reason}.",
        'It must be readable by this account and hold account_key = "…" or sas_token = "…".',
    )


def account_of(endpoint: str) -> str:
    """The account that an endpoint belongs to.

    It is the path's first word where there is a path (Azurite, ``http://127.0.0.1:10000/account``),
    else the host's (``https://account.blob.core.windows.net``).
    """
    parts = urlsplit(endpoint)
    return parts.path.strip("/").partition("/")[0] or (parts.hostname or "").partition(".")[0]


def string_to_sign(method: str, account: str, target: str, headers: Iterable[tuple[str, str]]) -> str:
    """What is signed with an account's key.

    :param target: path and query as they are sent, percent-encoded.
    """
    known = {name.lower(): value.strip() for name, value in headers}
    if known.get("content-length") == "0":
        known["content-length"] = ""
    lines = [method, *(known.get(name, "") for name in _SIGNED_HEADERS)]
    lines += [f"{name}:{known[name]}" for name in sorted(known) if name.startswith("x-ms-")]
    return "\n".join(lines) + "\n" + _resource(account, target)


def _resource(account: str, target: str) -> str:
    path, _mark, query = target.partition("?")
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(unquote_plus(name).lower(), []).append(value)
    lines = [f"{name}:{','.join(sorted(values[name]))}" for name in sorted(values)]
    return "\n".join((f"/{account}{path}", *lines))


def signed(
    credentials: Credentials, account: str, method: str, target: str, headers: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """The target and the headers that a request gets for its credentials.

    :returns: path and query, with the token if there is one; the header ``Authorization`` if there is a key.
    """
    if credentials.key is None:
        return f"{target}{'&' if '?' in target else '?'}{credentials.token}", {}
    text = string_to_sign(method, account, target, headers.items())
    digest = hmac.new(credentials.key, text.encode(), hashlib.sha256).digest()
    return target, {"Authorization": f"SharedKey {account}:{base64.b64encode(digest).decode()}"}
