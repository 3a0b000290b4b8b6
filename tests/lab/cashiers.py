# SPDX-License-Identifier: GPL-3.0-or-later
"""Cashiers that log in once and then sell: what a till does all day, each answer checked."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NoReturn

from kept_alive import Answer, BrokenExchangeError, Connection, Pool

METHODS = ("cash", "debit_card", "credit_card", "pix")
OPENING = Decimal("100.00")
# A till repeats what failed, with the same idempotency key; after that the cashier calls for help.
ATTEMPTS = 100
PAUSE_SECONDS = 0.1


class GaveUpError(Exception):
    """A step failed every time, or the user is logged out."""


@dataclass(frozen=True, slots=True)
class User:
    """A user that exists, by its login and by its ids in the log."""

    username: str
    password: str
    user_id: str
    store_id: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came of it; ``began`` in seconds since the epoch, ``cause`` empty when all was right."""

    request_id: str
    user: User
    route: str
    began: float
    seconds: float
    status: int | None
    sent_bytes: int
    cause: str = ""

    @property
    def ended(self) -> float:
        """When the answer was whole, or the failure certain."""
        return self.began + self.seconds


@dataclass(frozen=True, slots=True)
class Order:
    """A request to send, and the status that is right."""

    method: str
    path: str
    route: str
    expected: int
    body: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Tally:
    """What a load has seen so far."""

    exchanges: list[Exchange] = field(default_factory=list)
    refreshes: int = 0
    cured: int = 0
    logged_out: list[str] = field(default_factory=list)
    gave_up: list[str] = field(default_factory=list)
    shifts: int = 0
    announced_closes: int = 0


@dataclass(frozen=True)
class Mix:
    """What a cashier does in a shift, and how large its requests are.

    :param sales: sales in a shift.
    :param reads: how often a sale is looked at before and after it is paid.
    :param pause: seconds between two requests of a till: what is done to the service meanwhile needs the processor too.
    :param padding: bytes of white space to put round a body, drawn for each request; JSON allows it.
    """

    sales: int = 8
    reads: int = 2
    pause: float = 0.03
    padding: Callable[[random.Random], int] = lambda _random: 0


@dataclass
class Cashier:
    """One user at one till; times in seconds."""

    user: User
    seed: int = 0
    access_token: str = ""
    refresh_token: str = ""
    expires_at: float = 0.0
    out: bool = False

    def take(self, document: dict[str, Any]) -> None:
        """Keep the tokens of a login or a refresh."""
        self.access_token = document["access_token"]
        self.refresh_token = document["refresh_token"]
        # A fifth before the end: a request that is on its way must not expire.
        self.expires_at = time.monotonic() + 0.8 * document["expires_in"]


