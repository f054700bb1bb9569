"""The span of a request at the gateway: what was asked for, what came of it, and whether it is told at all.

Its attributes are those of the OpenTelemetry semantic conventions where these have a name. Nothing of what the
client wrote is among them: no prompt, no stop string, no user.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.gateway.accounts import Account
from services.gateway.allowance import Allowance
from services.gateway.errors import ApiError
from services.gateway.form import Form
from services.gateway.terms import Terms
from shared import signals
from shared.messages import Request
from shared.telemetry import OpenSpan, Telemetry, now_ns
from shared.tracing import Attribute, Attributes

OPERATIONS = {"chat": "chat", "completions": "text_completion"}
ROUTES = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
MS = 1_000_000  # in ns
MISSED_PER_S = 5.0


@dataclass(frozen=True, slots=True)
class Tracing:
    """What the operator wants traced: whether a client's word counts, and how often a miss is told."""

    trusts_clients: bool = False
    keeps_missed: bool = True
    allowance: Allowance = field(default_factory=lambda: Allowance(MISSED_PER_S, time.monotonic))
    server: Attributes = field(default_factory=dict)  # where this gateway listens


@dataclass(frozen=True, slots=True)
class Moments:
    """This gateway's wall clock in ns, 0 for what has not been: queued, first token arrived here.

    Not when Redis says that it was committed: two machines' clocks would make spans that end before they start.
    """

    queued_ns: int = 0
    arrived_ns: int = 0


def asked(request: Request, form: Form, tracing: Tracing) -> dict[str, Attribute]:
    """What the client asked for, and under which terms it is served."""
    return {
        signals.GEN_AI_OPERATION: OPERATIONS[form.endpoint],
        signals.GEN_AI_PROVIDER: "adaserve",
        signals.GEN_AI_REQUEST_MODEL: form.model,
        signals.GEN_AI_RESPONSE_MODEL: form.model,
        signals.GEN_AI_RESPONSE_ID: request.request,
        signals.GEN_AI_MAX_TOKENS: request.max_tokens,
        signals.GEN_AI_TEMPERATURE: request.temperature,
        signals.GEN_AI_TOP_P: request.top_p,
        signals.GEN_AI_TOP_K: request.top_k,
        signals.GEN_AI_PRESENCE_PENALTY: request.presence_penalty,
        signals.GEN_AI_FREQUENCY_PENALTY: request.frequency_penalty,
        signals.GEN_AI_SEED: str(request.seed) if request.seed >= 2**63 else request.seed,
        signals.GEN_AI_OUTPUT_TYPE: "json" if request.schema else "text",
        signals.HTTP_METHOD: "POST",
        signals.HTTP_ROUTE: ROUTES[form.endpoint],
        **tracing.server,
        signals.REQUEST_ID: request.request,
        signals.TENANT: request.tenant,
        signals.TIER: request.tier,
        signals.SLO_CLASS: request.slo_class,
        **_targets(request),
        signals.ACCEPTANCE: "typical" if request.typical else "exact",
        **({signals.ARM: form.arm} if form.arm else {}),
    }


def refused(terms: Terms, error: ApiError) -> dict[str, Attribute]:
    """Of a request that was not taken."""
    return {
        signals.TENANT: terms.tenant,
        signals.TIER: terms.tier,
        signals.SLO_CLASS: terms.slo.name,
        signals.HTTP_STATUS: error.status,
        signals.ERROR_TYPE: error.code or str(error.status),
    }


def _targets(request: Request) -> dict[str, Attribute]:
    targets = {signals.SLO_TPOT_MS: request.tpot_ms, signals.SLO_TTFT_MS: request.ttft_ms}
    return {name: target for name, target in targets.items() if math.isfinite(target)}


def told(account: Account, finish_reason: str | None, met: bool | None) -> dict[str, Attribute]:
    """What came of it."""
    return {
        signals.GEN_AI_INPUT_TOKENS: account.prompt_tokens,
        signals.GEN_AI_OUTPUT_TOKENS: account.output_tokens,
        signals.GEN_AI_FINISH_REASONS: [finish_reason] if finish_reason else [],
        signals.FINISH_REASON: finish_reason or "none",
        signals.TPOT_MS: account.tpot_ms,
        **({} if account.ttft_ms is None else {signals.TTFT_MS: account.ttft_ms}),
        **({} if met is None else {signals.SLO_MET: met}),
        **_work(account.stats),
    }


def _work(stats: Mapping[str, float]) -> dict[str, Attribute]:
    """The verifier's figures, which come with the last token."""
    if "num_steps" not in stats:
        return {}
    return {
        signals.QUEUE_MS: stats.get("queue_ms", 0.0),
        signals.GEN_AI_CACHED_TOKENS: int(stats.get("num_cached_tokens", 0)),
        signals.NUM_STEPS: int(stats["num_steps"]),
        signals.NUM_SPEC_STEPS: int(stats.get("num_spec_steps", 0)),
        signals.NUM_NODES: int(stats.get("num_draft_tokens", 0)),
        signals.NUM_ACCEPTED: int(stats.get("num_accepted_draft_tokens", 0)),
    }


def keep(
    span: OpenSpan, telemetry: Telemetry, stats: Mapping[str, float], moments: Moments, allowance: Allowance
) -> None:
    """Record a request that was not sampled, after the fact, with what the gateway alone knows of its way.

    Beyond the allowance it is only counted.
    """
    if span.is_recorded or not span.start_ns:
        return
    if not allowance.take():
        telemetry.add(signals.TRACES_LEFT_OUT)
        return
    span.keep()
    span.set({signals.AFTER_THE_FACT: True})
    if not moments.queued_ns or "queue_ms" not in stats:
        return
    queued_ns, claimed_ns, arrived_ns = _in_order(span.start_ns, moments, stats["queue_ms"])
    queued = {signals.QUEUE_MS: stats["queue_ms"], signals.AFTER_THE_FACT: True}
    telemetry.child(span.traceparent, signals.VERIFIER_QUEUE, queued_ns, claimed_ns, queued)
    if moments.arrived_ns:
        known = {signals.AFTER_THE_FACT: True}
        telemetry.child(span.traceparent, signals.VERIFIER_PREFILL, claimed_ns, arrived_ns, known)


def _in_order(start_ns: int, moments: Moments, queue_ms: float) -> tuple[int, int, int]:
    """Queued, claimed and arrived, none before the one before it or the span's start, none in the future.

    The wait is the verifier's figure, and may have begun before the gateway heard that the request is queued.
    """
    end_ns = max(start_ns, now_ns())
    queued_ns = min(max(start_ns, moments.queued_ns), end_ns)
    arrived_ns = min(max(queued_ns, moments.arrived_ns or end_ns), end_ns)
    claimed_ns = min(queued_ns + max(0, int(queue_ms * MS)), arrived_ns)
    return queued_ns, claimed_ns, arrived_ns


def delivered(span: OpenSpan, telemetry: Telemetry, arrived_ns: int, waits: Attributes) -> None:
    """From the first token's arrival until now."""
    end_ns = max(span.start_ns, now_ns())
    start_ns = min(max(span.start_ns, arrived_ns), end_ns)
    telemetry.child(span.traceparent, signals.GATEWAY_DELIVER, start_ns, end_ns, waits)
