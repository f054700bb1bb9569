"""One ring: a DraftRequest on its way round, its deadline, and the breaker that stops the waiting.

Pure: time is an argument, milliseconds of a monotonic clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

MIN_DEADLINE_MS = 5.0
PROBE_PERIOD_MS = 1000.0
LONGEST_PROBE_PERIOD_MS = 32_000.0
CALM_MS = 20_000.0  # a breaker that opens again within so long after closing is probed half as often
HISTORY = 64
FIRST_PLAIN_STEPS, PLAIN_STEPS = 4, 32  # without asking, once the selector has found that drafting does not pay


class _Outstanding(NamedTuple):
    step: int
    sent_ms: float


@dataclass(slots=True, eq=False)
class Rest:
    """Plain steps after the selector chose depth 0, before it is asked again: twice as many each time it does.

    One tree of which nothing was worth its time says little of the next ones, several in a row say more.
    """

    _length: int = 0
    _taken: int = 0

    @property
    def is_over(self) -> bool:
        """Whether to ask for trees."""
        return self._taken >= self._length

    def told(self, depth: int) -> None:
        """The selector has chosen a depth."""
        self._taken = 0
        self._length = 0 if depth else min(max(2 * self._length, FIRST_PLAIN_STEPS), PLAIN_STEPS)

    def stepped(self) -> None:
        """A step without having asked."""
        self._taken += 1


@dataclass(slots=True, eq=False)
class Ring:
    """Waits for at most one reply at a time.

    A reply in time ends the wait. None by the deadline is a miss: the request is void, the breaker opens, and the
    verifier decodes without waiting, asking once a second; a probe answered within the cap closes the breaker.
    Each time it opens again soon after, the time between probes doubles: a ring at its limit does not flap.
    """

    index: int
    deadline_cap_ms: float
    is_open: bool = False  # the breaker
    num_steps: int = 0
    _outstanding: _Outstanding | None = None
    _sent: dict[int, float] = field(default_factory=dict)  # unanswered requests, void ones included
    _times: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    _next_probe_ms: float = 0.0
    _probe_period_ms: float = PROBE_PERIOD_MS
    _closed_ms: float = float("-inf")

    @property
    def is_waiting(self) -> bool:
        """Whether decoding waits for a reply."""
        return self._outstanding is not None and not self.is_open

    @property
    def outstanding_step(self) -> int | None:
        """The step whose reply is wanted."""
        return None if self._outstanding is None else self._outstanding.step

    @property
    def deadline_ms(self) -> float:
        """How long after sending a reply counts as missing: twice the 95th percentile of recent ring times."""
        if not self._times:
            return self.deadline_cap_ms
        times = sorted(self._times)
        p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
        return min(max(2.0 * p95, MIN_DEADLINE_MS), self.deadline_cap_ms)

    @property
    def last_ms(self) -> float:
        """The newest ring time, 0 before there is one."""
        return self._times[-1] if self._times else 0.0

    @property
    def soonest_ms(self) -> float:
        """What nine in ten of recent ring times exceed, 0 before there is one."""
        return sorted(self._times)[len(self._times) // 10] if self._times else 0.0

    @property
    def typical_ms(self) -> float:
        """Median of recent ring times, 0 before there is one."""
        return sorted(self._times)[len(self._times) // 2] if self._times else 0.0

    def may_ask(self, now_ms: float) -> bool:
        """Whether a DraftRequest may leave now: always while the breaker is closed, else as a probe."""
        return not self.is_open or now_ms >= self._next_probe_ms

    def asked(self, now_ms: float) -> int:
        """A DraftRequest leaves; returns its step. One still outstanding is void."""
        self.num_steps += 1
        self._outstanding = _Outstanding(self.num_steps, now_ms)
        self._sent[self.num_steps] = now_ms
        while len(self._sent) > HISTORY:
            del self._sent[min(self._sent)]
        self._next_probe_ms = now_ms + (self._probe_period_ms if self.is_open else PROBE_PERIOD_MS)
        return self.num_steps

    def took_ms(self, step: int, now_ms: float) -> float | None:
        """How long an unanswered request has been on its way, void or not; None for one that is not known."""
        sent_ms = self._sent.get(step)
        return None if sent_ms is None else now_ms - sent_ms

    def answered(self, step: int, now_ms: float) -> bool:
        """A reply arrived; whether it is the awaited one. A late reply only teaches how long a ring takes."""
        sent_ms = self._sent.pop(step, None)
        if sent_ms is None:
            return False
        took_ms = now_ms - sent_ms
        self._times.append(took_ms)
        if self._outstanding is None or step != self._outstanding.step:
            return False
        self._outstanding = None
        if self.is_open and took_ms <= self.deadline_cap_ms:
            self.is_open = False
            self._closed_ms = now_ms
        return not self.is_open

    def wait_ends_ms(self) -> float:
        """When the wait is over at the latest. Raises ValueError while nothing is outstanding."""
        if self._outstanding is None:
            raise ValueError("nothing is outstanding")
        return self._outstanding.sent_ms + self.deadline_ms

    def has_missed(self, now_ms: float) -> bool:
        """Whether the deadline has passed without a reply."""
        return self.is_waiting and now_ms >= self.wait_ends_ms()

    def missed(self, now_ms: float) -> None:
        """No reply in time, or no reader: void the request and stop waiting."""
        if not self.is_open:
            if now_ms - self._closed_ms < CALM_MS:
                self._probe_period_ms = min(2 * self._probe_period_ms, LONGEST_PROBE_PERIOD_MS)
                self._next_probe_ms = now_ms + self._probe_period_ms
            else:
                self._probe_period_ms = PROBE_PERIOD_MS
        self._outstanding = None
        self.is_open = True

    def drafter_changed(self) -> None:
        """Nothing measured so far speaks of the new drafter: start over, with a closed breaker."""
        self._outstanding = None
        self._sent.clear()
        self._times.clear()
        self._probe_period_ms = PROBE_PERIOD_MS
        self._closed_ms = float("-inf")
        self.is_open = False

    def void(self) -> None:
        """Forget the outstanding request without judging the drafter."""
        self._outstanding = None
