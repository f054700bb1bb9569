"""Moving accepted nodes' KV to the end of their contexts; the floor is copying as many bytes in one piece."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench.limits.figures import Figure, Floor, Section
from bench.limits.models import TARGET, cached_twin
from bench.limits.placement import described
from bench.limits.run import Run
from bench.limits.timing import Call, in_rounds, median, percentile, scaled
from shared.inference.kv import KVCache
from shared.inference.loading import load_model

NUM_REQUESTS = 16
ACCEPTED = 3  # nodes of a request; the first is where it belongs already
SPACING = 256  # slots between requests
ROUNDS = 300


def measure(run: Run) -> Section:
    """The twin and the embedded target."""
    figures = []
    for name, directory in (("twin", cached_twin()), ("embedded", TARGET)):
        figures += _moves(run, name, directory)
    return Section(name="compaction", placement=described(), figures=figures)


def _moves(run: Run, name: str, directory: Path) -> list[Figure]:
    config = load_model(str(directory), device="cpu", dtype="float32").config
    cache = KVCache(config, NUM_REQUESTS * SPACING, torch.float32, torch.device("cpu"))
    cache.data.uniform_()
    starts = np.arange(NUM_REQUESTS)[:, None] * SPACING + 128
    destination = (starts + np.arange(ACCEPTED)).ravel().astype(np.int32)
    source = (starts + 4 * np.arange(ACCEPTED)).ravel().astype(np.int32)
    moved = int((source != destination).sum())
    num_bytes = moved * cache.data[:, :, 0].numel() * cache.data.itemsize
    piece = torch.zeros(num_bytes, dtype=torch.uint8)
    into = torch.zeros_like(piece)
    calls: dict[str, Call] = {"move": partial(cache.move, source, destination), "copy": partial(into.copy_, piece)}
    times = in_rounds(calls, run.rounds(ROUNDS))
    spent = scaled(times["move"], 1e6)
    floor = Floor(name=f"copy of {num_bytes / 1e6:.2f} MB", value=median(times["copy"]) * 1e6)
    return [
        Figure(
            name=f"{name}, {moved} tokens",
            unit="µs",
            value=median(spent),
            p99=percentile(spent, 99),
            floor=floor,
        )
    ]
