"""Redis' CPU time as a sum of what the protocol asks for, and the capacity of a cell that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WORK = ("iteration", "ring", "row", "node", "request")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What was done in some seconds, and the CPU time of Redis' main thread meanwhile, in µs.

    ``iterations`` of all verifiers, ``rings`` those of them with trees, ``rows`` of their commits, ``nodes``
    drafted, ``requests`` begun and ended.
    """

    seconds: float
    cpu_us: float
    iterations: float
    rings: float
    rows: float
    nodes: float
    requests: float

    @property
    def work(self) -> tuple[float, ...]:
        """In the order of WORK."""
        return self.iterations, self.rings, self.rows, self.nodes, self.requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """µs of Redis' main thread: for a second of an idle cell, for an iteration, the way of its trees, a row of its

    commit, a drafted node, a request.
    """

    idle: float
    iteration: float
    ring: float
    row: float
    node: float
    request: float

    def of(self, window: Window) -> float:
        """Predicted µs of a window."""
        each = (self.iteration, self.ring, self.row, self.node, self.request)
        return self.idle * window.seconds + sum(us * times for us, times in zip(each, window.work, strict=True))


def fit(idle: Window, windows: Sequence[Window]) -> Costs:
    """Least squares of relative errors over the windows, no cost below 0. Raises ValueError without windows."""
    if not windows:
        raise ValueError("no windows to fit")
    rest = idle.cpu_us / idle.seconds
    known = np.array([max(1.0, one.cpu_us) for one in windows])
    work = np.array([one.work for one in windows]) / known[:, None]
    wanted = (known - rest * np.array([one.seconds for one in windows])) / known
    found, columns = np.zeros(len(WORK)), list(range(len(WORK)))
    while columns:
        solved = np.linalg.lstsq(work[:, columns], wanted, rcond=None)[0]
        if (solved >= 0).all():
            found[columns] = solved
            break
        columns.pop(int(np.argmin(solved)))
    return Costs(idle=rest, **dict(zip(WORK, found.tolist(), strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """One verifier at work: ``running`` requests, ``step_ms`` from one iteration to the next, and of each request

    ``nodes`` drafted and ``tokens`` committed in it; ``output`` tokens of a whole answer.
    """

    name: str
    running: int
    step_ms: float
    nodes: float
    tokens: float
    output: float = 256.0

    @property
    def tokens_per_s(self) -> float:
        return self.running * self.tokens * 1e3 / self.step_ms

    @property
    def requests_per_s(self) -> float:
        return self.tokens_per_s / self.output


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Of a cell with so many verifiers that Redis uses ``share`` of a core."""

    verifiers: float
    requests_per_s: float
    tokens_per_s: float
    us_per_token: float


def redis_us(costs: Costs, verifier: Verifier) -> float:
    """µs of Redis for one second of this verifier."""
    iterations = 1e3 / verifier.step_ms
    window = Window(
        seconds=0.0,
        cpu_us=0.0,
        iterations=iterations,
        rings=iterations if verifier.nodes else 0.0,
        rows=iterations * verifier.running,
        nodes=iterations * verifier.running * verifier.nodes,
        requests=verifier.requests_per_s,
    )
    return costs.of(window)


def capacity(costs: Costs, verifier: Verifier, share: float) -> Capacity:
    """As many of these verifiers as use that share of a core of Redis, what is idle taken off once."""
    each = redis_us(costs, verifier)
    number = max(0.0, share * 1e6 - costs.idle) / each
    return Capacity(
        verifiers=number,
        requests_per_s=number * verifier.requests_per_s,
        tokens_per_s=number * verifier.tokens_per_s,
        us_per_token=each / verifier.tokens_per_s,
    )
