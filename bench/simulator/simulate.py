"""One run: a trace on a machine under a system, with one seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.simulator.acceptance import Distortion, draw_text
from bench.simulator.drafter import SimDrafter
from bench.simulator.hardware import Hardware
from bench.simulator.request import SimRequest
from bench.simulator.systems import SystemSpec
from bench.simulator.world import Spent, World
from bench.traces import Trace

CAPPED_SHARE = 0.55
SHORTEST = 50
LONGEST_DEPTH = 16
DISTORTION = Distortion(scale=0.9, noise=0.4)
MAX_TURNS = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one seed gave. Times in ms."""

    requests: tuple[SimRequest, ...]
    spent: Spent
    duration_ms: float


def simulate(
    trace: Trace, hardware: Hardware, spec: SystemSpec, seed: int, *, distortion: Distortion = DISTORTION
) -> Run:
    """Until every request has ended. Deterministic in its arguments; text and lengths depend on the seed alone."""
    caps = np.array([request.output_tokens for request in trace.requests])
    lengths = output_lengths(caps, seed)
    text = draw_text(hardware, len(caps), int(caps.max()) + LONGEST_DEPTH, distortion, seed)
    target = spec.target_of(hardware)
    world = World(
        hardware, target, max_running=spec.max_running(hardware), prefill_chunk=spec.prefill_chunk
    )
    requests = [
        SimRequest(
            index=index,
            category=request.category,
            arrival_ms=request.arrival_ms,
            num_prompt=request.prompt_tokens,
            length=int(lengths[index]),
            max_tokens=request.output_tokens,
            target_ms=request.target_ms(hardware.zero_load_ms),
            slots=world.new_slots(),
        )
        for index, request in enumerate(trace.requests)
    ]
    world.expect(requests)
    system = spec.build(hardware, SimDrafter(text))
    for _ in range(MAX_TURNS):
        world.admit()
        if world.is_over:
            return Run(requests=tuple(requests), spent=world.spent, duration_ms=world.now_ms)
        system.turn(world)
    raise RuntimeError(f"{spec.name} did not finish {trace.name} in {MAX_TURNS} turns")


def output_lengths(caps: np.ndarray, seed: int) -> np.ndarray:
    """Real lengths: a cap is reached by CAPPED_SHARE of the requests, the others end anywhere from SHORTEST on."""
    chance = np.random.default_rng([seed, 2])
    is_capped = chance.random(len(caps)) < CAPPED_SHARE
    shortest = np.minimum(SHORTEST, caps)
    return np.where(is_capped, caps, chance.integers(shortest, caps + 1))


def attainment(run: Run) -> float:
    met = [((r.last_token_ms - r.first_token_ms) / (r.num_output - 1) <= r.target_ms) for r in run.requests]
    return 100 * float(np.mean(met))


def by_category(run: Run) -> Mapping[str, float]:
    return {
        c: round(100 * float(np.mean([((r.last_token_ms - r.first_token_ms) / (r.num_output - 1) <= r.target_ms) for r in run.requests if r.category == c])), 1)
        for c in sorted({r.category for r in run.requests})
    }
