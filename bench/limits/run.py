"""What the sections of one run share: floors measured once, a Redis of their own, how long to measure."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cached_property
from types import TracebackType

from bench.limits.floors import Floors, measure_floors
from bench.limits.timing import median
from bench.limits.wire import Wire
from shared.embedded_redis import EmbeddedRedis
from shared.inference.threads import use_threads

QUICK_PART = 8
NUM_PINGS = 2000


class Run:
    """Use as a context: what was started is stopped at its end. ``requests`` are served by the memory section."""

    def __init__(self, *, quick: bool, requests: int, threads: int = 1) -> None:
        self.quick = quick
        self.requests = requests // QUICK_PART if quick else requests
        self.threads = threads
        self._started = ExitStack()

    def __enter__(self) -> Run:
        use_threads(self.threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._started.close()

    def rounds(self, count: int) -> int:
        """Fewer in a quick run, but some."""
        return max(5, count // QUICK_PART) if self.quick else count

    @cached_property
    def floors(self) -> Floors:
        """Of this machine, with this process' threads."""
        return measure_floors()

    @cached_property
    def redis(self) -> EmbeddedRedis:
        """Stores nothing; on a unix socket."""
        return self._started.enter_context(EmbeddedRedis())

    def ping_us(self) -> list[float]:
        """Bare PINGs of that Redis, now."""
        wire = Wire(self.redis.url)
        try:
            return wire.ping_us(self.rounds(NUM_PINGS))
        finally:
            wire.close()

    def typical_ping_us(self) -> float:
        """Their median."""
        return median(self.ping_us())