class Till:
    """A cashier at work over a kept-alive connection, or over some that all cashiers share.

    :param stop: is set when the shift is to end: the sale is finished and the cash counted.
    """

    def __init__(
        self, cashier: Cashier, connection: Connection | Pool, tally: Tally, stop: asyncio.Event, mix: Mix
    ) -> None:
        self._cashier = cashier
        self._connection = connection
        self._tally = tally
        self._stop = stop
        self._mix = mix
        self._random = random.Random(cashier.seed)  # noqa: S311 - nothing is secret here
        self.began = asyncio.Event()

    async def work(self) -> None:
        """Shift after shift until the stop."""
        try:
            while not self._stop.is_set():
                await self._shift()
                self._tally.shifts += 1
        except GaveUpError as error:
            self._cashier.out = True
            self._tally.gave_up.append(f"{self._cashier.user.username}: {error}")
        finally:
            self.began.set()
            self._tally.announced_closes += self._connection.announced
            self._connection.close()

    async def login(self) -> float:
        """Log in, the only time; 0 when it was done, else after how many seconds to try again."""
        user = self._cashier.user
        body = json.dumps({"username": user.username, "password": user.password}).encode()
        answer = await self._connection.exchange(
            "POST", "/auth/login", {"Content-Type": "application/json"}, body
        )
        self._connection.close()
        if answer.status in (429, 503):
            return float(answer.headers.get("retry-after", "1"))
        if answer.status != 200:
            raise GaveUpError(f"the login of {user.username} got {answer.status}: {answer.body[:300]!r}")
        self._cashier.take(json.loads(answer.body))
        return 0.0

    async def _shift(self) -> None:
        register = f"till-{self._cashier.user.user_id}"
        await self._step(
            *("POST", "/cash/open", 201),
            {"register": register, "opening_amount": str(OPENING)},
            done_before="CASH_ALREADY_OPEN",
        )
        products = await self._products()
        self.began.set()
        counted = dict.fromkeys(METHODS, Decimal("0.00")) | {"cash": OPENING}
        for _ in range(self._mix.sales):
            method, amount = await self._sale(self._random.sample(products, k=min(2, len(products))))
            counted[method] += amount
            if self._stop.is_set():
                break
        # The ledger agrees with what this till took: no sale was lost and none was made twice.
        closed = await self._step(
            *("POST", "/cash/close", 200),
            {"counted": {name: str(amount) for name, amount in counted.items()}},
            done_before="CASH_ALREADY_CLOSED",
        )
        self._agree(closed, "closing_amount", str(counted["cash"]))

    async def _products(self) -> list[int]:
        found = await self._step("GET", "/products?in_stock=true&minimum=50&limit=100", 200)
        items = [item["id"] for item in (found or {}).get("items", [])]
        if not items:
            raise GaveUpError("no product is in stock")
        return items

    async def _sale(self, products: Iterable[int]) -> tuple[str, Decimal]:
        items = [{"product_id": number, "quantity": self._random.randint(1, 3)} for number in products]
        sale = await self._step("POST", "/sales", 201, {"items": items}, idempotent=True)
        if sale is None:
            raise GaveUpError("a sale got no document")
        self._agree(sale, "user_id", int(self._cashier.user.user_id))
        path, total = f"/sales/{sale['id']}", Decimal(sale["total"])
        await self._look(path, "open")
        method = self._random.choice(METHODS)
        payments = [{"method": method, "amount": str(total)}]
        paid = await self._step(
            *("POST", f"{path}/pay", 200), {"payments": payments}, idempotent=True, route="/sales/{id}/pay"
        )
        self._agree(paid, "status", "paid")
        await self._look(path, "paid")
        return method, total

    async def _look(self, path: str, status: str) -> None:
        for _ in range(self._mix.reads):
            self._agree(await self._step("GET", path, 200, route="/sales/{id}"), "status", status)

    def _agree(self, document: dict[str, Any] | None, key: str, value: object) -> None:
        """Count an answer that says something else than it must as a failure of its own."""
        if document is not None and document.get(key) != value:
            cause = f"{key} is {document.get(key)!r}, not {value!r}"
            self._tally.exchanges.append(
                Exchange("", self._cashier.user, "answer", time.time(), 0.0, None, 0, cause)
            )

    async def _step(
        self,
        method: str,
        path: str,
        expected: int,
        body: dict[str, Any] | None = None,
        *,
        idempotent: bool = False,
        done_before: str = "",
        route: str = "",
    ) -> dict[str, Any] | None:
        """Do one thing, again until it is done; every attempt that failed is counted.

        :param done_before: the code with which a repetition says that the first attempt had worked after all.
        """
        await asyncio.sleep(self._mix.pause)
        if time.monotonic() >= self._cashier.expires_at:
            await self._refresh()
        order = Order(
            method,
            path,
            f"{method} {route or path.partition('?')[0]}",
            expected,
            body,
            {"Idempotency-Key": uuid.uuid4().hex} if idempotent else {},
        )
        for attempt in range(ATTEMPTS):
            answer = await self._authorized(order)
            if answer is not None:
                document: dict[str, Any] = json.loads(answer.body)
                if answer.status == expected:
                    return document
                if attempt and document.get("code") == done_before:
                    return None
            await asyncio.sleep(PAUSE_SECONDS)
        raise GaveUpError(f"{order.route} failed {ATTEMPTS} times")

    async def _authorized(self, order: Order) -> Answer | None:
        """One attempt. A token that is refused is exchanged once; when that does not help, the user is out."""
        answer = await self._send(order, self._bearer(), cure=True)
        if answer is None or answer.status != 401:
            return answer
        self._tally.cured += 1
        await self._refresh()
        answer = await self._send(order, self._bearer())
        if answer is not None and answer.status == 401:
            self._log_out(f"{order.route} refuses a token that was issued a moment ago")
        return answer

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._cashier.access_token}"}

    async def _refresh(self) -> None:
        body = {"refresh_token": self._cashier.refresh_token}
        order = Order("POST", "/auth/refresh", "POST /auth/refresh", 200, body)
        for _ in range(ATTEMPTS):
            answer = await self._send(order, {})
            if answer is not None and answer.status == 200:
                self._cashier.take(json.loads(answer.body))
                self._tally.refreshes += 1
                return
            if answer is not None and answer.status == 401:
                self._log_out(f"the refresh token is refused: {code_of(answer)}")
            await asyncio.sleep(PAUSE_SECONDS)
        raise GaveUpError(f"POST /auth/refresh failed {ATTEMPTS} times")

    def _log_out(self, cause: str) -> NoReturn:
        self._tally.logged_out.append(f"{self._cashier.user.username}: {cause}")
        raise GaveUpError(f"logged out: {cause}")

    async def _send(self, order: Order, token: dict[str, str], *, cure: bool = False) -> Answer | None:
        """Send once and note what came of it; None when no answer of the service came back whole.

        :param cure: a 401 is no failure yet.
        """
        request_id = uuid.uuid4().hex
        content = b"" if order.body is None else json.dumps(order.body).encode()
        if content:
            content += b" " * self._mix.padding(self._random)
        headers = order.headers | token | {"X-Request-Id": request_id, "Content-Type": "application/json"}
        began, clock = time.time(), time.perf_counter()

        def note(status: int | None, cause: str) -> None:
            seconds = time.perf_counter() - clock
            user = self._cashier.user
            self._tally.exchanges.append(
                Exchange(request_id, user, order.route, began, seconds, status, len(content), cause)
            )

        try:
            answer = await self._connection.exchange(order.method, order.path, headers, content)
        except BrokenExchangeError as error:
            note(None, str(error))
            return None
        cause = fault(answer, request_id, order.expected)
        note(answer.status, "" if cure and answer.status == 401 else cause)
        if cause and answer.status == order.expected:
            return None
        return answer if is_json(answer) else None


def fault(answer: Answer, request_id: str, expected: int) -> str:
    """What is wrong with an answer; empty when nothing is."""
    if answer.status != expected:
        return f"{answer.status} {code_of(answer)}"
    returned = answer.headers.get("x-request-id")
    if returned != request_id:
        return f"the answer has the request id {returned!r}"
    if not is_json(answer):
        return f"the body is not JSON: {answer.body[:80]!r}"
    return ""


def is_json(answer: Answer) -> bool:
    """Whether the body is a JSON object."""
    try:
        return isinstance(json.loads(answer.body), dict)
    except ValueError:
        return False


def code_of(answer: Answer) -> str:
    """The code of a problem, or the beginning of another body."""
    return str(json.loads(answer.body).get("code")) if is_json(answer) else repr(answer.body[:60])
