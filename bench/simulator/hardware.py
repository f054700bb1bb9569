"""How long the simulated machines take, and what the paper's artifact configures on them.

One forward pass with n new tokens over r requests that reads S tokens of KV:

    T(n, S, r) = sqrt(T0² + (c·n)²) + N_ar·(a + 2·E·n/b) + S·K/β + o + o_r·r

the roofline of weights against arithmetic, the all-reduces of tensor parallelism, the reading of KV, and the host
(docs/selection.md says which constants are the paper's and which were fitted, and on what).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np

from bench.simulator.acceptance import Acceptance, Distortion
from shared.latency import LatencyModel

KIB = 1024.0


class Engine(Protocol):
    """What runs forward passes of the target."""

    def forward_ms(self, tokens: int, context_tokens: int, rows: int) -> float:
        """T(n, S, r) in ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """The formula above; times in ms, bandwidths in bytes per ms."""

    weights_ms: float  # T0: one pass over the weights
    token_ms: float  # c: arithmetic of one token
    all_reduces: int  # N_ar
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
        reading = context_tokens * self.kv_bytes / self.memory
        return compute + reduce + reading + self.overhead_ms + self.request_ms * rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """The artifact's own profile of its engine: ms at some token counts, times a factor; KV is part of it.

    Below the first entry the machine's roofline with KV and rows, as all other systems pay it, up to that entry.
    """

    tokens: tuple[int, ...]
    ms: tuple[float, ...]
    factor: float
    below: Roofline

    def forward_ms(self, tokens: int, context_tokens: int, rows: int) -> float:
        """Linear between the points, and from the last two on."""
        first = self.tokens[0]
        if tokens < first:
            return min(self.below.forward_ms(tokens, context_tokens, rows), self.factor * self.ms[0])
        points = zip(self.tokens, self.ms, strict=True)
        pairs = list(pairwise(points))
        (a, low), (b, high) = next((pair for pair in pairs if tokens <= pair[1][0]), pairs[-1])
        return self.factor * (low + (high - low) * (tokens - a) / (b - a))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A latency model that a verifier measured."""

    model: LatencyModel

    def forward_ms(self, tokens: int, context_tokens: int, rows: int) -> float:
        """T(n, S, r)."""
        return self.model.predict_ms(tokens, context_tokens=context_tokens, rows=rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftHost:
    """What drafting costs the vLLM rivals, ms: a level, an iteration besides its models, and a verified token."""

    level_ms: float
    iteration_ms: float
    token_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A target and a draft model on their machine, with the constants of the paper's artifact for it.

    ``vllm`` runs vLLM and its speculative forms, ``sarathi`` chunked prefill, ``adaserve`` both policies of ours.
    """

    name: str
    vllm: Engine
    sarathi: Engine
    adaserve: Engine
    vllm_draft: DraftHost
    zero_load_ms: float  # what relative targets multiply
    draft_step_ms: float  # one level of drafting
    kv_tokens: int  # KV pool, tokens
    acceptance: Acceptance
    max_running: int  # AdaServe's batch
    budget: int  # B
    draft_tokens_per_step: int  # B2
    depths: tuple[int, int]  # D_min, D_max
    hop_ms: float = 1.0  # three hops, selection and commit; half of it is paid by plain steps too

    def with_draft_step(self, step_ms: float) -> Hardware:
        """The same machine with another draft model, for all systems that draft."""
        level_ms = self.vllm_draft.level_ms * step_ms / self.draft_step_ms
        return replace(self, draft_step_ms=step_ms, vllm_draft=replace(self.vllm_draft, level_ms=level_ms))


_LLAMA = Roofline(
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
)
LLAMA_70B = Hardware(
    name="llama70b-4xa100",
    vllm=_LLAMA,
    sarathi=replace(_LLAMA, overhead_ms=1.15, request_ms=0.09),
    adaserve=Profiled(tokens=(128, 256, 512, 1024), ms=(55.0, 85.0, 125.0, 205.0), factor=0.77, below=_LLAMA),
    vllm_draft=DraftHost(level_ms=5.0, iteration_ms=14.0, token_ms=0.0),
    zero_load_ms=30.0,
    draft_step_ms=6.0,
    kv_tokens=440_000,
    acceptance=Acceptance(
        easy_share=0.55,
        easy_concentration=15.0,
        hard_beta=(3.0, 2.2),
        distortion=Distortion(scale=0.9, bias=0.0, noise=0.4),
    ),
    max_running=64,
    budget=512,
    draft_tokens_per_step=96,
    depths=(4, 8),
)
_QWEN = Roofline(
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
)
QWEN_32B = Hardware(
    name="qwen32b-2xa100",
    vllm=_QWEN,
    sarathi=replace(_QWEN, overhead_ms=1.1, request_ms=0.13),
    adaserve=Profiled(tokens=(128, 256, 512, 1024), ms=(48.0, 66.0, 104.0, 188.0), factor=0.80, below=_QWEN),
    vllm_draft=DraftHost(level_ms=2.5, iteration_ms=6.0, token_ms=0.09),
    zero_load_ms=28.0,
    draft_step_ms=6.0,
    kv_tokens=280_000,
    acceptance=Acceptance(
        easy_share=0.42,
        easy_concentration=15.0,
        hard_beta=(3.0, 4.0),
        distortion=Distortion(scale=0.7, bias=0.0, noise=1.0),
    ),
    max_running=80,
    budget=256,
    draft_tokens_per_step=80,
    depths=(3, 5),
)
PROFILES: Mapping[str, Hardware] = {hardware.name: hardware for hardware in (LLAMA_70B, QWEN_32B)}

_CURVE = (1, *range(8, 129, 8), *range(160, 513, 32), *range(640, 2049, 128))


def latency_model(engine: Engine) -> LatencyModel:
    """What a verifier would have measured of the engine: T over one request, and the cost of context and rows."""
    alone = engine.forward_ms(1, 0, 0)
    curve = np.maximum.accumulate([engine.forward_ms(tokens, 0, 0) for tokens in _CURVE])
    return LatencyModel(
        tokens=_CURVE,
        ms=tuple(curve.tolist()),
        context_ms=engine.forward_ms(1, 1000, 0) - alone,
        row_ms=engine.forward_ms(1, 0, 1) - alone,
    )
