"""Every system by name: how it is scheduled, on which constants, and what its host costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bench.simulator.baselines import (
    AdaptiveChain,
    Chain,
    Ordered,
    PrefillFirst,
    Sarathi,
    Speculative,
    System,
    TopTree,
    TreeRule,
)
from bench.simulator.drafter import SimDrafter
from bench.simulator.hardware import Hardware, Target
from bench.simulator.ring import Ring
from services.selector.control import PolicySettings
from shared.errors import ConfigurationError
from shared.latency import LatencyTable

Build = Callable[[Hardware, SimDrafter], System]


def _same(target: Target) -> Target:
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSpec:
    """A named configuration. ``cap`` bounds the running requests; None takes the paper's cap of the hardware."""

    name: str
    build: Build
    cap: int | None = 512
    prefill_chunk: int = 4096
    adjust: Callable[[Target], Target] = _same

    def max_running(self, hardware: Hardware) -> int:
        return hardware.max_running if self.cap is None else self.cap

    def target_of(self, hardware: Hardware) -> Target:
        return self.adjust(hardware.target)


VLLM_BATCH = 4096
SARATHI_BATCH = 512


def _sarathi_host(target: Target) -> Target:
    return replace(target, overhead_ms=target.overhead_ms - 1.5, request_ms=0.09)


def _vllm_spec(rule: Callable[[Hardware], TreeRule], name: str) -> SystemSpec:
    def build(hardware: Hardware, drafter: SimDrafter) -> System:
        is_llama = hardware.num_gpus == 4
        return Speculative(
            batch_tokens=VLLM_BATCH,
            drafter=drafter,
            rule=rule(hardware),
            draft_step_ms=5.0,
            iteration_ms=14.0 if is_llama else 8.0,
            token_ms=0.0 if is_llama else 0.03,
        )

    return SystemSpec(name=name, build=build)


def curve(target: Target, context: int, rows: int) -> LatencyTable:
    tokens = tuple([1, *range(8, 129, 8), *range(160, 513, 32), *range(640, 2049, 128)])
    return LatencyTable(tokens=tokens, ms=tuple(target.forward_ms(n, context, rows) for n in tokens))


def ring(name: str, settings: Callable[[Hardware], PolicySettings], **more) -> SystemSpec:
    def build(hardware: Hardware, drafter: SimDrafter) -> System:
        return Ring(drafter, settings(hardware), curve(hardware.target, 64 * 400, 64), depth=hardware.depths[0], width=3)

    return SystemSpec(name=name, build=build, cap=None, prefill_chunk=1024, **more)


def paper_settings(hardware: Hardware, **more) -> PolicySettings:
    low, high = hardware.depths
    values = dict(
        min_depth=low, max_depth=high, max_width=3, draft_tokens_per_step=hardware.draft_tokens_per_step,
        budget=hardware.budget, hop_ms=hardware.hop_ms)
    return PolicySettings(**{**values, **more})


SYSTEMS: Mapping[str, SystemSpec] = {
    spec.name: spec
    for spec in (
        SystemSpec(name="vllm", build=lambda h, d: PrefillFirst(VLLM_BATCH)),
        SystemSpec(name="sarathi", build=lambda h, d: Sarathi(SARATHI_BATCH), adjust=_sarathi_host),
        *(_vllm_spec(lambda h, k=k: Chain(k), f"vllm-spec-{k}") for k in (4, 6, 8)),
        _vllm_spec(lambda h: AdaptiveChain(6, 256), "vllm-adaptive"),
        _vllm_spec(lambda h: TopTree(6, 3, 8), "eagle2"),
        ring("adaserve-paper", paper_settings),
    )
}


def system_named(name: str) -> SystemSpec:
    if name not in SYSTEMS:
        raise ConfigurationError(f"system {name!r} is not known; there are {', '.join(SYSTEMS)}")
    return SYSTEMS[name]
