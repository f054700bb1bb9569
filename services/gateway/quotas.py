"""What a tenant's policy lets it have: requests and tokens per minute, requests at a time.

A request takes what it may need before anything is spent on it, and gives back at its end what it did not use.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from services.gateway import rate_limits
from services.gateway.bus import Bus
from services.gateway.leases import Leases
from services.gateway.rate_limits import FIELDS, LimitReached, Standing, Unit, Window
from services.gateway.shared_counts import Spending, Together
from services.gateway.tasks import end, vital
from shared import door_scripts, signals
from shared.errors import BusUnavailable
from shared.policy import Policy, Tenant
from shared.telemetry import Telemetry

logger = logging.getLogger(__name__)

INSPECTED = ":inspected"  # in the place of a tenant, none of which has a colon in its name
KEPT_EACH = 8  # streams of iterations that are kept for each request that may be inspected at a time
AGAIN_S = 1.0  # what a client is told to wait for a place
LAST_WORDS_S = 1.0  # for what is given back when the gateway stops


class Quotas:
    """Grants of one gateway. ``policy`` gives the one in force."""

    def __init__(
        self,
        bus: Bus,
        url: str,
        telemetry: Telemetry,
        policy: Callable[[], Policy | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bus = bus
        together = Together(telemetry)
        self.spending = Spending(url, bus.keys, together)
        self.leases = Leases(bus, together, self.later)
        self.clock = clock
        self._telemetry = telemetry
        self._policy = policy
        self._tasks: set[asyncio.Task[object]] = set()
        self._renewing: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._renewing = vital(self.leases.renew_for_ever())

    async def stop(self) -> None:
        """Gives back what is on its way, then closes the connections."""
        if self._renewing is not None:
            await end([self._renewing])
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_WORDS_S)
        await end(self._tasks)
        await self.spending.stop()

    def grant(self, tenant: str) -> Grant:
        """Of a new request; it has nothing yet."""
        return Grant(self, tenant, self._limits(tenant))

    def joined(self, tenant: str, request: str, *, is_inspected: bool = False) -> Grant:
        """Of a request that was let in before: it takes its place, and no request or token again."""
        found = Grant(self, tenant, self._limits(tenant))
        found.keep(request)
        if is_inspected:
            found.keep_inspected(request)
        return found

    async def open_inspected(self, tenant: str, requests: Sequence[str], limit: int) -> None:
        """The streams that their iterations are told in. Without Redis nothing will be told."""
        call = door_scripts.open_inspected(self._bus.keys, tenant=tenant, requests=requests, limit=limit)
        try:
            await self._bus.call(call)
        except BusUnavailable as error:
            logger.info("nothing will be told of inspected requests: %s", error)

    def refused(self, field: str) -> None:
        """Count it."""
        self._telemetry.add(signals.RATE_LIMITED, limit=field)

    def later(self, work: Awaitable[Any]) -> None:
        """In the background. What Redis does not take is left to the counters' expiry."""

        async def run() -> None:
            try:
                await work
            except BusUnavailable as error:
                logger.info("not given back: %s", error)

        task: asyncio.Task[object] = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _limits(self, tenant: str) -> Tenant | None:
        policy = self._policy()
        found = None if policy is None else policy.tenants.get(tenant)
        is_limited = found is not None and (found.rpm, found.tpm, found.max_concurrent) != (None, None, None)
        return found if is_limited else None


