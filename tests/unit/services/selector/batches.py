"""Readable CandidateTrees for tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from shared.messages import REQUEST_ID, TRACEPARENT, CandidateTrees
from shared.tree import EMPTY, TokenTree


def tree(parents: Sequence[int], probabilities: Sequence[float]) -> TokenTree:
    """A tree with path probabilities; tokens 100, 101, ..."""
    with np.errstate(divide="ignore"):
        logprobs = np.log(np.array(probabilities)).astype(np.float32)
    tokens = np.arange(100, 100 + len(parents), dtype=np.int32)
    return TokenTree(tokens, np.array(parents, np.int16), logprobs)


def batch(trees: Sequence[TokenTree], **changes: Any) -> CandidateTrees:
    """One row per tree: best effort, 10 tokens committed in 100 ms, unless `changes` replace a column."""
    rows = len(trees)
    ids = np.frombuffer(b"".join(row.to_bytes(16, "big") for row in range(rows)), REQUEST_ID)
    columns: dict[str, Any] = {
        "verifier": "v.1",
        "drafter": "d.1",
        "ring": 0,
        "step": 7,
        "depth": 4,
        "width": 3,
        "prefill_tokens": 0,
        "prefill_slack_ms": math.inf,
        "profile": "abc",
        "overhead_ms": 0.0,
        "calibration": "",
        "draft_ms": 4.0,
        "level_ms": 0.0,
        "request": ids,
        "epoch": np.arange(rows, dtype=np.uint64) + np.uint64(2**62),
        "position": np.full(rows, 50, np.int32),
        "acknowledged": np.full(rows, 50, np.int32),
        "temperature_bucket": np.zeros(rows, np.uint8),
        "tpot_ms": np.full(rows, np.inf, np.float32),
        "elapsed_ms": np.full(rows, 100.0, np.float32),
        "committed": np.full(rows, 10, np.int32),
        "weight": np.ones(rows, np.float32),
        "max_depth": np.full(rows, 8, np.uint8),
        "warm": np.zeros(rows, np.bool_),
        "tree_offsets": np.cumsum([0, *map(len, trees)], dtype=np.int32),
        "tokens": np.concatenate([EMPTY.tokens, *(t.tokens for t in trees)]),
        "parents": np.concatenate([EMPTY.parents, *(t.parents for t in trees)]),
        "logprobs": np.concatenate([EMPTY.logprobs, *(t.logprobs for t in trees)]),
        "trace_row": np.empty(0, np.int32),
        "traceparent": np.empty(0, TRACEPARENT),
    }
    return CandidateTrees(**{**columns, **changes})
