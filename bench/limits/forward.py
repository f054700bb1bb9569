"""The packed forward pass against stock transformers with padding, on the same work in the same rounds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.limits.batches import Work, chain_work, largest_difference, mixed_works, packed, stock_forward
from bench.limits.figures import Figure, Floor, Section, Target
from bench.limits.models import TARGET, Sides, cached_twin, sides
from bench.limits.placement import described
from bench.limits.run import Run
from bench.limits.timing import in_rounds, median, paired, percentile

# 14 requests that verify and 2 that read prompts: some 190 tokens, as many as FACTS of this project once measured
TREES = (3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 13, 15, 16)
CHUNKS = (24, 24)
ROUNDS = 24
BLOCKS = 320
PACKED, ALONE = Target(limit=1.8, at_least=True), Target(limit=1.1)
SAME = 1e-2  # of a logit: float32 sums in another order


def measure(run: Run) -> Section:
    """The twin and the embedded target. Raises SystemExit where the two sides' logits differ."""
    figures, notes = [], []
    for name, directory in (("twin", cached_twin()), ("embedded", TARGET)):
        both = sides(directory, BLOCKS)
        batch = mixed_works(trees=TREES, chunks=CHUNKS)
        cases: Sequence[tuple[str, list[Work]]] = (
            ("16 requests", batch),
            ("1 request, 1 token", [chain_work(1)]),
            ("1 request, 8 tokens", [chain_work(8)]),
        )
        for case, works in cases:
            more, note = _case(run, both, f"{name}, {case}", works)
            figures += more
            notes.append(note)
    return Section(name="forward", placement=described(), figures=figures, notes=notes)


def _case(run: Run, both: Sides, name: str, works: list[Work]) -> tuple[list[Figure], str]:
    plan, stock = packed(both, works), stock_forward(both, works)
    difference = largest_difference(works, both.runner.logits(plan), stock())
    if not difference < SAME:
        raise SystemExit(f"{name}: logits differ from stock's by {difference}")
    own = partial(both.runner.logits, plan)
    times = in_rounds({"own": own, "stock": stock}, run.rounds(ROUNDS))
    floor = Floor(
        name="weights read, or multiplied by the tokens",
        value=run.floors.forward_ms(both.weight_bytes, both.flops(plan.num_tokens)),
    )
    is_batch = len(works) > 1
    ratio = paired(times["stock"], times["own"]) if is_batch else paired(times["own"], times["stock"])
    figures = [
        _time(f"{name}: ours", times["own"], floor),
        _time(f"{name}: stock", times["stock"], floor),
        Figure(
            name=f"{name}: {'stock / ours' if is_batch else 'ours / stock'}",
            unit="×",
            value=ratio,
            target=PACKED if is_batch else ALONE if len(works[0].tokens) == 1 else None,
        ),
    ]
    fed = sum(len(work.tokens) for work in works)
    rectangle = len(works) * max(len(work.tokens) for work in works)
    return figures, f"{name}: {fed} tokens, padded {rectangle}; largest difference of a logit {difference:.1e}"


def _time(name: str, seconds: Sequence[float], floor: Floor) -> Figure:
    spent = [1e3 * value for value in seconds]
    return Figure(name=name, unit="ms", value=median(spent), p99=percentile(spent, 99), floor=floor)
