"""What Prometheus knows of the simulated cell: scraped series, and the triggers' values over their windows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from bench.scaling.drafters import Drafters
from bench.scaling.rules import Rules, Trigger
from bench.scaling.verifier import SimVerifier
from bench.simulator.request import SimRequest

LONGEST_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """One look at all series; counters count from the beginning. Of verifiers sums over those that serve."""

    at_s: float
    verifiers: int
    drafters: int
    unfed: float  # requests whose context is not fed, in Redis and at verifiers
    running: float  # requests in service
    kv: float  # verifiers' worth of KV used
    busy_ms: float
    met: int
    missed: int
    draft_busy_ms: float
    draft_asked: int
    draft_waited_ms: float


class Gauges:
    """Scrapes every ``period_s`` seconds."""

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.busy_gone_ms = 0.0
        self._met = self._missed = 0
        self._scrapes: deque[Scrape] = deque()

    def ended(self, requests: list[SimRequest]) -> None:
        """Count these and empty the list."""
        for request in requests:
            outcome = request.outcome
            self._met += outcome.attained
            self._missed += outcome.has_target and not outcome.attained
        requests.clear()

    def scrape(
        self, now_s: float, serving: Collection[SimVerifier], queue: Collection[SimRequest], drafters: Drafters
    ) -> None:
        """Look at everything."""
        self._scrapes.append(
            Scrape(
                at_s=now_s,
                verifiers=len(serving),
                drafters=len(drafters.live),
                unfed=len(queue) + sum(verifier.num_unfed for verifier in serving),
                running=sum(len(verifier.world.scheduler.running) for verifier in serving),
                kv=sum(
                    verifier.world.scheduler.num_blocks_used / verifier.world.scheduler.num_blocks
                    for verifier in serving
                ),
                busy_ms=self.busy_gone_ms + sum(verifier.busy_ms for verifier in serving),
                met=self._met,
                missed=self._missed,
                draft_busy_ms=drafters.busy_ms,
                draft_asked=drafters.num_asked,
                draft_waited_ms=drafters.waited_ms,
            )
        )
        while self._scrapes[0].at_s < now_s - LONGEST_S:
            self._scrapes.popleft()

    def values(self, rules: Rules) -> dict[str, float]:
        """Of each active trigger that can be told, as its query would give it."""
        if not self._scrapes:
            return {}
        now = self._scrapes[-1]
        found = {}
        for name, trigger in rules.active.items():
            value = VALUES[name](self._since(trigger), now)
            if value is not None:
                found[name] = min(value, trigger.ceiling, _bound(name, trigger, now))
        return found

    def _since(self, trigger: Trigger) -> Scrape:
        """The first scrape of the trigger's window."""
        after_s = self._scrapes[-1].at_s - trigger.window_s
        return next(scrape for scrape in self._scrapes if scrape.at_s >= after_s)


def _bound(name: str, trigger: Trigger, now: Scrape) -> float:
    """Drafters' queries end at what the number of verifiers allows."""
    if name == "busy":
        return trigger.target * now.verifiers
    return trigger.target * now.verifiers / max(now.drafters, 1) if name == "queueWait" else math.inf


def _missed(then: Scrape, now: Scrape) -> float:
    missed, met = now.missed - then.missed, now.met - then.met
    return missed / (missed + met) if missed + met else 0.0


def _share(then: float, now: float, began: Scrape, ends: Scrape) -> float:
    """Seconds a second of a counter of milliseconds."""
    return max(0.0, now - then) / 1e3 / (ends.at_s - began.at_s) if ends.at_s > began.at_s else 0.0


def _draft_busy(then: Scrape, now: Scrape) -> float:
    return _share(then.draft_busy_ms, now.draft_busy_ms, then, now)


def _draft_wait(then: Scrape, now: Scrape) -> float:
    asked = now.draft_asked - then.draft_asked
    return (now.draft_waited_ms - then.draft_waited_ms) / 1e3 / asked if asked else 0.0


def _cpu(then: Scrape, now: Scrape) -> float:
    """Percent of one core a verifier: its loop polls as long as anything runs."""
    return 100.0 * _share(then.busy_ms, now.busy_ms, then, now) / max(now.verifiers, 1)


def _draft_cpu(then: Scrape, now: Scrape) -> float:
    """The same a drafter, which blocks where no verifier asks."""
    return 100.0 * _draft_busy(then, now) / max(now.drafters, 1)


VALUES: Mapping[str, Callable[[Scrape, Scrape], float | None]] = {
    "waiting": lambda _then, now: now.unfed / now.verifiers if now.verifiers else None,
    "running": lambda _then, now: now.running,
    "kv": lambda _then, now: now.kv,
    "attainment": _missed,
    "busy": _draft_busy,
    "queueWait": _draft_wait,
    "cpu": _cpu,
    "draftCpu": _draft_cpu,
}
