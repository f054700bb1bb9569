"""/admin/requests/{id}: the account of one request, and why it met or missed its targets."""

from __future__ import annotations

import math
from typing import Any

from fastapi import FastAPI

from services.gateway import causes
from services.gateway.explanation import explained
from services.gateway.handler import Gateway
from services.gateway.history import History


def add_requests(app: FastAPI, gateway: Gateway) -> None:
    """A route of the scope admin."""

    @app.get("/admin/requests/{request_id}")
    async def account(request_id: str) -> dict[str, Any]:
        return told(await gateway.history(request_id))


def told(history: History) -> dict[str, Any]:
    """The answer's JSON: figures, no text and no token ids."""
    return {
        "id": history.id,
        "object": "request",
        "tenant": history.tenant,
        "class": history.slo_class,
        "status": history.status,
        "finish": history.finish or None,
        "verdict": history.verdict,
        "is_partial": history.is_partial,
        "slo": {
            "tpot_target_ms": _figure(history.tpot_target_ms),
            "ttft_target_ms": _figure(history.ttft_target_ms),
        },
        "timing": _timing(history),
        "tokens": {
            "prompt": history.prompt_tokens,
            "cached": int(history.stat("num_cached_tokens")),
            "output": history.output_tokens,
        },
        "speculation": _speculation(history),
        "steps": _steps(history),
        "takeovers": history.takeovers,
        "preemptions": int(history.stat("num_preemptions")),
        "causes": {"ttft": _causes(causes.ttft(history)), "tpot": _causes(causes.tpot(history))},
        "explanation": explained(history),
    }


def _timing(history: History) -> dict[str, float | None]:
    stat = history.stat
    waited = None if history.claimed_ms is None else history.claimed_ms - history.enqueued_ms
    return {
        "arrived_ms": _figure(history.enqueued_ms - history.spent_ms),
        "gateway_ms": _figure(history.spent_ms),
        "queue_ms": _figure(waited),
        "compile_ms": _figure(stat("compile_ms")),
        "admit_ms": _figure(stat("admit_ms")),
        "prefill_ms": _figure(stat("prefill_ms")),
        "first_token_ms": _figure(history.first_token_ms),
        "last_token_ms": _figure(history.last_token_ms),
        "ttft_ms": _figure(history.ttft_ms),
        "tpot_ms": _figure(history.tpot_ms),
        "generation_ms": _figure(history.generation_ms),
        "preempted_ms": _figure(stat("preempted_ms")),
        "unserved_ms": _figure(history.idle_ms),
        "restart_ms": _figure(stat("restart_ms")),
    }


def _speculation(history: History) -> dict[str, float | int | None]:
    stat, num_spec = history.stat, history.stat("num_spec_steps")
    return {
        "drafted_tokens": int(stat("num_draft_tokens")),
        "accepted_tokens": int(stat("num_accepted_draft_tokens")),
        "mean_tree_size": _figure(stat("num_draft_tokens") / num_spec) if num_spec else None,
        "mean_accepted": _figure(stat("num_accepted_draft_tokens") / num_spec) if num_spec else None,
    }


def _steps(history: History) -> dict[str, Any]:
    stat = history.stat
    num_steps, between = stat("num_steps"), max(1.0, stat("num_steps") - 1)
    return {
        "total": int(num_steps),
        "speculative": int(stat("num_spec_steps")),
        "bare": int(num_steps - stat("num_spec_steps")),
        "bare_reasons": history.bare_reasons,
        "late": int(stat("num_late_steps")),
        "prefill": int(stat("num_prefill_steps")),
        "waited_ring_ms": _figure(stat("ring_ms")),
        "forward_ms": _figure(stat("forward_ms")),
        "predicted_forward_ms": _figure(stat("predicted_ms")),
        "alone_ms": _figure(stat("alone_ms")),
        "other_prefill_ms": _figure(stat("other_prefill_ms")),
        "commit_ms": _figure(stat("commit_ms")),
        "mean_batch_requests": _figure(stat("batch_rows") / between),
        "mean_batch_tokens": _figure(stat("batch_tokens") / between),
        "mean_batch_prompt_tokens": _figure(stat("batch_prompt_tokens") / between),
    }


def _causes(miss: causes.Miss | None) -> list[dict[str, Any]]:
    """Each part of the time with its share of the miss, per output token of a TPOT."""
    return [
        {"cause": part.name, "ms": _figure(part.ms), "share_ms": _figure(part.share_ms)}
        for part in (() if miss is None else miss.parts)
    ]


def _figure(value: float | None) -> float | None:
    """To a microsecond; JSON has no infinity, so "no target" is null."""
    return round(value, 3) if value is not None and math.isfinite(value) else None
