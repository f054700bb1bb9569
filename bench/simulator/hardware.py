"""How long the simulated machines take, and what the paper's artifact configures on them.

One forward pass with n new tokens over r requests that reads S tokens of KV (docs/selection.md, latency):

    T(n, S, r) = sqrt(T0² + (c·n)²) + N_ar·(a + 2·E·n/b) + S·K/β + o + o_r·r

the roofline of weights against arithmetic, the all-reduces of tensor parallelism, the reading of KV, and the host.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from shared.errors import ConfigurationError

KIB = 1024.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Cost of the target model; times in ms, bandwidths in bytes per ms."""

    weights_ms: float  # T0: one pass over the weights
    token_ms: float  # c: arithmetic of one token
    all_reduces: int
    all_reduce_ms: float  # a: latency of one
    all_reduce_bytes: float  # 2·E: sent per token
    link: float  # b
    kv_bytes: float  # K: of one token on one GPU
    memory: float  # β
    overhead_ms: float  # o
    request_ms: float  # o_r

    def forward_ms(self, tokens: int, context_tokens: int, rows: int) -> float:
        """T(n, S, r)."""
        compute = math.hypot(self.weights_ms, self.token_ms * tokens)
        reduce = self.all_reduces * (self.all_reduce_ms + self.all_reduce_bytes * tokens / self.link)
        return (
            compute
            + reduce
            + context_tokens * self.kv_bytes / self.memory
            + self.overhead_ms
            + self.request_ms * rows
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A target and a draft model on their machine, with the constants of the paper's artifact for it."""

    name: str
    target: Target
    zero_load_ms: float  # what relative targets multiply
    draft_step_ms: float  # one level of drafting
    kv_tokens: int  # KV pool, tokens
    easy_share: float  # see acceptance.py
    hard_beta: tuple[float, float]
    max_running: int  # AdaServe's batch
    budget: int  # B
    draft_tokens_per_step: int  # B2
    depths: tuple[int, int]  # D_min, D_max
    num_gpus: int
    hop_ms: float = 1.0  # three hops, selection and commit

    def with_draft_step(self, step_ms: float) -> Hardware:
        """The same machine with another drafter."""
        return replace(self, draft_step_ms=step_ms)


LLAMA_70B = Hardware(
    name="llama70b-4xa100",
    target=Target(
        weights_ms=26.35,
        token_ms=0.1763,
        all_reduces=160,
        all_reduce_ms=0.020,
        all_reduce_bytes=16 * KIB,
        link=121e6,
        kv_bytes=80 * KIB,
        memory=1.43e9,
        overhead_ms=2.65,
        request_ms=0.0,
    ),
    zero_load_ms=30.0,
    draft_step_ms=6.0,
    kv_tokens=440_000,
    easy_share=0.55,
    hard_beta=(3.0, 2.2),
    max_running=64,
    budget=512,
    draft_tokens_per_step=96,
    depths=(4, 8),
    num_gpus=4,
)
QWEN_32B = Hardware(
    name="qwen32b-2xa100",
    target=Target(
        weights_ms=21.8,
        token_ms=0.1546,
        all_reduces=128,
        all_reduce_ms=0.020,
        all_reduce_bytes=10 * KIB,
        link=167e6,
        kv_bytes=128 * KIB,
        memory=1.43e9,
        overhead_ms=2.6,
        request_ms=0.06,
    ),
    zero_load_ms=28.0,
    draft_step_ms=6.0,
    kv_tokens=280_000,
    easy_share=0.45,
    hard_beta=(3.0, 3.5),
    max_running=80,
    budget=256,
    draft_tokens_per_step=80,
    depths=(3, 5),
    num_gpus=2,
)
PROFILES: Mapping[str, Hardware] = {hardware.name: hardware for hardware in (LLAMA_70B, QWEN_32B)}


def hardware_named(name: str) -> Hardware:
    """Raises ConfigurationError for a name that is not in PROFILES."""
    if name not in PROFILES:
        raise ConfigurationError(f"hardware {name!r} is not known; there are {', '.join(PROFILES)}")
    return PROFILES[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableTarget:
    """The artifact's own profile of its engine, ms at some token counts, times a factor; KV is part of it."""

    tokens: tuple[int, ...]
    ms: tuple[float, ...]
    factor: float = 1.0

    def forward_ms(self, tokens: int, context_tokens: int, rows: int) -> float:
        """Linear between the points and beyond the last two; below the first towards 60 % of it at one token."""
        if tokens <= self.tokens[0]:
            low = 0.6 * self.ms[0]
            return self.factor * (low + (self.ms[0] - low) * tokens / self.tokens[0])
        if tokens >= self.tokens[-1]:
            slope = (self.ms[-1] - self.ms[-2]) / (self.tokens[-1] - self.tokens[-2])
            return self.factor * (self.ms[-1] + slope * (tokens - self.tokens[-1]))
        for low, high, a, b in zip(self.tokens, self.tokens[1:], self.ms, self.ms[1:]):
            if tokens <= high:
                return self.factor * (a + (b - a) * (tokens - low) / (high - low))
        raise AssertionError
