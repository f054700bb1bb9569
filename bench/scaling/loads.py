"""The loads: the Azure traces with targets, and a made one for where they are not at hand. Pure.

Thresholds are chosen on the FIRST half of a trace and judged by the SECOND, which nothing was chosen on.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bench.trace_files import read_trace
from bench.traces import Trace, TraceRequest, sorted_trace

CONVERSATION, CODE = "azure_conv.csv.gz", "azure_code.csv.gz"
NIGHT = 0.15  # of the noon's rate
DAY_COPIES = 3  # of half an hour: 0.7 to 4.7 requests a second in three hours
MINUTE_MS = 60e3
SHIFT_MS = 5e3  # either way, of an arrival under another seed
Half = Literal["first", "second"]


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


def half_of(trace: Trace, half: Half) -> Trace:
    """What arrives in this half of the trace's time, from 0 on. Raises ValueError where that is nothing."""
    middle_ms = trace.duration_ms / 2.0
    if half == "first":
        return replace(trace, requests=tuple(one for one in trace.requests if one.arrival_ms < middle_ms))
    later = (one for one in trace.requests if one.arrival_ms >= middle_ms)
    return replace(trace, requests=tuple(replace(one, arrival_ms=one.arrival_ms - middle_ms) for one in later))


def varied(trace: Trace, seed: int) -> Trace:
    """Such a load as might have been recorded as well; seed 1 leaves it as it is.

    Each arrival is up to SHIFT_MS earlier or later, and has the lengths of one of the minute's requests of its
    category, drawn with replacement: rhythm and bursts stay, what comes in them does not.
    """
    if seed == 1:
        return trace
    chance = random.Random(seed)
    minutes: dict[tuple[int, str], list[TraceRequest]] = defaultdict(list)
    for request in trace.requests:
        minutes[_minute(request)].append(request)
    drawn = [
        replace(
            chance.choice(minutes[_minute(request)]),
            arrival_ms=max(0.0, request.arrival_ms + chance.uniform(-SHIFT_MS, SHIFT_MS)),
        )
        for request in trace.requests
    ]
    return sorted_trace(trace.name, drawn)


def _minute(request: TraceRequest) -> tuple[int, str]:
    return int(request.arrival_ms // MINUTE_MS), request.category


def day(trace: Trace, hours: float = 3.0) -> Trace:
    """DAY_COPIES times the trace, each begun elsewhere, at the rhythm of a day that is pressed into ``hours``."""
    total_ms = trace.duration_ms
    laid = [
        replace(one, arrival_ms=3.6e6 * hours * _clock((one.arrival_ms / total_ms + copy / DAY_COPIES) % 1.0))
        for copy in range(DAY_COPIES)
        for one in trace.requests
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


def _conversation(folder: Path, half: Half) -> Trace:
    return half_of(conversation(folder), half)


def _day(folder: Path, half: Half) -> Trace:
    return day(half_of(conversation(folder), half))


def _both(folder: Path, half: Half) -> Trace:
    return half_of(both(folder), half)


LOADS: Mapping[str, Callable[[Path, Half], Trace]] = {"conversation": _conversation, "day": _day, "both": _both}
SIZES: Mapping[str, tuple[int, ...]] = {  # fixed ones that are of interest
    "conversation": (3, 4, 5),
    "day": (2, 3, 4),
    "both": (6, 8, 12),
    "made": (2, 3, 4, 6),
    "own": (1, 2, 3, 4),
}
