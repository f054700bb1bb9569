"""Events a second of one gateway; its floor is the same gateway without checks, text and JSON, its peer a bare
SSE server that sends the same bytes (`bench.gateway_load`)."""

from __future__ import annotations

from collections.abc import Sequence

from bench.gateway_load.__main__ import GOAL, Round, load_options, rounds_of, stack_of
from bench.limits.figures import Figure, Floor, Section, Target
from bench.limits.placement import described
from bench.limits.run import Run
from bench.limits.timing import median, paired

ROUNDS, SECONDS = 3, 5
STREAMS, QUICK_STREAMS = 500, 100
NAMES = {"gateway": "gateway", "floor": "without checks, text and JSON", "echo": "bare SSE server"}


def measure(run: Run) -> Section:
    """By the wall clock, and by the server's own CPU time, which its neighbours change less."""
    streams = QUICK_STREAMS if run.quick else STREAMS
    options = load_options(
        ["--rounds", f"{1 if run.quick else ROUNDS}", "--seconds", f"{SECONDS}", "--streams", f"{streams}"]
    )
    with stack_of(options) as load:
        pids = {name: load.stack.processes[name].pid for name in ("gateway", "source")}
        placement = described({"redis": load.redis_pid, **pids})
        rounds = list(rounds_of(load))
    sides = {name: [each[name] for each in rounds] for name in rounds[0]}
    return Section(name="gateway", placement=placement, figures=_figures(sides), notes=_notes(streams))


def _figures(sides: dict[str, list[Round]]) -> list[Figure]:
    gateway, floor, echo = sides["gateway"], sides["floor"], sides["echo"]
    return [
        *(Figure(name=f"{NAMES[name]}: events", unit="1/s", value=_rate(side)) for name, side in sides.items()),
        Figure(
            name="gateway: CPU time of an event",
            unit="µs",
            value=_us(gateway),
            floor=Floor(name="neither checks nor text nor JSON", value=_us(floor)),
        ),
        Figure(name="bare SSE server: CPU time of an event", unit="µs", value=_us(echo)),
        Figure(
            name="gateway / bare SSE server, by the clock",
            unit="×",
            value=paired([one.per_s for one in gateway], [one.per_s for one in echo]),
        ),
        Figure(
            name="gateway / bare SSE server, by CPU time",
            unit="×",
            value=paired([one.us for one in echo], [one.us for one in gateway]),
            target=Target(limit=GOAL, at_least=True),
        ),
    ]


def _rate(side: Sequence[Round]) -> float:
    return median([one.per_s for one in side])


def _us(side: Sequence[Round]) -> float:
    return median([one.us for one in side])


def _notes(streams: int) -> list[str]:
    return [f"{streams} streams; Redis, token source and client share the cores with the gateway"]
