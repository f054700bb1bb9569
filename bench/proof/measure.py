"""One workload with speculation and without it, in turns, on a stack of this machine: two recordings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.local import LocalStack, local_stack
from bench.replay.client import complete
from bench.replay.plan import TENANT_HEADER, Server, Wishes
from bench.replay.probe import probe
from bench.replay.recording import Recording
from bench.replay.replay import Limits, Run, connected, recording, replay
from bench.simulator.tenancy import assign
from bench.workloads import load_trace
from shared.policy import Policy, load_policy

OTHERS = ("drafter", "selector", "verifier")
WARM_UPS = 3
WARM = {"model": "default", "prompt": "def main() -> None:\n", "max_tokens": 32, "temperature": 0, "stream": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A trace for each of `rounds`, whose sides get the same requests and seeds; `shares` of the tenants.

    Seeds go on from `first_seed`.
    """

    trace: str
    rounds: int
    temperature: float
    policy: Path
    shares: Mapping[str, float]
    first_seed: int = 0
    timeout_s: float = 120.0


Told = Callable[[str, int, int, int], None]  # which replay; requests due, done and in all


def measure(workload: Workload, target: str, draft: str, told: Told) -> tuple[Recording, Recording]:
    """With speculation, and without; who is first changes with the round, so that drifting noise hits both."""
    settings = {"gateway": {"POLICY_FILE": str(workload.policy.resolve())}}
    with local_stack(settings, target=target, draft=draft) as stack:
        measured = Measured(stack, workload, load_policy(workload.policy))
        server = asyncio.run(measured.server())
        sides = [Wishes(temperature=workload.temperature, speculation=on) for on in (True, False)]
        runs: dict[bool, dict[int, Run]] = {True: {}, False: {}}
        for seed in range(workload.first_seed, workload.first_seed + workload.rounds):
            for wishes in sides if seed % 2 == 0 else reversed(sides):
                run = asyncio.run(measured.once(server, replace(wishes, seed=seed), told))
                runs[wishes.speculation][seed] = run
    on, off = (recording(workload.trace, server, wishes, runs[wishes.speculation]) for wishes in sides)
    return on, off


@dataclass(frozen=True, slots=True)
class Measured:
    """A running stack and what is asked of it."""

    stack: LocalStack
    workload: Workload
    policy: Policy

    @property
    def headers(self) -> dict[str, str]:
        """Of what belongs to no request of the trace."""
        return {TENANT_HEADER: next(iter(self.policy.tenants))}

    async def server(self) -> Server:
        """The zero-load latency is the verifier's own, for both sides; a completion has warmed all paths."""
        async with connected(self.stack.url, self.headers) as client:
            for _ in range(WARM_UPS):
                await complete(client, WARM, self.workload.timeout_s)
            return await probe(client, {}, self.stack.zero_load_ms())

    async def once(self, server: Server, wishes: Wishes, told: Told) -> Run:
        """One replay."""
        trace = load_trace(self.workload.trace, wishes.seed)
        assigned = assign(trace, self.policy, self.workload.shares, wishes.seed)
        name = f"{'with' if wishes.speculation else 'without'} speculation, round {wishes.seed + 1}"
        urls = [f"http://127.0.0.1:{self.stack.ports[one]}/metrics" for one in OTHERS]
        async with connected(self.stack.url, self.headers) as client:
            return await replay(
                client,
                assigned.trace,
                server,
                wishes,
                prompts={},
                limits=Limits(timeout_s=self.workload.timeout_s),
                metrics_urls=urls,
                tenants=assigned.tenants,
                on_change=lambda due, done: told(name, due, done, len(trace.requests)),
            )
