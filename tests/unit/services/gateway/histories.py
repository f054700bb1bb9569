"""Hand-made accounts of requests: a second or two of decoding, and what is to be blamed for it."""

from __future__ import annotations

from typing import Any

from services.gateway.history import History

STEPS = 101  # of which 100 lie between the first token and the last
DECODED_MS = 4_000.0

CALM = {
    "num_steps": 101.0,
    "num_spec_steps": 101.0,
    "num_draft_tokens": 404.0,
    "num_accepted_draft_tokens": 101.0,
    "num_cached_tokens": 0.0,
    "num_prefill_steps": 2.0,
    "prefill_ms": 100.0,
    "prefill_forward_ms": 80.0,
    "span_ms": 4_000.0,
    "forward_ms": 2_400.0,
    "predicted_ms": 2_400.0,
    "alone_ms": 2_000.0,
    "ring_ms": 1_000.0,
    "other_prefill_ms": 0.0,
    "commit_ms": 200.0,
    "batch_rows": 200.0,
    "batch_tokens": 1_000.0,
}
"""Steps of 40 ms: 20 for one token alone, 4 for the batch, 10 in the ring, 2 for commits, 4 of the loop's own; two
tokens a step."""


def history(stats: dict[str, float] | None = None, **odd: Any) -> History:
    """Of a request with 201 tokens in `DECODED_MS`, so 20 ms a token, that met its targets."""
    values: dict[str, Any] = {
        "id": "0" * 32,
        "status": "finished",
        "finish": "length",
        "tenant": "acme",
        "slo_class": "chatbot",
        "prompt_tokens": 64,
        "output_tokens": 201,
        "tpot_target_ms": 30.0,
        "ttft_target_ms": 500.0,
        "spent_ms": 5.0,
        "enqueued_ms": 1_000.0,
        "claimed_ms": 1_010.0,
        "taken_ms": 1_010.0,
        "first_token_ms": 1_115.0,
        "last_token_ms": 1_115.0 + DECODED_MS,
        "takeovers": 0,
        "idle_ms": 0.0,
        "stats": {**CALM, **(stats or {})},
    }
    return History(**(values | odd))


def slower(by_ms: float, stats: dict[str, float], **odd: Any) -> History:
    """The same with a target of 20 ms, missed by so many ms of decoding in all, which the stats have to tell."""
    grown = {"span_ms": CALM["span_ms"] + by_ms} if "span_ms" not in stats else {}
    end = {"last_token_ms": 1_115.0 + DECODED_MS + by_ms}
    return history({**grown, **stats}, tpot_target_ms=20.0, **{**end, **odd})


def later(by_ms: float, stats: dict[str, float] | None = None, **odd: Any) -> History:
    """The same with a target of 120 ms to the first token, which came so much later."""
    first = 1_115.0 + by_ms
    times = {"first_token_ms": first, "last_token_ms": first + DECODED_MS, "ttft_target_ms": 120.0}
    return history(stats, **(times | odd))
