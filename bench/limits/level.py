"""One level of the drafter, plan, forward, top-k and expansion, against stock's forward of as many tokens."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bench.draft_requests import draft_request
from bench.limits.batches import Work, chain_work, stock_forward
from bench.limits.figures import Figure, Floor, Section, Target
from bench.limits.models import DRAFT, sides
from bench.limits.placement import described
from bench.limits.run import Run
from bench.limits.timing import in_rounds, median, paired, percentile, without_collection
from services.drafter.drafter import Drafter
from shared.messages import DraftRequest

NUM_REQUESTS = 16
WIDTH, DEPTH = 3, 4
CONTEXT = 128
ROUNDS = 60
LEVEL = Target(limit=1.5)


class Laps:
    """A clock that remembers when it was read: the drafter reads it where a level begins and ends."""

    def __init__(self) -> None:
        self.readings: list[float] = []

    def __call__(self) -> float:
        self.readings.append(time.perf_counter())
        return self.readings[-1]

    def levels(self) -> list[float]:
        """Seconds of each level since the last call."""
        taken, self.readings = self.readings, []
        return [end - begin for begin, end in zip(taken[::2], taken[1::2], strict=True)]


def measure(run: Run) -> Section:
    """The embedded draft, 16 requests of 128 tokens, trees of width 3: 48 tokens a level."""
    both, laps = sides(DRAFT, 512), Laps()
    drafter = Drafter(both.runner, both.pool, max_tokens=512, catch_up=CONTEXT + 64, warm_chunk=256, clock=laps)
    contexts = np.random.default_rng(3).integers(0, both.runner.vocab_size, (NUM_REQUESTS, CONTEXT + 1), np.int32)
    drafter.draft(level_request(contexts))
    laps.levels()

    num_tokens = NUM_REQUESTS * WIDTH
    one = stock_forward(both, [chain_work(num_tokens, CONTEXT)])
    rows = stock_forward(both, [_level_of(context) for context in contexts])
    ours, stock, batched = [], [], []
    with without_collection():
        for number in range(3 + run.rounds(ROUNDS)):
            drafter.draft(level_request(contexts, base=CONTEXT + 1))
            levels = laps.levels()
            times = in_rounds({"one": one, "rows": rows}, 1, warm=0)
            if number >= 3:
                ours.append(median(levels))
                stock.append(times["one"][0])
                batched.append(times["rows"][0])
    floor = Floor(
        name="weights read, or multiplied by the tokens",
        value=run.floors.forward_ms(both.weight_bytes, both.flops(num_tokens)),
    )
    figures = [
        _time("ours, 16 requests x 3 nodes", ours, floor),
        _time("stock forward, 48 tokens over one context", stock, floor),
        _time("stock forward, 16 x 3 tokens over their contexts", batched, floor),
        Figure(name="ours / stock of 48 tokens", unit="×", value=paired(ours, stock), target=LEVEL),
        Figure(name="ours / stock of 16 x 3 tokens", unit="×", value=paired(ours, batched)),
    ]
    note = "ours includes plan, top-k and expansion; stock is the forward alone, its mask and positions ready"
    return Section(name="level", placement=described(), figures=figures, notes=[note])


def level_request(contexts: np.ndarray, base: int = 0, **others: Any) -> DraftRequest:
    """Trees of DEPTH and WIDTH for ``contexts`` [rows, tokens], known up to ``base``; see `draft_request`."""
    rows = len(contexts)
    return draft_request(
        contexts.tolist(), known=[base] * rows, committed=[1] * rows, depth=DEPTH, width=WIDTH, **others
    )


def _level_of(context: np.ndarray) -> Work:
    """Three siblings below a context."""
    return Work(context, context[:WIDTH], np.full(WIDTH, -1, np.int32), wants_all=True)


def _time(name: str, seconds: list[float], floor: Floor) -> Figure:
    spent = [1e3 * value for value in seconds]
    return Figure(name=name, unit="ms", value=median(spent), p99=percentile(spent, 99), floor=floor)
