"""From a request at the door to its completion: a new one, or the one that its idempotency key names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from services.gateway import admission, idempotency, slo
from services.gateway.completion import Completion, Parts
from services.gateway.errors import ApiError
from services.gateway.form import Form
from services.gateway.prompts import Prompts, digest_of
from services.gateway.resumption import Resumption, opened
from services.gateway.schemas import ChatRequest, CompletionRequest
from services.gateway.slo import Slo
from shared import signals
from shared.messages import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A checked body and what came with it. ``body_digest`` only of one with an Idempotency-Key."""

    body: ChatRequest | CompletionRequest
    tenant: str
    targets: Slo
    traceparent: str | None
    arrived: float  # monotonic
    body_digest: str = ""

    @property
    def is_resumable(self) -> bool:
        """Whether the client may leave and come back; who sends a key means to ask again."""
        options = self.body.adaserve
        return bool(self.body_digest) or (options is not None and bool(options.resumable))

    @property
    def wants_speculation(self) -> bool:
        options = self.body.adaserve.speculation if self.body.adaserve else None
        return options is None or (options.enabled and options.max_depth > 0)


class Submission:
    """Every method raises ApiError; whoever gets a completion closes it."""

    def __init__(
        self,
        parts: Parts,
        prompts: Prompts,
        resumption: Resumption,
        *,
        model: str,
        queue_limit: int,
        limits: Callable[[], admission.ModelLimits],
    ) -> None:
        self._parts = parts
        self._prompts = prompts
        self._resumption = resumption
        self._model = model
        self._queue_limit = queue_limit
        self._limits = limits
        self._keyed: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def submit(self, asked: Asked) -> Completion:
        """Queue a request."""
        completion = await self._prepare(admission.new_id(), asked)
        await opened(completion, completion.enqueue(self._queue_limit, is_own_id=True))
        return completion

    async def submit_once(self, key: str, asked: Asked) -> Completion:
        """Queue a request, or join what the key has started before, unless that was cancelled or failed."""
        for attempt in range(idempotency.MAX_ATTEMPTS):
            request = idempotency.request_of(asked.tenant, key, attempt)
            lock = self._keyed.setdefault(request, asyncio.Lock())
            async with lock:  # or the second of two would open a stream that the first one is about to enqueue
                completion = await self._one_attempt(request, asked)
            if completion is not None:
                return completion
        raise idempotency.exhausted()

    async def _one_attempt(self, request: str, asked: Asked) -> Completion | None:
        """None where the request has failed before."""
        stored = await self._resumption.stored(request)
        if stored is None:
            completion = await self._prepare(request, asked)
            if await opened(completion, completion.enqueue(self._queue_limit, is_own_id=False)):
                return completion
            completion.close("exists")
            stored = await self._resumption.stored(request)
        if stored is None or stored.has_failed:
            return None
        if stored.form.body_digest != asked.body_digest:
            raise idempotency.reused()
        return await self._resumption.join(stored, None, asked.traceparent)

    async def _prepare(self, request: str, asked: Asked) -> Completion:
        span = self._parts.telemetry.request(asked.traceparent, signals.GATEWAY_REQUEST)
        try:
            message = await self._message(request, asked)
        except ApiError as error:
            span.end(error=error.code)
            raise
        return Completion(
            message,
            self._form(asked),
            self._parts,
            digest=await digest_of(message.prompt.tolist()),
            arrived=asked.arrived,
            span=span,
            traceparent=span.traceparent,
        )

    async def _message(self, request: str, asked: Asked) -> Request:
        fleet, patience_s = self._parts.fleet, self._parts.patience_s
        slo.check_feasible(asked.targets, fleet.zero_load_ms, speculation=asked.wants_speculation)
        if fleet.silent_s > patience_s:
            raise admission.unavailable(f"no verifier has been alive for {patience_s:g} s")
        prompt = await self._prompts.of(asked.body)
        return admission.new_request(request, asked.tenant, asked.body, prompt, asked.targets, self._limits())

    def _form(self, asked: Asked) -> Form:
        body = asked.body
        return Form(
            endpoint="chat" if isinstance(body, ChatRequest) else "completions",
            model=self._model,
            created=int(time.time()),
            with_usage=body.stream_options is not None and body.stream_options.include_usage,
            with_tokens=bool(body.return_token_ids),
            resumable=asked.is_resumable,
            body_digest=asked.body_digest,
        )
