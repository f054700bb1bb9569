"""What a reply means for the report: by the server's commit times, and as the client saw it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.replay.plan import Planned
from bench.replay.reply import Reply
from bench.report import Outcome


def by_server(planned: Planned, reply: Reply, start_ms: float) -> Outcome:
    """Times from the reply's `metrics`, the arrival being the trace's. Without metrics, as the client saw it."""
    ttft_ms, spent_ms = (_number(reply.metrics, name) for name in ("time_to_first_token_ms", "generation_time_ms"))
    if ttft_ms is None or spent_ms is None:
        return by_client(planned, reply, start_ms)
    first_ms = planned.at_ms + ttft_ms
    return _outcome(planned, reply, first_ms, first_ms + spent_ms)


def by_client(planned: Planned, reply: Reply, start_ms: float) -> Outcome:
    """Times of the first and the last text that arrived, on a clock on which the replay began at `start_ms`."""
    first_ms, last_ms = (None if at is None else at - start_ms for at in (reply.first_ms, reply.last_ms))
    return _outcome(planned, reply, first_ms, last_ms)


def _outcome(planned: Planned, reply: Reply, first_ms: float | None, last_ms: float | None) -> Outcome:
    speculative = reply.metrics.get("speculative_decoding") or {}
    return Outcome(
        category=planned.category,
        arrival_ms=planned.at_ms,
        first_ms=first_ms,
        last_ms=last_ms,
        tokens=reply.tokens,
        target_ms=planned.targets.tpot_ms,
        ttft_target_ms=planned.targets.ttft_ms,
        e2e_target_ms=planned.targets.e2e_ms,
        num_steps=int(speculative.get("num_spec_steps") or 0),
        num_accepted=int(speculative.get("num_accepted_draft_tokens") or 0),
        failure=reply.failure,
    )


def _number(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics.get(name)
    return float(value) if isinstance(value, int | float) else None
