"""A trace on a machine under a system: one run per seed, and the report over several."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from bench.report import Outcome, Report, goodput_tokens, shares
from bench.simulator.acceptance import draw_text
from bench.simulator.drafter import SimDrafter
from bench.simulator.hardware import Hardware
from bench.simulator.machines import hardware_named
from bench.simulator.request import SimRequest
from bench.simulator.systems import SystemSpec, system_named
from bench.simulator.world import Spent, World
from bench.traces import Trace
from bench.workloads import load_trace
from shared.inference.blocks import SequenceSlots

CAPPED_SHARE = 0.55  # of the paper's requests reach their cap; the others end anywhere from SHORTEST tokens on
SHORTEST = 50
DEEPEST = 16  # levels that a system may draft beyond a text's end
MAX_TURNS = 2_000_000

Load = Callable[[str, int], Trace]  # the trace of a name and a seed; runs in other processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one seed gave; times in ms."""

    outcomes: tuple[Outcome, ...]
    spent: Spent
    duration_ms: float

    @property
    def gpu_seconds(self) -> tuple[float, float]:
        """Busy seconds of verifier and of drafter per 1,000 tokens of goodput; infinite without any."""
        tokens = goodput_tokens(self.outcomes)
        return tuple(  # type: ignore[return-value]
            ms / tokens if tokens else float("inf") for ms in (self.spent.verification, self.spent.drafting)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run to make, as plain words that reach another process."""

    trace: str
    hardware: str
    system: str
    seed: int
    draft_step_ms: float | None = None


def run_job(job: Job, load: Load = load_trace) -> Run:
    """Raises what the names' look-ups raise."""
    hardware = hardware_named(job.hardware)
    if job.draft_step_ms is not None:
        hardware = hardware.with_draft_step(job.draft_step_ms)
    return simulate(load(job.trace, job.seed), hardware, system_named(job.system), job.seed)


def run_jobs(jobs: Sequence[Job], job: Callable[[Job], Run] = run_job) -> Iterator[Run]:
    """In order, on all processors."""
    with ProcessPoolExecutor(min(os.cpu_count() or 1, max(len(jobs), 1))) as pool:
        yield from pool.map(job, jobs)


def simulate(trace: Trace, hardware: Hardware, spec: SystemSpec, seed: int) -> Run:
    """Until every request has ended. Text and lengths depend on trace, hardware and seed, never on the system."""
    caps = np.array([request.output_tokens for request in trace.requests])
    text = draw_text(hardware.acceptance, len(caps), int(caps.max()) + DEEPEST, seed)
    world = World(
        hardware,
        spec.engine(hardware),
        max_running=spec.max_running(hardware),
        prefill_chunk=spec.prefill_chunk,
    )
    requests = sim_requests(trace, hardware, output_lengths(caps, seed), world.new_slots)
    world.expect(requests)
    system = spec.build(hardware, SimDrafter(text))
    for _ in range(MAX_TURNS):
        world.admit()
        if world.is_over:
            outcomes = tuple(request.outcome for request in requests)
            return Run(outcomes=outcomes, spent=world.spent, duration_ms=world.now_ms)
        system.turn(world)
    raise RuntimeError(f"{spec.name} did not finish {trace.name} in {MAX_TURNS} turns")


def report(trace: str, hardware: str, system: str, runs: dict[int, Run]) -> Report:
    """Over the seeds."""
    spent = [run.spent for run in runs.values()]
    parts = {
        "scheduling": sum(each.scheduling for each in spent),
        "speculation": sum(each.speculation for each in spent),
        "verification": sum(each.verification for each in spent),
    }
    return Report(
        trace=trace,
        hardware=hardware,
        system=system,
        runs={seed: run.outcomes for seed, run in runs.items()},
        time_share=shares(parts),
    )


def reports(
    cases: Iterable[tuple[str, str, str]],
    seeds: Sequence[int],
    *,
    draft_step_ms: float | None = None,
    load: Load = load_trace,
    done: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Report, dict[int, Run]]]:
    """Of each (trace, hardware, system) the report over the seeds, in order; ``done`` is called after each run."""
    wanted = list(cases)
    jobs = [
        Job(trace=trace, hardware=hardware, system=system, seed=seed, draft_step_ms=draft_step_ms)
        for trace, hardware, system in wanted
        for seed in seeds
    ]
    results = run_jobs(jobs, partial(run_job, load=load))
    for trace, hardware, system in wanted:
        runs: dict[int, Run] = {}
        for seed in seeds:
            runs[seed] = next(results)
            done()
        yield report(trace, hardware, system, runs), runs


def output_lengths(caps: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Real output lengths.

    A trace that gives nothing but one cap for all requests, as the paper's files do, gets a model of when texts
    end. Lengths that differ are taken for real.
    """
    if len(set(caps.tolist())) > 1:
        return caps
    chance = np.random.default_rng([seed, 2])
    is_capped = chance.random(len(caps)) < CAPPED_SHARE
    ends = chance.integers(np.minimum(SHORTEST, caps), caps + 1)
    return np.where(is_capped, caps, ends)


def sim_requests(
    trace: Trace, hardware: Hardware, lengths: npt.NDArray[np.int64], new_slots: Callable[[], SequenceSlots]
) -> list[SimRequest]:
    """The trace's requests with ``lengths`` output tokens, in order of arrival."""
    return [
        SimRequest(
            index=index,
            category=request.category,
            arrival_ms=request.arrival_ms,
            num_prompt=request.prompt_tokens,
            length=int(lengths[index]),
            max_tokens=request.output_tokens,
            target_ms=request.target_ms(hardware.zero_load_ms),
            ttft_target_ms=math.inf if request.ttft_ms is None else request.ttft_ms,
            slots=new_slots(),
        )
        for index, request in enumerate(trace.requests)
    ]
