"""The loads: the Azure traces with targets, and a made one for where they are not at hand. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.trace_files import read_trace
from bench.traces import Trace, TraceRequest, sorted_trace

CONVERSATION, CODE = "azure_conv.csv.gz", "azure_code.csv.gz"
NIGHT = 0.15  # of the noon's rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What requests of a category are promised; Azure's traces know of no promise."""

    tpot_ms: float
    ttft_ms: float

    def of(self, request: TraceRequest) -> TraceRequest:
        """The request with them."""
        return replace(request, tpot_ms=self.tpot_ms, ttft_ms=self.ttft_ms)


CHAT = Targets(tpot_ms=50.0, ttft_ms=2000.0)
COMPLETION = Targets(tpot_ms=100.0, ttft_ms=2000.0)  # 28 tokens on average: some steps beside prompts weigh much


def conversation(folder: Path) -> Trace:
    """An hour of 19,366 requests: 1,155 prompt and 211 output tokens on average, 3 to 8 a second."""
    trace = read_trace(folder / CONVERSATION, category="chat")
    return replace(trace, name="conversation", requests=tuple(map(CHAT.of, trace.requests)))


def both(folder: Path) -> Trace:
    """With the 8,819 requests of code completion beside it, which come in bursts of one or two minutes."""
    code = read_trace(folder / CODE, category="code")
    return sorted_trace("both", [*conversation(folder).requests, *map(COMPLETION.of, code.requests)])


def day(folder: Path, hours: float = 3.0) -> Trace:
    """Twice the conversations, at the rhythm of a day that is pressed into ``hours``: 0.9 to 6 a second."""
    trace = conversation(folder)
    seconds = 1e-3 * trace.duration_ms
    later = [
        replace(one, arrival_ms=(one.arrival_ms + trace.duration_ms / 2.0) % trace.duration_ms)
        for one in trace.requests
    ]
    laid = [
        replace(request, arrival_ms=3.6e6 * hours * _clock(1e-3 * request.arrival_ms / seconds))
        for request in (*trace.requests, *later)
    ]
    return sorted_trace("day", laid)


def made(seconds: float, peak_rate: float, seed: int) -> Trace:
    """Requests of the conversations' lengths that come at a day's rhythm, at most ``peak_rate`` a second."""
    chance = random.Random(seed)
    count = round(seconds * peak_rate * (1.0 + NIGHT) / 2.0)
    requests = [
        CHAT.of(
            TraceRequest(
                arrival_ms=1e3 * seconds * _clock(chance.random()),
                category="chat",
                prompt_tokens=max(1, min(4000, round(chance.lognormvariate(math.log(900.0), 0.8)))),
                output_tokens=max(1, min(1000, round(chance.expovariate(1.0 / 211.0)))),
            )
        )
        for _ in range(count)
    ]
    return sorted_trace("made", requests)


def _clock(share: float) -> float:
    """When, as a share of the day, this share of its requests has come; the rate is a cosine from NIGHT to 1."""
    mean, swing = (1.0 + NIGHT) / 2.0, (1.0 - NIGHT) / 2.0
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2.0
        come = middle - swing / mean * math.sin(2.0 * math.pi * middle) / (2.0 * math.pi)
        low, high = (middle, high) if come < share else (low, middle)
    return (low + high) / 2.0


LOADS: Mapping[str, Callable[[Path], Trace]] = {"conversation": conversation, "day": day, "both": both}
SIZES: Mapping[str, tuple[int, ...]] = {  # fixed ones that are of interest, from too few on
    "conversation": (2, 3, 4, 5),
    "day": (1, 2, 3, 4),
    "both": (4, 6, 8, 12),
    "made": (2, 3, 4, 6),
    "own": (1, 2, 3, 4),
}
