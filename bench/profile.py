"""How long the forward passes of target and draft take on this machine, and how well T(n, S, rows) describes them.

    python -m bench.profile [--target DIR] [--draft DIR] [--device cuda] [--dtype bfloat16] [--threads 4] [--json]

The model is fitted to one sweep, as the verifier does at start, and compared with a second one. `adaserve profile`
is this command.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from rich.console import Console
from rich.table import Table

from bench.levels import Level, measure_levels
from bench.local import DRAFT, TARGET
from shared.errors import ModelError
from shared.inference.blocks import BlockPool
from shared.inference.kv import slots_for_memory
from shared.inference.loading import DTYPES, load_model
from shared.inference.placing import CPU_KV_MB
from shared.inference.profile import CONTEXT, sweep
from shared.inference.runner import ModelRunner
from shared.latency import LatencyModel
from shared.latency_fit import Sample, fit
from shared.settings import EXIT_CONFIGURATION

DRAFT_WIDTH = 3


@dataclass(frozen=True, slots=True)
class Profile:
    """One model's fit and the passes of the second sweep."""

    role: str
    path: str
    model: LatencyModel
    passes: list[Sample]
    levels: list[Level]

    def predicted_ms(self, measured: Sample) -> float:
        """T of a measured pass."""
        return self.model.predict_ms(measured.tokens, context_tokens=measured.context_tokens, rows=measured.rows)

    @property
    def median_error(self) -> float:
        """Of predictions, relative to what was measured."""
        return statistics.median(abs(self.predicted_ms(each) / each.ms - 1) for each in self.passes)


def profile(role: str, path: str, options: argparse.Namespace) -> Profile:
    """Load and measure one model. Raises ModelError."""
    model = load_model(path, device=options.device, dtype=options.dtype)
    num_slots = slots_for_memory(model.config, DTYPES[options.dtype], CPU_KV_MB << 20)
    pool = BlockPool(num_slots // 16)
    runner = ModelRunner(model, pool.num_blocks * pool.block_size)
    # Each as its service uses it: the verifier wants all logits, the drafter only the best few.
    forward = runner.logits if role == "target" else partial(runner.top, width=DRAFT_WIDTH)
    limit = min(runner.context_limit, pool.num_blocks * pool.block_size)
    fitted, passes = (sweep(forward, pool, context_limit=limit, clock=time.perf_counter) for _ in range(2))
    levels = measure_levels(runner, pool, context=min(CONTEXT, limit // 2)) if role == "draft" else []
    return Profile(role, path, fit(fitted), passes, levels)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 2 when a model cannot be loaded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--draft", default=DRAFT)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=sorted(DTYPES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        profiles = [profile(role, getattr(options, role), options) for role in ("target", "draft")]
    except ModelError as error:
        print(f"adaserve: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    if options.json:
        print(json.dumps([as_json(each) for each in profiles]))
    else:
        for each in profiles:
            show(each, Console())
    return 0


def as_json(each: Profile) -> dict[str, object]:
    """Everything measured and fitted."""
    return {
        "role": each.role,
        "path": each.path,
        "fitted": asdict(each.model),
        "version": each.model.version,
        "budget": each.model.budget(),
        "median_error": each.median_error,
        "passes": [
            {**each_pass._asdict(), "predicted_ms": each.predicted_ms(each_pass)} for each_pass in each.passes
        ],
        "levels": [asdict(level) for level in each.levels],
    }


def show(each: Profile, console: Console) -> None:
    """Tables for people."""
    table = Table("new tokens", "context tokens", "rows", "measured ms", "predicted ms", "error", title=each.path)
    for measured in each.passes:
        predicted = each.predicted_ms(measured)
        figures = (f"{measured.ms:.2f}", f"{predicted:.2f}", f"{predicted / measured.ms - 1:+.0%}")
        table.add_row(*map(str, measured[:3]), *figures)
    console.print(table)
    console.print(
        f"{each.role}: {each.model.context_ms:.3f} ms per 1000 context tokens, {each.model.row_ms:.3f} per row, "
        f"T(B) <= 2.5 T(1) up to B = {each.model.budget()}; median error {each.median_error:.1%}"
    )
    if each.levels:
        levels = Table("rows", "width", "ms per level", title="one more level of trees")
        for level in each.levels:
            levels.add_row(str(level.rows), str(level.width), f"{level.level_ms:.2f}")
        console.print(levels)


if __name__ == "__main__":
    sys.exit(main())
