# SPDX-License-Identifier: GPL-3.0-or-later
"""The pharmacy seen from its hosts: hiring users, filling shelves, reading what it logged."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from cashiers import Exchange, User

STORES = 4
SERVICE = "pharma-backend"
# Each line of standard input is a user, a store and a password; two at a time, as the host has two cores.
CREATE = r"""
systemd-run --quiet --wait --pipe --collect --property=DynamicUser=yes \
  --property=LoadCredential=DATABASE_URL:/etc/pharma/credentials/DATABASE_URL --setenv=PHARMA_ENV=lab \
  /bin/sh -c '
    number=0
    while read -r user store password; do
      printf "%s\n" "$password" | /opt/pharma/current/bin/pharma-backend create-user \
        --username "$user" --role cashier --store "$store" --password-stdin &
      number=$((number + 1))
      [ $((number % 2)) -eq 1 ] || wait
    done
    wait'
"""
RESTOCK = "update pharmacy.stock set received = received + 100000, quantity = quantity + 100000"


class Shop:
    """:param on_host: runs a command on a host, with text on its standard input; its output."""

    def __init__(self, on_host: Callable[..., str], database: str = "pharma") -> None:
        self._on_host = on_host
        self._database = database

    def sql(self, statement: str) -> str:
        """Run a statement as the server's administrator; rows as unaligned text."""
        command = f"runuser -u postgres -- psql -X -q -A -t -v ON_ERROR_STOP=1 -d {self._database}"
        return self._on_host("db1", command, statement)

    def restock(self) -> None:
        """Deliver so much of every lot that no load runs out of it."""
        self.sql(RESTOCK)

    def hire(self, count: int) -> list[User]:
        """Create cashiers with the release's own command, in turn for each store."""
        run = secrets.token_hex(3)
        passwords = {f"load-{run}-{number}": secrets.token_urlsafe(18) for number in range(count)}
        lines = [
            f"{name} LOJA-{number % STORES + 1:02d} {password}\n"
            for number, (name, password) in enumerate(passwords.items())
        ]
        self._on_host("app1", CREATE, "".join(lines))
        found = self.sql(
            f"select username, id, store_id from pharmacy.users where username like 'load-{run}-%' order by id"
        )
        rows = [line.split("|") for line in found.splitlines()]
        if len(rows) != count:
            raise RuntimeError(f"{len(rows)} of {count} users were created")
        return [User(name, passwords[name], user_id, store_id) for name, user_id, store_id in rows]

    def lines(self, since: float) -> Iterator[dict[str, Any]]:
        """What the service wrote into the journal since then (seconds since the epoch), both colours."""
        output = self._on_host(
            "app1",
            f"journalctl --output=cat --no-pager --since=@{since:.6f} --identifier={SERVICE}",
        )
        for line in output.splitlines():
            # systemd's own lines about a unit have another identifier; the service writes JSON only.
            yield json.loads(line)

    def slot(self) -> str:
        """The colour in service."""
        link = self._on_host("app1", "readlink /opt/pharma/slots/active.sock").strip()
        return link.rpartition("/")[2].removesuffix(".sock")

    def version(self) -> str:
        """The version of the release in service."""
        return self._on_host("app1", "readlink -f /opt/pharma/current").strip().rpartition("/")[2]

    def release(self) -> dict[str, Any]:
        """The identity of the release in service."""
        identity: dict[str, Any] = json.loads(self._on_host("app1", "cat /opt/pharma/current/release.json"))
        return identity

    def deployments(self) -> list[dict[str, Any]]:
        """The journal of deployments."""
        path = f"/var/lib/pharma-ops/deployments/{SERVICE}.jsonl"
        return [json.loads(line) for line in self._on_host("app1", f"cat {path}").splitlines()]


def strangers(lines: Iterable[Mapping[str, Any]], exchanges: Mapping[str, Exchange]) -> list[str]:
    """Lines of our requests, or of our users, that say something else than what was sent."""
    ours = {exchange.user.user_id for exchange in exchanges.values()}
    found = []
    for line in lines:
        exchange = exchanges.get(line["requestId"])
        if exchange is None:
            if line.get("userId") in ours:
                found.append(
                    f"{line['msg']} of user {line['userId']} under the unknown request {line['requestId']}"
                )
            continue
        seen = (line.get("userId"), line.get("storeId"), line.get("route"))
        meant = (exchange.user.user_id, exchange.user.store_id, exchange.route)
        if seen != meant:
            found.append(f"{line['msg']} {line['requestId']}: {seen}, not {meant}")
    return found
