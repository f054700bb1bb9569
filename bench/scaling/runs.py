"""One sizing on one load, and many of them on all processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from bench.scaling.cell import Cell, Delays, Sizing
from bench.scaling.pace import Pace, learn
from bench.scaling.result import Result, Sample
from bench.scaling.rules import scrape_period_s
from bench.scaling.table import Gpus, Line, line
from bench.scaling.verifier import Model
from bench.simulator.acceptance import draw_text
from bench.simulator.machines import hardware_named
from bench.simulator.simulate import DEEPEST, sim_requests
from bench.simulator.systems import system_named
from bench.traces import Trace
from shared.inference.blocks import BlockPool, SequenceSlots

PIECE_S, PIECE_THINNED = 120.0, 5  # of the load, from which the pace is learned
SPEEDS = (0.3, 1.0, 2.0, 4.0)  # of the piece
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What all replicas are alike in, by the names of `adaserve simulate`."""

    hardware: str = "llama70b-4xa100"
    system: str = "adaserve"
    gpus: Gpus = Gpus()
    real: bool = False  # selection, in place of the pace


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A load under one seed, and how fast verifiers are on it; it can reach another process."""

    load: str
    seed: int
    trace: Trace
    machine: Machine
    pace: Pace

    def model(self) -> Model:
        """What its verifiers are alike in."""
        hardware, spec = hardware_named(self.machine.hardware), system_named(self.machine.system)
        lengths = [request.output_tokens for request in self.trace.requests]
        text = None
        if self.machine.real:
            text = draw_text(hardware.acceptance, len(lengths), max(lengths) + DEEPEST, self.seed)
        return Model(hardware, spec, self.pace, self.seed, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run to make."""

    setting: Setting
    sizing: Sizing
    delays: Delays


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is kept of a run."""

    load: str
    seed: int
    line: Line
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """All cases of one load by their names, each under the same seeds; ``trace`` is that of the first."""

    trace: Trace
    rows: Mapping[str, Sequence[Told]]

    @property
    def lines(self) -> dict[str, list[Line]]:
        """The figures alone."""
        return {case: [each.line for each in group] for case, group in self.rows.items()}


def pace_of(trace: Trace, machine: Machine, seed: int) -> Pace:
    """Learned from a piece of the load, from its middle."""
    start_ms = trace.duration_ms / 2.0
    within = [request for request in trace.requests if start_ms <= request.arrival_ms]
    kept = [request for request in within if request.arrival_ms < start_ms + 1e3 * PIECE_S][::PIECE_THINNED]
    piece = replace(trace, requests=tuple(replace(one, arrival_ms=one.arrival_ms - start_ms) for one in kept))
    return learn(piece, hardware_named(machine.hardware), system_named(machine.system), SPEEDS, seed)


def setting(load: str, trace: Trace, machine: Machine, seed: int) -> Setting:
    """The trace is of that seed already; the pace is learned with it."""
    return Setting(load=load, seed=seed, trace=trace, machine=machine, pace=pace_of(trace, machine, seed))


def run(trace: Trace, model: Model, sizing: Sizing, delays: Delays) -> Result:
    """One sizing on one load."""
    nowhere = SequenceSlots(BlockPool(1, 1))  # until a verifier claims a request
    lengths = np.array([request.output_tokens for request in trace.requests])
    requests = sim_requests(trace, model.hardware, lengths, lambda: nowhere)
    return Cell(model, requests, sizing, delays, scrape_period_s()).run()


def told(job: Job) -> Told:
    """The job's run."""
    result = run(job.setting.trace, job.setting.model(), job.sizing, job.delays)
    return Told(
        load=job.setting.load,
        seed=job.setting.seed,
        line=line(result, job.setting.machine.gpus),
        samples=result.samples,
    )


class Runner:
    """Does things of one kind side by side, in order; with one process in this one."""

    def __init__(self, processes: int = 0) -> None:
        self._processes = processes or os.cpu_count() or 1

    def map(self, do: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
        """What ``do`` says of each."""
        if self._processes == 1:
            yield from map(do, things)
            return
        with ProcessPoolExecutor(self._processes) as pool:
            yield from pool.map(do, things)
