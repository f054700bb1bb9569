"""Whether a float32 target may rightly have drawn other tokens than in another run (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bench.local import TARGET
from bench.reference import Sampling, decode, perturbed
from bench.ties import is_tie, packing_error
from shared.inference.loading import load_model

TOLERANCE = 10  # times the largest logit difference that packing causes, as in `bench.flagship`


class NearTies:
    """An `Excuse`: every token that differs from the reference's choice after those before it ties with that."""

    def __init__(self, dtype: str) -> None:
        torch.set_num_threads(1)
        self._model = load_model(TARGET, device="cpu", dtype=dtype)
        self._tolerance = TOLERANCE * packing_error(dtype)

    def __call__(self, body: Mapping[str, Any], told: Sequence[int]) -> bool:
        if len(told) != body["max_tokens"]:
            return False
        sampling = Sampling(seed=body["seed"], temperature=float(body["temperature"]))
        _, logits = decode(self._model, body["prompt"], sampling, len(told), forced=told)
        for index, (token, seen) in enumerate(zip(told, logits, strict=True)):
            scores = perturbed(seen, sampling, len(body["prompt"]) + index)
            if int(np.argmax(scores)) != token and not is_tie(scores, seen, sampling, token, self._tolerance):
                return False
        return True
