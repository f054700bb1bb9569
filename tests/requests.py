"""Builders of requests and generations for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from services.verifier.generation import Generation
from services.verifier.stopping import StopRules
from shared import codec
from shared.inference.blocks import BlockPool, SequenceSlots
from shared.messages import Request
from shared.records import Origin


def request(number: int = 1, prompt: Sequence[int] = (1, 2, 3), **changes: Any) -> Request:
    """A greedy best-effort request of 8 tokens unless ``changes`` say otherwise."""
    values: dict[str, Any] = {
        "request": f"{number:032x}",
        "tenant": "acme",
        "slo_class": "chat",
        "tier": 0,
        "prompt": np.array(prompt, np.int32),
        "max_tokens": 8,
        "min_tokens": 0,
        "temperature": 0.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "bias_ids": np.empty(0, np.int32),
        "bias": np.empty(0),
        "seed": number,
        "stop": (),
        "stop_token_ids": (),
        "ignore_eos": False,
        "tpot_ms": float("inf"),
        "ttft_ms": float("inf"),
        "speculation": True,
        "max_depth": 8,
    }
    return Request(**{**values, **changes})


def generation(pool: BlockPool, number: int = 1, prompt: Sequence[int] = (1, 2, 3), **changes: Any) -> Generation:
    """A generation that has just been claimed."""
    asked = request(number, prompt, **changes)
    return Generation(
        request=asked,
        origin=Origin(
            body=codec.encode(asked), tenant="acme", tier=0, seed=asked.seed, gateway="g.1", traceparent=None
        ),
        epoch=f"{number:016x}",
        rules=StopRules.of(asked, frozenset()),
        slots=SequenceSlots(pool),
    )
