# SPDX-License-Identifier: GPL-3.0-or-later
"""Creating a user from the command line."""

from __future__ import annotations

import re
from typing import Any

from . import passwords
from .errors import CommandError
from .migrate import connect

ROLES = ("admin", "manager", "cashier")
_USERNAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,63}")


def create(url: str, username: str, role: str, store_code: str | None, password: str) -> dict[str, Any]:
    """Create a user; what was created.

    :param store_code: the first store when None.
    :raises CommandError: ``USERNAME_INVALID``, ``PASSWORD_INVALID``, ``STORE_UNKNOWN`` or ``USER_EXISTS``.
    """
    if not _USERNAME.fullmatch(username):
        raise CommandError(
            "USERNAME_INVALID",
            f"{username!r} is no user name.",
            "Use 2 to 64 of: a-z 0-9 . _ - and begin with a letter or digit.",
        )
    if not passwords.MIN_CHARACTERS <= len(password) <= passwords.MAX_CHARACTERS:
        raise CommandError(
            "PASSWORD_INVALID",
            f"The password has {len(password)} characters.",
            f"Give {passwords.MIN_CHARACTERS} to {passwords.MAX_CHARACTERS} on standard input.",
        )
    encoded = passwords.make(password)
    with connect(url) as connection, connection.transaction():
        store = connection.execute(
            """
            select id, code from pharmacy.stores
             where %(code)s::text is null or code = %(code)s order by id limit 1
            """,
            {"code": store_code},
        ).fetchone()
        if store is None:
            named = f"with the code {store_code!r}" if store_code else "at all"
            raise CommandError(
                "STORE_UNKNOWN", f"There is no store {named}.", "See: select code, name from pharmacy.stores"
            )
        row = connection.execute(
            """
            insert into pharmacy.users (store_id, username, full_name, role, password_hash)
            values (%s, %s, %s, %s, %s) on conflict (username) do nothing returning id
            """,
            (store[0], username, username, role, encoded),
        ).fetchone()
        if row is None:
            raise CommandError(
                "USER_EXISTS",
                f"A user named {username!r} exists.",
                "Choose another name; nothing was changed.",
            )
    return {"id": row[0], "username": username, "role": role, "store": store[1]}
