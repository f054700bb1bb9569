"""What the services tell while a draft drifts: their figures twice a second, and the verifier's mode."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from bench.fallback import mode_of
from bench.local import SERVICES, LocalStack
from bench.replay.counters import Samples, parse
from bench.replay.recording import ServerSample
from bench.replay.series import SWITCH, Readings

EVERY_S = 0.5
WINDOW_S = 3.0
DRIFTED = 0.5  # of what was expected is accepted: the draft is not what it says
LEAST_EXPECTED = 2.0  # tokens between two samples


@dataclass
class Watch:
    """Grows with every look; looks happen only while somebody waits."""

    stack: LocalStack
    start_s: float
    samples: list[ServerSample] = field(default_factory=list)
    reason: str = ""
    speculates: bool = False
    _readings: Readings = field(default_factory=Readings)
    _said: str = ""

    @classmethod
    @contextmanager
    def of(cls, stack: LocalStack, start_s: float) -> Iterator[Watch]:
        """With a look at the start and at the end."""
        watch = cls(stack, start_s)
        watch.look()
        yield watch
        watch.look()

    @property
    def now_s(self) -> float:
        return time.monotonic() - self.start_s

    def look(self) -> None:
        """One sample of all services; those that do not answer are left out of it."""
        found: dict[str, Samples] = {}
        for name in SERVICES:
            with contextlib.suppress(OSError):
                found[name] = parse(self.stack.metrics(name))
        values = self._readings.take(found)
        now = mode_of(self.stack)
        self.speculates = now["mode"] == "speculative"
        self.reason = "" if self.speculates else str(now["reason"])
        self._say(f"{now['mode']} {self.reason}".strip())
        self.samples.append(ServerSample(at_s=round(self.now_s, 3), values=values))

    def _say(self, words: str) -> None:
        if words != self._said:
            print(f"{self.now_s:6.1f} s  the verifier's mode is {words}", flush=True)
            self._said = words

    def until(self, holds: Callable[[], bool], most_s: float) -> float | None:
        """When it held, looking twice a second; None when it never did."""
        end_s = self.now_s + most_s
        while not holds():
            if self.now_s > end_s:
                return None
            time.sleep(EVERY_S)
            self.look()
        return self.now_s

    def pause(self, seconds: float) -> None:
        """Only looks."""
        self.until(lambda: False, seconds)

    @property
    def gains(self) -> float:
        """Accepted drafted tokens for each committed one, of the last seconds."""
        since_s = self.now_s - WINDOW_S
        before = next((one for one in reversed(self.samples) if one.at_s <= since_s), self.samples[0])
        accepted, committed = (
            self.samples[-1].values.get(name, 0.0) - before.values.get(name, 0.0)
            for name in ("accepted", "committed")
        )
        return accepted / committed if committed else 0.0

    @property
    def switches(self) -> int:
        last = self.samples[-1].values
        return round(sum(value for name, value in last.items() if name.startswith(SWITCH)))

    def drift_after(self, since_s: float) -> float | None:
        """When accepted tokens first fell below half of the expected ones."""
        return drift_after(self.samples, since_s)


def drift_after(samples: Sequence[ServerSample], since_s: float) -> float | None:
    """The first sample since then, before which less than half of the expected tokens were accepted."""
    for before, after in pairwise(samples):
        expected, realised = (
            after.values.get(name, 0.0) - before.values.get(name, 0.0) for name in ("expected", "realised")
        )
        if before.at_s >= since_s and expected >= LEAST_EXPECTED and realised < DRIFTED * expected:
            return after.at_s
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Times in seconds since the start, None for what did not happen. ``alerts``: each one's time, by name; None
    where nobody could evaluate them."""

    swapped_s: float
    stopped_s: float | None
    reason: str
    healed_s: float
    back_s: float | None
    answers: int
    different: int
    switches: int
    drift_s: float | None
    alerts: dict[str, float | None] | None

    @property
    def holds(self) -> bool:
        """Whether it stopped, was told of where somebody could, came back, and no answer differed."""
        is_told = self.alerts is None or any(at_s is not None for at_s in self.alerts.values())
        return self.stopped_s is not None and is_told and self.back_s is not None and self.different == 0

    def lines(self) -> list[str]:
        """For people."""
        told = [
            f"seen in the metrics, accepted below half of expected: {_after(self.drift_s, self.swapped_s)}",
            f"speculation stopped by itself: {_after(self.stopped_s, self.swapped_s)}, {self.reason or '–'}",
            f"speculating, and gaining half of what it did: {_after(self.back_s, self.healed_s)} of healing",
            f"{self.switches} switches in all",
            f"{self.answers} answers, {self.different} other than those of plain decoding, goal 0",
        ]
        if self.alerts is None:
            return [*told, "alerts: not evaluated (no prometheus on the PATH, or no rules)"]
        return told + [f"alert {name}: {_after(at_s, self.swapped_s)}" for name, at_s in self.alerts.items()]


def _after(at_s: float | None, since_s: float) -> str:
    return "never" if at_s is None else f"after {at_s - since_s:.1f} s"
