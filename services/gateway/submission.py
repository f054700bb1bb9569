"""From a request at the door to its completion: a new one, or the one that its idempotency key names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from services.gateway import admission, idempotency
from services.gateway.completion import Completion, Parts
from services.gateway.door import Door
from services.gateway.errors import ApiError
from services.gateway.form import Form
from services.gateway.prompts import Prompts, digest_of
from services.gateway.resumption import Resumption, opened
from services.gateway.schemas import ChatRequest, CompletionRequest
from services.gateway.terms import Terms
from shared import signals
from shared.messages import Request
from shared.scripts import Enqueued


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A checked body and what came with it. ``body_digest`` only of one with an Idempotency-Key."""

    body: ChatRequest | CompletionRequest
    terms: Terms
    traceparent: str | None
    arrived: float  # monotonic
    body_digest: str = ""

    @property
    def is_resumable(self) -> bool:
        """Whether the client may leave and come back; who sends a key means to ask again."""
        options = self.body.adaserve
        return bool(self.body_digest) or (options is not None and bool(options.resumable))

    def budget_ms(self, now: float) -> float | None:
        """What is left of the client's deadline, None without one. Raises ApiError 504 when that is nothing."""
        if self.body.adaserve is None or self.body.adaserve.deadline_ms is None:
            return None
        left_ms = self.body.adaserve.deadline_ms - 1_000 * (now - self.arrived)
        if left_ms <= 0:
            raise admission.expired()
        return left_ms

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
        door: Door,
        *,
        model: str,
        limits: Callable[[], admission.ModelLimits],
    ) -> None:
        self._parts = parts
        self._prompts = prompts
        self._resumption = resumption
        self._door = door
        self._model = model
        self._limits = limits
        self._keyed: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def submit(self, asked: Asked) -> Completion:
        """Queue a request."""
        completion = await self._prepare(admission.new_id(), asked)
        await opened(completion, self._enqueue(completion, asked.terms, is_own_id=True))
        return completion

    async def submit_once(self, key: str, asked: Asked) -> Completion:
        """Queue a request, or join what the key has started before, unless that was cancelled or failed."""
        for attempt in range(idempotency.MAX_ATTEMPTS):
            request = idempotency.request_of(asked.terms.tenant, key, attempt)
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
            if await opened(completion, self._enqueue(completion, asked.terms, is_own_id=False)):
                return completion
            completion.close("exists")
            stored = await self._resumption.stored(request)
        if stored is None or stored.has_failed:
            return None
        if stored.form.body_digest != asked.body_digest:
            raise idempotency.reused()
        return await self._resumption.join(stored, None, asked.traceparent)

    async def _enqueue(self, completion: Completion, terms: Terms, *, is_own_id: bool) -> bool:
        """False when Redis knew the id before."""
        status = await completion.enqueue(terms.bounds, is_own_id=is_own_id)
        if status in (Enqueued.FULL, Enqueued.TENANT_FULL):
            raise await self._door.refused(status, terms)
        return status is Enqueued.OK

    async def _prepare(self, request: str, asked: Asked) -> Completion:
        span = self._parts.telemetry.request(asked.traceparent, signals.GATEWAY_REQUEST)
        try:
            message = await self._message(request, asked)
            budget_ms = asked.budget_ms(time.monotonic())
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
            cost=len(message.prompt) + self._parts.typical.expected(message.max_tokens),
            weight=asked.terms.weight,
            budget_ms=budget_ms,
        )

    async def _message(self, request: str, asked: Asked) -> Request:
        await self._door.check(asked.terms, speculation=asked.wants_speculation)
        prompt = await self._prompts.of(asked.body)
        return admission.new_request(request, asked.terms, asked.body, prompt, self._limits())

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
