# SPDX-License-Identifier: GPL-3.0-or-later
"""A load on the pharmacy while something happens to it, and the account of every request that was sent."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Protocol, Self

import uvloop
from cashiers import Cashier, Exchange, GaveUpError, Mix, Tally, Till
from kept_alive import Connection, Endpoint, Pool

# How long the workers may take to begin, and to end, in seconds.
BEGIN_SECONDS = 60.0
END_SECONDS = 120.0


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least ``part`` (above 0, at most 1) of the values do not exceed; 0 of none."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


@dataclass(frozen=True)
class Report:
    """What a load met.

    :param exchanges: every request, those that failed too.
    :param cured: requests whose access token had expired under way and which a refresh let through.
    :param announced_closes: connections that the server closed after it had said so.
    """

    exchanges: tuple[Exchange, ...]
    seconds: float
    refreshes: int
    cured: int
    logged_out: tuple[str, ...]
    gave_up: tuple[str, ...]
    shifts: int
    announced_closes: int

    @classmethod
    def of(cls, tally: Tally, seconds: float) -> Report:
        """The account of a tally that is complete."""
        return cls(
            exchanges=tuple(tally.exchanges),
            seconds=seconds,
            refreshes=tally.refreshes,
            cured=tally.cured,
            logged_out=tuple(tally.logged_out),
            gave_up=tuple(tally.gave_up),
            shifts=tally.shifts,
            announced_closes=tally.announced_closes,
        )

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return sum(1 for exchange in self.exchanges if exchange.request_id)

    @property
    def failures(self) -> tuple[Exchange, ...]:
        """What went wrong, in the order of time."""
        return tuple(
            sorted((each for each in self.exchanges if each.cause), key=lambda exchange: exchange.began)
        )

    @property
    def failed(self) -> int:
        """Requests that failed, answers that were wrong, and cashiers that could not go on."""
        return len(self.failures) + len(self.gave_up)

    def begun_in(self, since: float, until: float = math.inf) -> tuple[Exchange, ...]:
        """The requests that were begun in a span of time (seconds since the epoch)."""
        return tuple(each for each in self.exchanges if since <= each.began < until)

    def quiet_seconds(self) -> float:
        """The longest time in which no answer arrived."""
        ends = sorted(exchange.ended for exchange in self.exchanges)
        return max((later - sooner for sooner, later in pairwise(ends)), default=0.0)

    def summary(self) -> str:
        """A few lines for a person."""
        took = [exchange.seconds for exchange in self.exchanges if exchange.request_id]
        rate = self.requests / max(self.seconds, 1e-9)
        p50, p95, p99 = (percentile(took, part) * 1000 for part in (0.5, 0.95, 0.99))
        speed = (
            f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms, max {max(took, default=0) * 1000:.0f} ms"
        )
        ends = f"{len(self.logged_out)} logged out, {self.announced_closes} announced closes"
        lines = [
            f"{self.requests} requests in {self.seconds:.1f} s ({rate:.0f}/s), {self.failed} failed; {speed}",
            f"  longest without an answer {self.quiet_seconds() * 1000:.0f} ms; {self.shifts} shifts balanced",
            f"  {self.refreshes} refreshes, {self.cured} cured, {ends}",
        ]
        causes = Counter(f"{each.route}: {each.cause}" for each in self.failures)
        lines += [f"  {count} x {cause}" for cause, count in causes.most_common(12)]
        lines += [f"  {text}" for text in self.gave_up[:5]]
        return "\n".join(lines)

    def routes(self) -> str:
        """A line for each route: how often, how fast."""
        by_route: dict[str, list[float]] = defaultdict(list)
        for exchange in self.exchanges:
            if exchange.request_id:
                by_route[exchange.route].append(exchange.seconds)
        return "\n".join(
            f"  {route:<22} {len(took):>6}  p50 {percentile(took, 0.5) * 1000:>6.1f} ms"
            f"  p95 {percentile(took, 0.95) * 1000:>6.1f} ms"
            for route, took in sorted(by_route.items())
        )


class Worker(Protocol):
    """Sends one request after the other until it is to stop."""

    began: asyncio.Event

    async def work(self) -> None:
        """Set ``began`` when requests are on their way, and come back soon after the stop."""


Staff = Callable[[Tally, asyncio.Event], Sequence[Worker]]


def tills(
    endpoint: Endpoint, cashiers: Iterable[Cashier], mix: Mix | None = None, connections: int = 0
) -> Staff:
    """The cashiers that are logged in, each at a till.

    :param connections: so many are shared by all, each request taking the next; 0: each till has its own.
    """

    def take_places(tally: Tally, stop: asyncio.Event) -> Sequence[Worker]:
        present = [each for each in cashiers if not each.out]
        pool = Pool(endpoint, connections, len(present)) if connections else None
        return [Till(each, pool or Connection(endpoint), tally, stop, mix or Mix()) for each in present]

    return take_places


class Traffic:
    """Workers in a thread of their own, so that the test is free to do something to the service.

    As a context manager it begins, and comes back when every worker is at work. :meth:`finish` ends it.

    :param staff: makes the workers, which write into the tally and end at the stop.
    """

    def __init__(self, staff: Staff) -> None:
        self._staff = staff
        self._tally = Tally()
        self._selling = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._began = self._ended = 0.0
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        if not self._selling.wait(BEGIN_SECONDS):
            report = self.report()
            self._end()
            raise RuntimeError(f"not every worker could begin: {report.summary()}")
        self._raise()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def requests(self) -> int:
        """How many requests were sent so far."""
        return len(self._tally.exchanges)

    def wait(self, requests: int, seconds: float = 0.0, limit: float = 300.0) -> None:
        """Let the load go on for so many requests more and for so long.

        :raises RuntimeError: it did not come to that in ``limit`` seconds, or no cashier is left.
        """
        target, until = self.requests + requests, time.monotonic() + seconds
        deadline = time.monotonic() + limit
        while self.requests < target or time.monotonic() < until:
            if time.monotonic() > deadline or not self._thread.is_alive():
                self._end()
                raise RuntimeError(f"the load ended early: {self.report().summary()}")
            time.sleep(0.05)

    def finish(self, at_least: int = 10_000, after: float = 1.0, limit: float = 300.0) -> Report:
        """Go on until ``at_least`` requests were sent in all, and for ``after`` seconds; end the shifts; the account.

        :raises RuntimeError: it did not come to that in ``limit`` seconds.
        """
        self.wait(max(0, at_least - self.requests), after, limit)
        self._end()
        self._raise()
        return self.report()

    def report(self) -> Report:
        """The account so far."""
        return Report.of(self._tally, (self._ended or time.monotonic()) - self._began)

    def _end(self) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(END_SECONDS)
        self._ended = self._ended or time.monotonic()
        if self._thread.is_alive():
            raise RuntimeError(f"the workers did not end in {END_SECONDS:.0f} s")

    def _raise(self) -> None:
        if self._error is not None:
            raise RuntimeError("the load itself broke") from self._error

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._work())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the load is used
            self._error = error
        finally:
            self._selling.set()

    async def _work(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        workers = self._staff(self._tally, self._stop)
        if not workers:
            raise RuntimeError("nobody is there to work: no cashier is logged in any more")
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.work())
            for worker in workers:
                await worker.began.wait()
            self._selling.set()


def log_in(endpoint: Endpoint, cashiers: Iterable[Cashier], limit: float = 180.0) -> None:
    """Log every cashier in, one after the other and no faster than the service allows.

    :raises GaveUpError: it took longer than ``limit`` seconds, or a login was refused.
    """

    async def run() -> None:
        deadline = time.monotonic() + limit
        for cashier in cashiers:
            till = Till(cashier, Connection(endpoint), Tally(), asyncio.Event(), Mix())
            while pause := await till.login():
                if time.monotonic() + pause > deadline:
                    raise GaveUpError(f"the logins took more than {limit:.0f} s")
                await asyncio.sleep(pause)

    asyncio.run(run())
