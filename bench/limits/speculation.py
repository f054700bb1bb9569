"""Tokens a second with and without speculation, beside what E, T and the ring allow, through the real stack.

The twin is the target and the embedded draft drafts; every term is taken from the services' own metrics while the
measured streams run (`gain`). Prompts are in the prefix cache, and each is decoded once on each side in turn, the
side that is first changing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.breaker import tokens_per_second
from bench.limits.figures import Figure, Floor, Section, Target
from bench.limits.gain import Pair, Served, served
from bench.limits.models import DRAFT, FLOAT_BYTES, cached_twin
from bench.limits.placement import cores_of
from bench.limits.run import Run
from bench.limits.timing import median
from bench.local import SERVICES, LocalStack, local_stack
from bench.prompts import source_prompts
from bench.replay.counters import parse
from bench.twin import count_multiplied

TOKENS = 128
STREAMS, BATCH, BATCHES = 8, 8, 3
WARM = 2
SETTLE_S = 0.1  # the last step is counted after its tokens have left
COUNTED = ("verifier", "drafter", "selector")
SINGLE, REACHED = Target(limit=1.15, at_least=True, goal=1.3), Target(limit=0.85, at_least=True)
BATCHED = Target(limit=1.0, at_least=True)


def measure(run: Run) -> Section:
    """Single streams, then batches of BATCH."""
    twin, threads = cached_twin(), str(run.threads)
    prompts = source_prompts(STREAMS + WARM, seed=3)
    settings = {name: {"THREADS": threads} for name in ("verifier", "drafter")}
    count = run.rounds(STREAMS), run.rounds(BATCHES)
    with local_stack(settings, target=str(twin), draft=str(DRAFT)) as stack:
        placement = described(stack, run.threads)
        for prompt in prompts:
            tokens_per_second(stack, [prompt], 1, speculation=False)
        rounds(stack, [[prompt] for prompt in prompts[:WARM]])
        single = rounds(stack, [[prompt] for prompt in prompts[WARM:][: count[0]]])
        batch = prompts[WARM:][:BATCH]
        batched = rounds(stack, [batch] * (count[1] + 1))[1:]
    floor = _floor(run, twin)
    figures = [
        *_figures("one stream", single, floor, SINGLE),
        *_figures(f"batch of {BATCH}", batched, floor, BATCHED),
    ]
    notes = [*_notes("one stream", single), *_notes(f"batch of {BATCH}", batched)]
    return Section(name="speculation", placement=placement, figures=figures, notes=notes)


def described(stack: LocalStack, threads: int) -> str:
    """Threads and cores of the services."""
    cores = ", ".join(f"{name} {cores_of(stack.processes[name].pid)}" for name in SERVICES)
    return f"verifier and drafter: {threads} thread(s); cores: {cores}"


def rounds(stack: LocalStack, groups: Sequence[Sequence[str]]) -> list[Pair]:
    """Each group of prompts at once, with speculation and without."""
    pairs = []
    for number, prompts in enumerate(groups):
        order = (True, False) if number % 2 == 0 else (False, True)
        sides = {speculation: _side(stack, prompts, speculation=speculation) for speculation in order}
        pairs.append(Pair(on=sides[True], off=sides[False]))
    return pairs


def _side(stack: LocalStack, prompts: Sequence[str], *, speculation: bool) -> Served:
    before, start = _counted(stack), time.perf_counter()
    tokens_per_second(stack, prompts, TOKENS, speculation=speculation)
    wall_ms = 1e3 * (time.perf_counter() - start)
    time.sleep(SETTLE_S)
    return served(_counted(stack), wall_ms=wall_ms) - served(before, wall_ms=0.0)


def _counted(stack: LocalStack) -> Mapping[str, dict[tuple[str, frozenset[tuple[str, str]]], float]]:
    return {name: dict(parse(stack.metrics(name))) for name in COUNTED}


def _floor(run: Run, twin: Path) -> Floor:
    """Of T(1): every weight read once."""
    multiplied = count_multiplied(twin)
    return Floor(name="weights read once", value=run.floors.forward_ms(FLOAT_BYTES * multiplied, 2.0 * multiplied))


def _figures(name: str, pairs: Sequence[Pair], floor: Floor, gain: Target) -> list[Figure]:
    plain_ms = median([pair.plain_ms for pair in pairs])

    def figure(what: str, unit: str, values: Sequence[float], target: Target | None = None) -> Figure:
        return Figure(name=f"{name}: {what}", unit=unit, value=median(values), target=target)

    return [
        Figure(name=f"{name}: T without trees", unit="ms", value=plain_ms, floor=floor),
        Figure(
            name=f"{name}: a step without trees",
            unit="ms",
            value=median([pair.off.wall_ms / pair.off.steps for pair in pairs]),
            floor=Floor(name="its forward pass", value=plain_ms),
        ),
        figure("plain", "tok/s", [1e3 * pair.off.tokens / pair.off.wall_ms for pair in pairs]),
        figure("with speculation", "tok/s", [1e3 * pair.on.tokens / pair.on.wall_ms for pair in pairs]),
        figure("E, tokens of a speculative step", "", [pair.tree_tokens for pair in pairs]),
        figure("T with trees", "ms", [pair.tree_ms for pair in pairs]),
        figure("T_draft", "ms", [pair.draft_ms for pair in pairs]),
        figure("ring", "ms", [pair.ring_ms for pair in pairs]),
        figure("gain predicted of those", "×", [pair.predicted for pair in pairs]),
        figure("gain", "×", [pair.measured for pair in pairs], gain),
        figure("gain / predicted", "×", [pair.reached for pair in pairs], REACHED),
    ]


def _notes(name: str, pairs: Sequence[Pair]) -> list[str]:
    notes = []
    for side in ("on", "off"):
        parts = [pair.parts()[side] for pair in pairs]
        spent = ", ".join(f"{part} {median([each[part] for each in parts]):.2f}" for part in parts[0])
        notes.append(f"{name}, speculation {side}: ms of a step: {spent}")
    plain = median([pair.on.plain / pair.on.steps for pair in pairs])
    gains = sorted(pair.measured for pair in pairs)
    missed = sum(pair.on.missed for pair in pairs)
    commit_ms = median([pair.on.commit_ms / pair.on.steps for pair in pairs])
    notes.append(
        f"{name}: gains {gains[0]:.2f} to {gains[-1]:.2f}; {100 * plain:.0f} % of the steps with speculation "
        f"had no trees, {missed:.0f} deadlines missed in all; commits of {commit_ms:.2f} ms are in the ring"
    )
    return notes
