"""Tokens a second with and without speculation, beside what E, T and the ring allow, through the real stack.

The twin is the target and the embedded draft drafts. Every term is of the measured streams themselves: what the
verifier tells of each request, and what the drafter's metrics say that a round took (`gain`). Prompts are in the
prefix cache; each is decoded once on each side in turn, and which side is first changes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
from redis import Redis

from bench.limits.figures import Figure, Floor, Section, Target
from bench.limits.gain import Pair, Served, parts, served
from bench.limits.models import DRAFT, FLOAT_BYTES, cached_twin
from bench.limits.placement import cores_of
from bench.limits.run import Run
from bench.limits.timing import median
from bench.local import CELL, SERVICES, LocalStack, local_stack
from bench.prompts import source_prompts
from bench.replay.counters import parse, total
from bench.twin import count_multiplied
from shared import signals
from shared.streams import connect
from shared.topics import Keys

TOKENS = 128
STREAMS, BATCH, BATCHES = 8, 8, 3
WARM = 2
SINGLE, BATCHED = Target(limit=1.15, at_least=True, goal=1.3), Target(limit=1.0, at_least=True)
REACHED = Target(limit=0.85, at_least=True)  # of single streams: a batch is over when its last stream is


def measure(run: Run) -> Section:
    """Single streams, then batches of BATCH."""
    twin, threads = cached_twin(), str(run.threads)
    prompts = source_prompts(STREAMS + WARM, seed=3)
    settings = {name: {"THREADS": threads} for name in ("verifier", "drafter")}
    streams, batches = (2, 1) if run.quick else (STREAMS, BATCHES)
    with local_stack(settings, target=str(twin), draft=str(DRAFT)) as stack:
        placement = described(stack, run.threads)
        for prompt in prompts:
            _ask(stack, 1, False, prompt)
        rounds(stack, [[prompt] for prompt in prompts[:WARM]])
        single = rounds(stack, [[prompt] for prompt in prompts[WARM:][:streams]])
        batch = prompts[WARM:][:BATCH]
        batched = rounds(stack, [batch] * (batches + 1))[1:]
    floor = _floor(run, twin)
    figures = [
        *_figures("one stream", single, floor, SINGLE, REACHED),
        *_figures(f"batch of {BATCH}", batched, floor, BATCHED, None),
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
    before, start = _drafted(stack), time.perf_counter()
    with ThreadPoolExecutor(len(prompts)) as pool:
        answers = list(pool.map(partial(_ask, stack, TOKENS, speculation), prompts))
    wall_ms = 1e3 * (time.perf_counter() - start)
    rounds, spent_ms = (now - then for now, then in zip(_drafted(stack), before, strict=True))
    with closing(connect(stack.redis_url)) as client:
        told = [(_tokens(answer), _stats(client, answer)) for answer in answers]
    return served(told, wall_ms=wall_ms, draft_ms=spent_ms / rounds if rounds else 0.0)


def _ask(stack: LocalStack, tokens: int, speculation: bool, prompt: str) -> dict[str, Any]:
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    return stack.complete({**body, "adaserve": {"speculation": {"enabled": speculation}}})


def _tokens(answer: Mapping[str, Any]) -> int:
    return int(answer["usage"]["completion_tokens"])


def _stats(client: Redis, answer: Mapping[str, Any]) -> dict[str, float]:
    """What the verifier has told of the request, where `adaserve why` finds it too."""
    packed: Any = client.hget(Keys(CELL).request(answer["id"].removeprefix("cmpl-")), "stats")
    told: dict[str, float] = msgpack.unpackb(packed)
    return told


def _drafted(stack: LocalStack) -> tuple[float, float]:
    """Rounds of the drafter so far, and ms that it has computed for them."""
    samples, name = parse(stack.metrics("drafter")), signals.STEP_TIME.exposed
    rounds = total(samples, f"{name}_count", part="draft")
    return rounds, 1e3 * total(samples, f"{name}_sum", part="draft")


def _floor(run: Run, twin: Path) -> Floor:
    """Of T(1): every weight read once."""
    multiplied = count_multiplied(twin)
    return Floor(name="weights read once", value=run.floors.forward_ms(FLOAT_BYTES * multiplied, 2.0 * multiplied))


def _figures(name: str, pairs: Sequence[Pair], floor: Floor, gain: Target, reached: Target | None) -> list[Figure]:
    plain_ms = median([pair.plain_ms for pair in pairs])
    drafted = [pair for pair in pairs if pair.on.speculative]

    def figure(what: str, unit: str, values: Sequence[float], target: Target | None = None) -> Figure:
        return Figure(name=f"{name}: {what}", unit=unit, value=median(values), target=target)

    return [
        Figure(name=f"{name}: T without trees", unit="ms", value=plain_ms, floor=floor),
        Figure(
            name=f"{name}: a step without trees",
            unit="ms",
            value=median([pair.off.period_ms for pair in pairs]),
            floor=Floor(name="its forward pass", value=plain_ms),
        ),
        figure("plain", "tok/s", [pair.off.tokens_per_s for pair in pairs]),
        figure("with speculation", "tok/s", [pair.on.tokens_per_s for pair in pairs]),
        figure("E, tokens of a speculative step", "", [pair.tree_tokens for pair in drafted]),
        figure(
            "B, nodes of its tree, of one stream", "", [pair.on.nodes / pair.on.speculative for pair in drafted]
        ),
        figure("T with trees", "ms", [pair.tree_ms for pair in drafted]),
        figure("T_draft", "ms", [pair.on.draft_ms for pair in drafted]),
        figure("ring", "ms", [pair.ring_ms for pair in drafted]),
        figure("gain predicted of those", "×", [pair.predicted for pair in drafted]),
        figure("gain", "×", [pair.measured for pair in pairs], gain),
        figure("gain / predicted", "×", [pair.reached for pair in drafted], reached),
    ]


def _notes(name: str, pairs: Sequence[Pair]) -> list[str]:
    notes = []
    for word, sides in (("with", [pair.on for pair in pairs]), ("without", [pair.off for pair in pairs])):
        spent = [parts(side) for side in sides]
        told = ", ".join(f"{part} {median([each[part] for each in spent]):.2f}" for part in spent[0])
        notes.append(f"{name}, ms of a step {word} speculation: {told}")
    steps, plain = sum(pair.on.steps for pair in pairs), sum((Counter(pair.on.plain) for pair in pairs), Counter())
    gains = sorted(pair.measured for pair in pairs)
    reasons = ", ".join(f"{why} {100 * count / steps:.0f} %" for why, count in plain.most_common()) or "none"
    notes.append(f"{name}: gains {gains[0]:.2f} to {gains[-1]:.2f}; steps without trees, by why: {reasons}")
    return notes
