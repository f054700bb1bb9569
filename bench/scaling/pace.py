"""How fast a verifier decodes, by the number of its decoding requests: learned from the real simulator.

The real selection takes a millisecond of our time for each step, too long for hours of a fleet. So it runs over a
short piece of the trace at rising loads, and what it did with so many requests at once is kept: nodes verified and
tokens accepted a request, and the drafter's time. docs/autoscaling.md says how far that is from the real one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bench.simulator.acceptance import draw_text
from bench.simulator.drafter import SimDrafter
from bench.simulator.hardware import Hardware
from bench.simulator.request import SimRequest
from bench.simulator.simulate import DEEPEST, sim_requests
from bench.simulator.systems import SystemSpec
from bench.simulator.world import Chunks, World
from bench.traces import Trace

EDGES = (1, 2, 3, 5, 8, 12, 16, 24, 32, 48, 65)
LEAST_STEPS = 8  # in a bin, to count


@dataclass(frozen=True, slots=True)
class Step:
    """What a verifier does with so many decoding requests, on average."""

    nodes: float  # verified for each request
    accepted: float  # of each request's
    draft_ms: float  # the drafter is busy
    granted: float  # prompt tokens beside them, where there were any to feed


@dataclass(frozen=True, slots=True, eq=False)
class Pace:
    """Columns over the mean ``rows`` of each bin, rising."""

    rows: npt.NDArray[np.float64]
    columns: npt.NDArray[np.float64]  # [bins, fields of Step]
    _known: dict[int, Step] = field(default_factory=dict)

    def at(self, rows: int) -> Step:
        """Linear between the bins, constant beyond them."""
        step = self._known.get(rows)
        if step is None:
            step = Step(*(float(np.interp(rows, self.rows, column)) for column in self.columns.T))
            self._known[rows] = step
        return step


class _Watched(World):
    """Keeps what each decoding pass did: rows, nodes, accepted, drafting since the last one, prompt tokens fed."""

    def __init__(self, hardware: Hardware, spec: SystemSpec) -> None:
        super().__init__(
            hardware,
            spec.engine(hardware),
            max_running=spec.max_running(hardware),
            prefill_chunk=spec.prefill_chunk,
        )
        self.passes: list[tuple[float, ...]] = []
        self._drafted_ms = 0.0

    def forward(
        self, decoding: Mapping[SimRequest, int], chunks: Chunks, accepted: Mapping[SimRequest, int] | None = None
    ) -> float:
        if decoding:
            hits = sum(accepted.get(request, 0) for request in decoding) if accepted else 0
            fed = float(sum(size for _, size in chunks)) if self.scheduler.num_prefill_tokens else np.nan
            drafted_ms, self._drafted_ms = self.spent.drafting - self._drafted_ms, self.spent.drafting
            rows = len(decoding)
            self.passes.append((rows, sum(decoding.values()) / rows, hits / rows, drafted_ms, fed))
        return super().forward(decoding, chunks, accepted)


def learn(trace: Trace, hardware: Hardware, spec: SystemSpec, speeds: Sequence[float], seed: int) -> Pace:
    """From one verifier of ``spec`` that meets the trace at each of these speeds."""
    passes = np.array(
        [line for speed in speeds for line in _passes(trace.scaled(speed=speed), hardware, spec, seed)]
    )
    bins = np.digitize(passes[:, 0], EDGES)
    kept = [passes[bins == number] for number in sorted(set(bins.tolist()))]
    means = np.array([_means(lines) for lines in kept if len(lines) >= LEAST_STEPS])
    return Pace(means[:, 0], means[:, 1:])


def _passes(trace: Trace, hardware: Hardware, spec: SystemSpec, seed: int) -> list[tuple[float, ...]]:
    lengths = np.array([request.output_tokens for request in trace.requests])
    text = draw_text(hardware.acceptance, len(lengths), int(lengths.max()) + DEEPEST, seed)
    world = _Watched(hardware, spec)
    world.expect(sim_requests(trace, hardware, lengths, world.new_slots))
    system = spec.build(hardware, SimDrafter(text))
    while True:
        world.admit()
        if world.is_over:
            return world.passes
        system.turn(world)


def _means(lines: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    means: npt.NDArray[np.float64] = lines[:, :4].mean(axis=0)
    fed = lines[:, 4][~np.isnan(lines[:, 4])]
    return np.append(means, fed.mean() if len(fed) else lines.shape[0] * 0.0)