class Grant:
    """What one answer has of its tenant's limits until all of its choices have ended. Without limits: nothing."""

    def __init__(self, quotas: Quotas, tenant: str, limits: Tenant | None) -> None:
        self._quotas = quotas
        self._tenant = tenant
        self._limits = limits
        self._window = Window.at(quotas.clock())
        self._standings: dict[Unit, Standing] = {}
        self._taken: dict[Unit, int] = {}
        self._prompt = 0  # tokens, once they are known
        self._each = 0  # most output tokens of one choice
        self._used = 0
        self._open: set[str] = set()  # choices that have not ended
        self._leased: set[str] = set()
        self._inspected: set[str] = set()

    @property
    def headers(self) -> dict[str, str]:
        """How the limits stand with this request; empty for one that counts nowhere."""
        return rate_limits.headers_of(self._standings)

    async def admit(self, requests: Sequence[str], least_tokens: int) -> None:
        """A request, places for its choices, and the tokens it takes at least. Raises ApiError 400, 429."""
        limits = self._limits
        if limits is None:
            return
        self._check_size(limits, len(requests), least_tokens)
        self._open = set(requests)
        try:
            await self._take("requests", limits.rpm, 1)
            await self._take("tokens", limits.tpm, least_tokens)
            if limits.max_concurrent is not None:
                await self._take_places(requests, limits.max_concurrent)
        except BaseException as error:
            self.withdraw()
            if isinstance(error, LimitReached) and "tokens" not in self._standings:
                await self._take("tokens", limits.tpm, 0)  # how it stands is told all the same
            self._tell(error)
            raise

    def _check_size(self, limits: Tenant, num_choices: int, least_tokens: int) -> None:
        """Raises ApiError 400 for what no minute could hold, before any is asked."""
        if limits.tpm is not None and least_tokens > limits.tpm:
            raise rate_limits.never_fits("tpm", least_tokens, limits.tpm, self._tenant, "max_tokens")
        if limits.max_concurrent is not None and num_choices > limits.max_concurrent:
            raise rate_limits.never_fits("max_concurrent", num_choices, limits.max_concurrent, self._tenant, "n")

    def most_output(self, wanted: int, prompt: int) -> int:
        """Output tokens of each choice that gives no `max_tokens`: not more than the tokens of a minute."""
        if self._limits is None or self._limits.tpm is None:
            return wanted
        return max(1, min(wanted, (self._limits.tpm - prompt) // max(1, len(self._open))))

    async def reserve(self, prompt: int, each: int) -> None:
        """All tokens it may take: the prompt's, and so many of each choice. Raises ApiError 400, 429."""
        if self._limits is None:
            return
        self._prompt, self._each = prompt, each
        wanted = prompt + each * len(self._open)
        try:
            await self._take("tokens", self._limits.tpm, wanted - self._taken.get("tokens", 0))
        except BaseException as error:
            self.cancel()  # it counts as a request: its prompt has been tokenized
            self._tell(error)
            raise

    def keep(self, request: str) -> None:
        """A place for a request that runs."""
        if self._limits is not None and self._limits.max_concurrent is not None:
            self._leased.add(request)
            self._quotas.leases.keep(self._tenant, request)

    async def inspect(self, requests: Sequence[str], limit: int) -> None:
        """Places among the requests of the cell that are inspected, whoever's they are. Raises ApiError 429.

        Their iterations push out the oldest of those that are kept, of the tenant that has most of them.
        """
        if not await self._quotas.leases.take(INSPECTED, requests, limit):
            raise rate_limits.too_many_inspected(limit, AGAIN_S)
        self._inspected.update(requests)
        await self._quotas.open_inspected(self._tenant, requests, KEPT_EACH * limit)

    def keep_inspected(self, request: str) -> None:
        """A place for an inspected request that runs."""
        self._inspected.add(request)
        self._quotas.leases.keep(INSPECTED, request)

    def ended(self, request: str, *, tokens: int, has_run: bool = True, goes_on: bool = False) -> None:
        """One choice is no longer this connection's, after so many output tokens. Idempotent."""
        if request in self._leased:
            self._leased.discard(request)
            self._quotas.leases.drop(self._tenant, request, has_ended=not goes_on)
        if request in self._inspected:
            self._inspected.discard(request)
            self._quotas.leases.drop(INSPECTED, request, has_ended=not goes_on)
        if request not in self._open:
            return
        self._open.discard(request)
        if has_run:
            self._used = max(self._used, self._prompt) + (self._each if goes_on else tokens)
        if not self._open:
            self._settle()

    @property
    def is_bounded(self) -> bool:
        """Whether its tokens are."""
        return self._limits is not None and self._limits.tpm is not None

    def all_ended(self, tokens: int | None) -> None:
        """Every choice, after so many output tokens of all together, None where nobody counted. Idempotent."""
        for request in list(self._open):
            self.ended(request, tokens=self._each if tokens is None else tokens)
            tokens = tokens and 0

    def cancel(self) -> None:
        """Nothing more will come of it: tokens and places go back, the request counts."""
        for request in self._open | self._inspected:
            self.ended(request, tokens=0, has_run=False)

    def withdraw(self) -> None:
        """As if it had not been asked for."""
        self.cancel()
        self._give_back("requests", self._taken.get("requests", 0))

    async def _take(self, unit: Unit, limit: int | None, amount: int) -> None:
        if limit is None:
            return
        field = FIELDS[unit]
        whole = self._taken.get(unit, 0) + amount
        if whole > limit:
            raise rate_limits.never_fits(field, whole, limit, self._tenant, "max_tokens")
        self._taken[unit] = whole
        used = await self._quotas.spending.add(unit, self._tenant, self._window, amount)
        standing = self._standings[unit] = Standing(unit, limit, used, self._window.left_s)
        if used > limit and amount > 0:
            self._quotas.refused(field)
            raise rate_limits.exceeded(replace(standing, used=used - whole), self._tenant, whole)

    async def _take_places(self, requests: Sequence[str], limit: int) -> None:
        if not await self._quotas.leases.take(self._tenant, requests, limit):
            self._quotas.refused("max_concurrent")
            raise rate_limits.too_many_at_once(self._tenant, limit, len(requests), AGAIN_S)
        self._leased.update(requests)

    def _tell(self, error: BaseException) -> None:
        if isinstance(error, LimitReached):
            error.standings = self.headers

    def _settle(self) -> None:
        self._give_back("tokens", self._taken.get("tokens", 0) - self._used)

    def _give_back(self, unit: Unit, amount: int) -> None:
        """To the minute it was taken from, which may be over: then nobody cares."""
        if amount > 0 and unit in self._taken:
            self._taken[unit] -= amount
            if unit in self._standings:  # not where Redis was being asked when the client left
                standing = self._standings[unit]
                self._standings[unit] = replace(standing, used=standing.used - amount)
            if not self._window.is_over(self._quotas.clock()):
                self._quotas.later(self._quotas.spending.add(unit, self._tenant, self._window, -amount))
