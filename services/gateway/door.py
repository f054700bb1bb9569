"""Whether a request may enter at this load: asked before anything is spent on it, least of all tokenizing."""

from __future__ import annotations

import math

from services.gateway import feasibility, slo
from services.gateway.admission import unavailable
from services.gateway.bus import Bus
from services.gateway.errors import ApiError, invalid
from services.gateway.fleet import Fleet
from services.gateway.terms import Terms
from shared.errors import BusUnavailable
from shared.scripts import Enqueued, Room, room


class Door:
    """Looks at the fleet and at the queue, in this order: 400, 503 and 429 each tell what to do next."""

    def __init__(self, bus: Bus, fleet: Fleet, *, patience_s: float, refuse_unreachable: bool = True) -> None:
        self._bus = bus
        self._fleet = fleet
        self._patience_s = patience_s
        self._refuse_unreachable = refuse_unreachable

    async def check(self, terms: Terms, *, places: int = 1, speculation: bool) -> None:
        """Whether so many requests would find room. Nothing is reserved: enqueue decides, by the same rule.

        Raises ApiError.
        """
        await self.check_target(terms, places=places, speculation=speculation)
        if self._fleet.silent_s > self._patience_s:
            raise unavailable(f"no verifier has been alive for {self._patience_s:g} s")
        found = await self._room(terms, places)
        if found.status is not Enqueued.OK:
            raise self.full(found.status, terms, found.tokens_ahead)
        self._check_pace(terms, found.tokens_ahead, speculation=speculation)

    async def check_target(self, terms: Terms, *, places: int = 1, speculation: bool) -> None:
        """Whether an empty cell could take it. Raises ApiError 400."""
        if places > terms.bounds.limit:
            raise invalid("n", f"{places} is more than this tier's queue holds, {terms.bounds.limit}")
        slo.check_feasible(terms.slo, self._fleet.zero_load_ms, speculation=speculation)

    async def refused(self, status: Enqueued, terms: Terms) -> ApiError:
        """The answer to a request that others were faster than."""
        return self.full(status, terms, (await self._room(terms)).tokens_ahead)

    def full(self, status: Enqueued, terms: Terms, tokens_ahead: int) -> ApiError:
        """429, with when to ask again."""
        is_tenants = status is Enqueued.TENANT_FULL
        whose = f"tenant {terms.tenant} has as many requests waiting" if is_tenants else "as many requests wait"
        return ApiError(
            429,
            f"{whose} as tier {terms.tier} takes now (at most {terms.bounds.limit} in all)",
            code="tenant_queue_full" if is_tenants else "queue_full",
            retry_after_s=self._drain_s(tokens_ahead),
        )

    async def _room(self, terms: Terms, places: int = 1) -> Room:
        limit = terms.bounds.limit - (places - 1)  # the last of them must find room
        call = room(self._bus.keys, tier=terms.tier, tenant=terms.tenant, limit=limit, share=terms.bounds.share)
        try:
            return await self._bus.call(call)
        except BusUnavailable:
            raise unavailable("the message bus does not answer") from None

    def _check_pace(self, terms: Terms, tokens_ahead: int, *, speculation: bool) -> None:
        if math.isinf(terms.slo.tpot_ms) or not self._refuse_unreachable:
            return
        achievable_ms = feasibility.achievable_tpot_ms(self._fleet.paces, speculation=speculation)
        if achievable_ms is not None and not feasibility.is_reachable(terms.slo.tpot_ms, achievable_ms):
            raise ApiError(
                429,
                f"adaserve.slo.tpot_ms: {terms.slo.tpot_ms:g} cannot be met now; {achievable_ms:.3g} could",
                code="slo_unreachable_now",
                param="adaserve.slo.tpot_ms",
                retry_after_s=self._drain_s(tokens_ahead),
                details={"achievable_tpot_ms": round(achievable_ms, 3)},
            )

    def _drain_s(self, tokens: int) -> float:
        return feasibility.drain_s(tokens, self._fleet.paces)
