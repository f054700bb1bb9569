"""The machine itself: the floors of all other sections."""

from __future__ import annotations

from bench.limits.figures import Figure, Section
from bench.limits.placement import described
from bench.limits.run import Run
from bench.limits.timing import median, percentile


def measure(run: Run) -> Section:
    """Memory, arithmetic, and a round trip to Redis."""
    floors, pings = run.floors, run.ping_us()
    return Section(
        name="machine",
        placement=described({"redis": run.redis.pid}),
        figures=[
            Figure(name="memory read", unit="GB/s", value=floors.read_gb_s),
            Figure(name="memory copied", unit="GB/s", value=floors.copy_gb_s),
            Figure(name="float32 products", unit="GFLOP/s", value=floors.gflop_s),
            Figure(name="PING over a unix socket", unit="µs", value=median(pings), p99=percentile(pings, 99)),
        ],
    )
