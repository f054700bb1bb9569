"""From a trace to HTTP requests: when each is sent, what it asks for, and what had no room. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.prompts import source_text
from bench.replay.goodput import Targets
from bench.traces import Trace, TraceRequest

TENANT_HEADER = "x-adaserve-tenant"
MARGIN = 0.9  # of the room for a prompt: how many tokens a text has is known only roughly


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What is known of the server: `context` in tokens, characters of a text per token on average and at worst."""

    model: str
    context: int
    chars_per_token: float
    least_chars_per_token: float
    zero_load_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How a trace is replayed. `targets` replace the trace's own."""

    seed: int = 0
    speed: float = 1.0
    temperature: float = 1.0
    speculation: bool = True
    targets: Targets | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One request to send `at_ms` after the start. `cut` names what the context left no room for.

    `tenant` asks, where the replay has several; None for whoever the client is.
    """

    at_ms: float
    category: str
    targets: Targets
    body: Mapping[str, Any]
    prompt_tokens: int
    cut: frozenset[str]
    tenant: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Of its HTTP request."""
        return {} if self.tenant is None else {TENANT_HEADER: self.tenant}


def plan(
    trace: Trace,
    server: Server,
    wishes: Wishes,
    prompts: Mapping[str, str],
    tenants: Sequence[str] | None = None,
) -> list[Planned]:
    """In order of arrival. A trace with relative targets needs the server's zero-load latency.

    `tenants` has the one of each request; each asks for the class that its category names.
    """
    planned = [_planned(request, index, server, wishes, prompts) for index, request in enumerate(trace.requests)]
    if tenants is None:
        return planned
    return [_of_tenant(one, tenant) for one, tenant in zip(planned, tenants, strict=True)]


def _of_tenant(planned: Planned, tenant: str) -> Planned:
    ours = planned.body["adaserve"]
    body = {**planned.body, "adaserve": {**ours, "slo": {**ours["slo"], "class": planned.category}}}
    return replace(planned, tenant=tenant, body=body)


def _planned(
    request: TraceRequest, index: int, server: Server, wishes: Wishes, prompts: Mapping[str, str]
) -> Planned:
    prompt_tokens, output_tokens = fit(request.prompt_tokens, request.output_tokens, server.context)
    targets = wishes.targets or _own_targets(request, server)
    known = prompts.get(request.prompt_id)
    room = safe_chars(server.context - output_tokens, server)
    text = source_prompt(request, prompt_tokens, server, wishes.seed) if known is None else known
    shorter = {
        "prompt": len(text) > room or (known is None and prompt_tokens < request.prompt_tokens),
        "output": output_tokens < request.output_tokens,
    }
    return Planned(
        at_ms=request.arrival_ms / wishes.speed,
        category=request.category,
        targets=targets,
        prompt_tokens=prompt_tokens,
        cut=frozenset(name for name, is_shorter in shorter.items() if is_shorter),
        body={
            "model": "default",
            "prompt": text[:room],
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "temperature": wishes.temperature,
            "seed": (wishes.seed << 32) + index,
            "stream": True,
            "stream_options": {"include_usage": True},
            "adaserve": {"slo": _slo(targets), "speculation": {"enabled": wishes.speculation}},
        },
    )


def fit(prompt_tokens: int, output_tokens: int, context: int) -> tuple[int, int]:
    """The sizes that a context of at least two tokens holds: outputs yield only beyond half of it."""
    output = min(output_tokens, max(context - prompt_tokens, context // 2))
    return min(prompt_tokens, context - output), output


def safe_chars(num_tokens: int, server: Server) -> int:
    """The length up to which a text very likely has no more than `num_tokens`."""
    return max(1, math.floor(MARGIN * num_tokens * server.least_chars_per_token))


def source_prompt(request: TraceRequest, num_tokens: int, server: Server, seed: int) -> str:
    """Source text of about that many tokens, another for each request and seed."""
    num_chars = max(1, round(num_tokens * server.chars_per_token))
    return source_text(num_chars, seed=f"{seed}/{request.prompt_id}/{request.arrival_ms}")


def _own_targets(request: TraceRequest, server: Server) -> Targets:
    if request.tpot_ratio is not None and server.zero_load_ms is None:
        raise ValueError("targets relative to the zero-load latency need it")
    ttft_ms = math.inf if request.ttft_ms is None else request.ttft_ms
    return Targets(tpot_ms=request.target_ms(server.zero_load_ms or math.nan), ttft_ms=ttft_ms)


def _slo(targets: Targets) -> dict[str, float]:
    """`adaserve.slo`; the server knows no target for the whole request."""
    known = {"tpot_ms": targets.tpot_ms, "ttft_ms": targets.ttft_ms}
    return {name: value for name, value in known.items() if math.isfinite(value)}
