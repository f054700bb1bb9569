"""From a checked HTTP request to the work message, and into the queue."""

from __future__ import annotations

import math
import secrets
import sys
from dataclasses import dataclass

import numpy as np

from services.gateway.bus import Bus
from services.gateway.delivery import Delivery
from services.gateway.errors import ApiError, invalid
from services.gateway.schemas import AdaServeOptions, Sampling, SpeculationOptions
from services.gateway.stream_ids import STREAM_HEADER
from services.gateway.terms import Bounds, Terms
from shared import scripts
from shared.errors import BusUnavailable
from shared.messages import Request
from shared.records import Origin

RETRY_AFTER_S = 1.0
SEED_SPAN = 2**64


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What the served model takes; `default_max_tokens` is for requests that give none."""

    vocab_size: int
    context: int
    default_max_tokens: int


def new_id() -> str:
    """A request's id: 128 bits as hex digits."""
    return secrets.token_hex(16)


def new_request(request: str, terms: Terms, body: Sampling, prompt: list[int], limits: ModelLimits) -> Request:
    """The work message. Raises ApiError 400 for what only the model's limits can tell."""
    max_tokens = _max_tokens(body, terms, len(prompt), limits)
    speculation = (body.adaserve or AdaServeOptions()).speculation or SpeculationOptions()
    return Request(
        request=request,
        tenant=terms.tenant,
        slo_class=terms.slo.name,
        tier=terms.tier,
        prompt=np.array(prompt, np.int32),
        max_tokens=max_tokens,
        min_tokens=_min_tokens(body, terms, max_tokens),
        temperature=1.0 if body.temperature is None else float(body.temperature),
        top_k=max(0, body.top_k or 0),
        top_p=1.0 if body.top_p is None else float(body.top_p),
        min_p=0.0 if body.min_p is None else float(body.min_p),
        presence_penalty=float(body.presence_penalty or 0.0),
        frequency_penalty=float(body.frequency_penalty or 0.0),
        repetition_penalty=1.0 if body.repetition_penalty is None else _penalty(body.repetition_penalty),
        logprobs=body.num_logprobs,
        bias_ids=np.array(_biased(body, limits), np.int32),
        bias=np.array(list(body.logit_bias.values()), np.float64),
        seed=secrets.randbits(63) if body.seed is None else body.seed % SEED_SPAN,
        stop=tuple(body.stop),
        stop_token_ids=_stop_token_ids(body, limits),
        ignore_eos=bool(body.ignore_eos),
        schema=body.output_schema,
        tpot_ms=float(terms.slo.tpot_ms),
        ttft_ms=float(terms.slo.ttft_ms),
        speculation=speculation.enabled and terms.speculates,
        max_depth=speculation.max_depth,
        typical=terms.typical,
        inspect=wants_inspection(body),
    )


def wants_inspection(body: Sampling) -> bool:
    """Whether its iterations are to be told."""
    return body.adaserve is not None and bool(body.adaserve.inspect)


async def enqueue(bus: Bus, origin: Origin, delivery: Delivery, bounds: Bounds) -> scripts.Enqueued:
    """Put it into its tier's queue. Raises ApiError 503 when Redis does not answer."""
    call = scripts.enqueue(
        bus.keys,
        request=delivery.request,
        origin=origin,
        position=delivery.position,
        digest=delivery.digest.hex(),
        limit=bounds.limit,
        share=bounds.share,
    )
    try:
        return await bus.call(call)
    except BusUnavailable:
        raise unavailable("the message bus does not answer") from None


def expired() -> ApiError:
    """504: it has not begun within the time that its client gave it."""
    return ApiError(
        504,
        "adaserve.deadline_ms: it was over before the request could begin",
        code="deadline_exceeded",
        param="adaserve.deadline_ms",
    )


class Leaving(ApiError):
    """503 for requests that go on without this gateway: any other tells their answers."""

    def __init__(self, *requests: str) -> None:
        where = ", ".join(f"/v1/streams/{request}" for request in requests)
        message = f"This server is being stopped; GET {where} on another one goes on"
        super().__init__(503, message, code="draining", retry_after_s=RETRY_AFTER_S)
        self._requests = requests

    def headers(self) -> dict[str, str]:
        return {**super().headers(), STREAM_HEADER: ", ".join(self._requests)}


def refused() -> ApiError:
    """503 for what comes while this gateway drains."""
    return ApiError(
        503, "This server is being stopped; ask another one", code="draining", retry_after_s=RETRY_AFTER_S
    )


def unavailable(reason: str) -> ApiError:
    """503: no capacity now."""
    return ApiError(503, f"No capacity now: {reason}", code="unavailable", retry_after_s=RETRY_AFTER_S)


def cut_from(body: Sampling, terms: Terms) -> int | None:
    """What the client asked for, where that is more than its tenant may have; it then gets as much as that."""
    if body.limit is None or terms.max_tokens is None or body.limit <= terms.max_tokens:
        return None
    return body.limit


def cut_members(body: Sampling, most: int) -> dict[str, int]:
    """The members of a body that say how long an output is, where that is to be so many tokens at most."""
    said = "max_completion_tokens" if getattr(body, "max_completion_tokens", None) is not None else "max_tokens"
    return {said: most} | ({"min_tokens": most} if (body.min_tokens or 0) > most else {})


def _max_tokens(body: Sampling, terms: Terms, prompt: int, limits: ModelLimits) -> int:
    if prompt >= limits.context:
        raise _too_long(
            f"the prompt has {prompt} tokens; the context holds {limits.context} with at least 1 of output"
        )
    room = limits.context - prompt
    most = math.inf if terms.max_tokens is None else terms.max_tokens
    if body.limit is None:
        return int(min(room, limits.default_max_tokens, most))
    wanted = int(min(body.limit, most))
    if wanted > room:
        raise _too_long(
            f"{prompt} prompt tokens + max_tokens {wanted} exceed the context of {limits.context} tokens",
            param="max_tokens",
        )
    return wanted


def _too_long(message: str, param: str = "prompt") -> ApiError:
    return ApiError(400, message, code="context_length_exceeded", param=param)


def _min_tokens(body: Sampling, terms: Terms, max_tokens: int) -> int:
    """Cut with `max_tokens` where that is the tenant's limit and not the client's word."""
    value = body.min_tokens or 0
    if value > max_tokens:
        asked = cut_from(body, terms)
        if asked is None or value > asked:
            raise invalid("min_tokens", f"{value} is more than max_tokens {asked or max_tokens}")
    return min(value, max_tokens)


def _penalty(repetition: float) -> float:
    """What is smaller than any normal number divides like the smallest one."""
    return max(float(repetition), sys.float_info.min)


def _biased(body: Sampling, limits: ModelLimits) -> list[int]:
    ids = list(body.logit_bias)
    if ids and max(ids) >= limits.vocab_size:
        raise invalid("logit_bias", f"{max(ids)} is not a token id; they are 0 to {limits.vocab_size - 1}")
    return ids


def _stop_token_ids(body: Sampling, limits: ModelLimits) -> tuple[int, ...]:
    ids = tuple(body.stop_token_ids or ())
    if ids and max(ids) >= limits.vocab_size:
        raise invalid("stop_token_ids", f"{max(ids)} is not a token id; they are 0 to {limits.vocab_size - 1}")
    return ids
