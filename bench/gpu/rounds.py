"""A whole round of the drafter with a random model: trees for 16 requests, ready on the host."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.gpu.passes import WEIGHTS
from bench.gpu.run import NUM_REQUESTS, Run
from bench.limits.figures import Figure, Floor, Section, Target
from bench.limits.level import DEPTH, WIDTH, level_request
from bench.limits.timing import median, percentile, scaled
from services.drafter.drafter import Drafter

MOST, HOST_MS = 1.3, 1.0  # times the floor, and beside it


def draft(run: Run) -> Section:
    """Trees of DEPTH and WIDTH over contexts that the drafter has read: one forward pass for each level."""
    model, context = run.model, run.size.context
    drafter = Drafter(
        model.runner,
        model.pool,
        max_tokens=NUM_REQUESTS * WIDTH,
        catch_up=context + 1,
        warm_chunk=context,
        search=model.runner.beams if run.device.type == "cuda" else None,
    )
    contexts = np.random.default_rng(3).integers(0, model.runner.vocab_size, (NUM_REQUESTS, context + 1), np.int32)
    drafter.draft(level_request(contexts))
    again = level_request(contexts, base=context + 1)
    levels = drafter.draft(again).depth
    if levels != DEPTH:
        raise RuntimeError(f"the drafter has grown {levels} levels in place of {DEPTH}")
    spent = scaled(run.timed({"round": partial(drafter.draft, again)})["round"], 1e3)
    drafter.keep(())
    floor = Floor(name=f"{DEPTH} x {WEIGHTS}", value=DEPTH * run.floors.read_ms(model.weight_bytes))
    figure = Figure(
        name=f"round, {NUM_REQUESTS} requests, depth {DEPTH}, width {WIDTH}",
        unit="ms",
        value=median(spent),
        p99=percentile(spent, 99),
        floor=floor,
        target=Target(limit=MOST * floor.value + HOST_MS),
    )
    note = f"target: {MOST:g} x {floor.value:.2f} ms + {HOST_MS:g} ms; plans, top-k and trees are in the figure"
    return Section(name="draft", placement=run.placement, figures=[figure], notes=[note])
