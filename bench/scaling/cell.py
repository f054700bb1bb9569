"""A cell whose verifiers and drafters come and go: one queue, and a clock that jumps from event to event.

What is modelled of scaling: a replica costs GPU time from the moment it is ordered, but serves only when its pod
has started and its model is loaded. Of verifiers the newest leave first; what they serve others take over, with
its whole context to be fed again (services/verifier/departure.py). The autoscaler knows what has been scraped.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.scaling.autoscaler import SYNC_S
from bench.scaling.drafters import Drafters
from bench.scaling.gauges import Gauges
from bench.scaling.result import Result, Sample
from bench.scaling.verifier import Model, SimVerifier
from bench.simulator.request import SimRequest
from services.verifier.departure import SETTLE_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Seconds from the order to a replica that serves: scheduling, image from the node, weights, first profile."""

    verifier_s: float = 120.0
    drafter_s: float = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a cell stands: ``sizes`` are the verifiers and drafters ordered, ``ready`` those that serve."""

    now_s: float
    sizes: tuple[int, int]
    ready: tuple[int, int]
    gauges: Gauges


class Sizing(Protocol):
    """Says how many verifiers and drafters there are to be."""

    @property
    def name(self) -> str:
        """As in the table."""

    def begin(self) -> tuple[int, int]:
        """Before the first request."""

    def sizes(self, standing: Standing) -> tuple[int, int]:
        """Every SYNC_S."""


class Cell:
    """Runs until all requests have ended."""

    def __init__(
        self, model: Model, requests: Sequence[SimRequest], sizing: Sizing, delays: Delays, scrape_s: float
    ) -> None:
        self._model, self._sizing, self._delays = model, sizing, delays
        self._requests = list(requests)
        self._arrivals = deque(self._requests)
        self._queue: deque[SimRequest] = deque()
        self._verifiers: list[SimVerifier] = []  # in order of their beginning
        self._drafters = Drafters()
        self._drafters_ordered: list[float] = []  # when each is ready, in order of their beginning
        self._gauges = Gauges(scrape_s)
        self._turns: list[tuple[float, int, SimVerifier]] = []
        self._num_begun = self._num_moved = 0
        self._spent_ms = [0.0, 0.0]
        self._now_ms = 0.0
        self._samples: list[Sample] = []

    def run(self) -> Result:
        """Until the last token."""
        self._resize(self._sizing.begin(), at_once=True)
        next_sync_ms = next_scrape_ms = 0.0
        while not self._is_over:
            now_ms = min(self._next_turn_ms, self._next_arrival_ms, next_sync_ms, next_scrape_ms)
            self._pass(now_ms)
            if now_ms == next_scrape_ms:
                self._scrape()
                next_scrape_ms += 1_000 * self._gauges.period_s
            elif now_ms == next_sync_ms:
                self._sync()
                next_sync_ms += 1_000 * SYNC_S
            elif now_ms == self._next_arrival_ms:
                self._queue.append(self._arrivals.popleft())
                self._wake()
            else:
                self._turn(heapq.heappop(self._turns)[2])
        return Result(
            name=self._sizing.name,
            outcomes=tuple(request.outcome for request in self._requests),
            verifier_hours=self._spent_ms[0] / 3.6e6,
            drafter_hours=self._spent_ms[1] / 3.6e6,
            num_moved=self._num_moved,
            samples=tuple(self._samples),
        )

    # -- time --
    @property
    def _is_over(self) -> bool:
        return not self._arrivals and not self._queue and all(verifier.is_idle for verifier in self._verifiers)

    @property
    def _next_turn_ms(self) -> float:
        return self._turns[0][0] if self._turns else float("inf")

    @property
    def _next_arrival_ms(self) -> float:
        return self._arrivals[0].arrival_ms if self._arrivals else float("inf")

    def _pass(self, now_ms: float) -> None:
        took_ms = now_ms - self._now_ms
        self._spent_ms[0] += took_ms * len(self._verifiers)
        self._spent_ms[1] += took_ms * len(self._drafters_ordered)
        self._now_ms = now_ms

    # -- verifiers --
    def _turn(self, verifier: SimVerifier) -> None:
        if verifier not in self._verifiers:
            return
        if verifier.leaves_ms is None:
            verifier.claim(self._queue)
        elif self._now_ms >= verifier.leaves_ms and self._others_live:
            self._part(verifier)
            return
        if not verifier.is_idle:
            verifier.turn(self._drafters)
            self._gauges.ended(verifier.world.ended)
            self._schedule(verifier, verifier.world.now_ms)
        elif verifier.leaves_ms is not None:
            self._schedule(verifier, max(verifier.leaves_ms, self._now_ms + 1.0))

    def _part(self, verifier: SimVerifier) -> None:
        given = verifier.give_back()
        self._num_moved += len(given)
        self._queue.extendleft(reversed(given))
        self._verifiers.remove(verifier)
        self._drafters.leave(verifier.number)
        self._gauges.busy_gone_ms += verifier.busy_ms
        self._wake()

    @property
    def _others_live(self) -> bool:
        """Whether a verifier serves that is not to stop."""
        return any(other.leaves_ms is None and other.ready_ms <= self._now_ms for other in self._verifiers)

    def _wake(self) -> None:
        """Idle verifiers, which wait for an entry of the queue, take what there is."""
        for verifier in self._verifiers:
            if not self._queue:
                break
            if verifier.is_idle and verifier.leaves_ms is None and verifier.ready_ms <= self._now_ms:
                verifier.world.now_ms = self._now_ms
                self._turn(verifier)

    def _schedule(self, verifier: SimVerifier, at_ms: float) -> None:
        verifier.world.now_ms = at_ms
        heapq.heappush(self._turns, (at_ms, verifier.number, verifier))

    # -- scaling --
    def _sync(self) -> None:
        staying = [verifier for verifier in self._verifiers if verifier.leaves_ms is None]
        ready = sum(1 for verifier in staying if verifier.ready_ms <= self._now_ms)
        self._drafters.resize(sum(1 for at_ms in self._drafters_ordered if at_ms <= self._now_ms))
        sizes = len(staying), len(self._drafters_ordered)
        now_s = self._now_ms / 1e3
        self._samples.append(
            Sample(
                at_s=now_s,
                verifiers=len(self._verifiers),
                ready=ready,
                drafters=sizes[1],
                queued=len(self._queue),
            )
        )
        serving = ready, len(self._drafters.live)
        standing = Standing(now_s=now_s, sizes=sizes, ready=serving, gauges=self._gauges)
        self._resize(self._sizing.sizes(standing), at_once=False)

    def _resize(self, sizes: tuple[int, int], *, at_once: bool) -> None:
        num_verifiers, num_drafters = sizes
        staying = [verifier for verifier in self._verifiers if verifier.leaves_ms is None]
        for _ in range(num_verifiers - len(staying)):
            ready_ms = self._now_ms + (0.0 if at_once else 1e3 * self._delays.verifier_s)
            verifier = SimVerifier(self._num_begun, self._model, ready_ms)
            self._num_begun += 1
            self._verifiers.append(verifier)
            self._schedule(verifier, ready_ms)
        for verifier in reversed(staying[num_verifiers:]):
            self._dismiss(verifier)
        while len(self._drafters_ordered) < num_drafters:
            self._drafters_ordered.append(self._now_ms + (0.0 if at_once else 1e3 * self._delays.drafter_s))
        del self._drafters_ordered[num_drafters:]
        self._drafters.resize(sum(1 for at_ms in self._drafters_ordered if at_ms <= self._now_ms))

    def _dismiss(self, verifier: SimVerifier) -> None:
        """Told to stop: it claims nothing more, and settles before it gives back what it serves."""
        if verifier.ready_ms > self._now_ms:
            self._verifiers.remove(verifier)
            return
        verifier.leaves_ms = self._now_ms + SETTLE_MS
        if verifier.is_idle:
            self._schedule(verifier, verifier.leaves_ms)

    def _scrape(self) -> None:
        serving = [verifier for verifier in self._verifiers if verifier.ready_ms <= self._now_ms]
        self._gauges.scrape(self._now_ms / 1e3, serving, self._queue, self._drafters)
