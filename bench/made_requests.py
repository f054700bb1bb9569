"""Requests for what runs without a gateway."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shared.messages import Request


def made_request(
    number: int,
    prompt: Sequence[int],
    *,
    max_tokens: int,
    temperature: float,
    seed: int,
    max_depth: int,
    tpot_ms: float = math.inf,
) -> Request:
    """A request that draws from all ids and ends with ``max_tokens`` alone."""
    return Request(
        request=f"{number:032x}",
        tenant="bench",
        slo_class="default",
        tier=0,
        prompt=np.array(prompt, np.int32),
        max_tokens=max_tokens,
        min_tokens=0,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        bias_ids=np.empty(0, np.int32),
        bias=np.empty(0),
        seed=seed,
        stop=(),
        stop_token_ids=(),
        ignore_eos=True,
        tpot_ms=tpot_ms,
        ttft_ms=math.inf,
        speculation=True,
        max_depth=max_depth,
    )
