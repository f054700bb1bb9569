"""From a request at the door to its completion: a new one, or the one that its idempotency key names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol
from weakref import WeakValueDictionary

from services.gateway import admission, idempotency, request_span
from services.gateway.answer import Answer, choice_id
from services.gateway.completion import Completion, Parts
from services.gateway.door import Door
from services.gateway.errors import ApiError, invalid
from services.gateway.form import Form
from services.gateway.prompts import Prompts, digest_of
from services.gateway.quotas import Grant
from services.gateway.resumption import Resumption, opened
from services.gateway.schema_check import PARAM, SchemaCheck
from services.gateway.schemas import ChatRequest, CompletionRequest, Sampling
from services.gateway.terms import Terms
from shared import signals
from shared.messages import MAX_CONTEXT, MAX_SCHEMA_BYTES, Request
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
    def num_choices(self) -> int:
        return self.body.n or 1

    @property
    def wants_speculation(self) -> bool:
        options = self.body.adaserve.speculation if self.body.adaserve else None
        wants = options is None or (options.enabled and options.max_depth > 0)
        return wants and self.terms.speculates


@dataclass(frozen=True, slots=True)
class Choice:
    """Which choice of which answer; ``sibling`` is the answer's first request, if this is another.

    ``grant`` is what the whole answer has of its tenant's limits.
    """

    answer: str
    index: int
    sibling: Request | None
    grant: Grant | None = None

    @property
    def request(self) -> str:
        return choice_id(self.answer, self.index)


OpenChoice = Callable[[Choice, Asked], Awaitable[Completion | None]]


class CheckRoom(Protocol):
    """Raises ApiError."""

    async def __call__(self, terms: Terms, *, places: int, speculation: bool) -> None: ...


class Submission:
    """Every method raises ApiError; whoever gets an answer closes it."""

    def __init__(
        self,
        parts: Parts,
        prompts: Prompts,
        resumption: Resumption,
        door: Door,
        schemas: SchemaCheck,
        *,
        model: str,
        limits: Callable[[], admission.ModelLimits],
        max_inspected: int,
        padding: Callable[[Sampling], int] = lambda _: 0,
    ) -> None:
        self._parts = parts
        self._prompts = prompts
        self._resumption = resumption
        self._door = door
        self._schemas = schemas
        self._model = model
        self._limits = limits
        self._max_inspected = max_inspected
        self._padding = padding
        self._keyed: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def submit(self, asked: Asked) -> Answer:
        """Queue every choice."""
        answer = await self._all_choices(admission.new_id(), asked, self._new_choice)
        assert answer is not None
        return answer

    async def submit_once(self, key: str, asked: Asked) -> Answer:
        """Queue every choice, or join what the key has started before, unless that was cancelled or failed."""
        for attempt in range(idempotency.MAX_ATTEMPTS):
            request = idempotency.request_of(asked.terms.tenant, key, attempt)
            lock = self._keyed.setdefault(request, asyncio.Lock())
            async with lock:  # or the second of two would open a stream that the first one is about to enqueue
                answer = await self._all_choices(request, asked, self._known_choice)
            if answer is not None:
                return answer
        raise idempotency.exhausted()

    async def screen(self, asked: Asked) -> tuple[Request, Grant | None]:
        """What the request would be here, and what it has of its tenant's limits, though another one answers it.

        So all arms of a rollout refuse the same; only this cell's room is not asked for.
        """
        quotas = self._parts.quotas
        grant = None if quotas is None else quotas.grant(asked.terms.tenant)
        choice = Choice(admission.new_id(), 0, None, grant)
        try:
            return await self._first_message(choice, asked, self._door.check_target), grant
        except BaseException:
            if grant is not None:
                grant.cancel()
            raise

    async def _all_choices(self, answer: str, asked: Asked, open_choice: OpenChoice) -> Answer | None:
        """All of them or none: None where one cannot be opened."""
        completions: list[Completion] = []
        quotas = self._parts.quotas
        grant = None if quotas is None else quotas.grant(asked.terms.tenant)
        try:
            for index in range(asked.num_choices):
                sibling = completions[0].request if completions else None
                completion = await open_choice(Choice(answer, index, sibling, grant), asked)
                if completion is None:
                    Answer(completions).withdraw("choice_failed")
                    return None
                completions.append(completion)
        except BaseException as error:
            Answer(completions).withdraw(error.code if isinstance(error, ApiError) else type(error).__name__)
            if grant is not None:
                grant.cancel()
            raise
        return Answer(completions, {} if grant is None else grant.headers)

    async def _new_choice(self, choice: Choice, asked: Asked) -> Completion:
        completion = await self._prepare(choice, asked)
        await opened(completion, self._enqueue(completion, asked.terms, is_own_id=True))
        return completion

    async def _known_choice(self, choice: Choice, asked: Asked) -> Completion | None:
        """None where the request has failed before."""
        request = choice.request
        stored = await self._resumption.stored(request)
        if stored is None:
            completion = await self._prepare(choice, asked)
            if await opened(completion, self._enqueue(completion, asked.terms, is_own_id=False)):
                return completion
            completion.close("exists")
            if choice.grant is not None:  # whoever was first has been counted
                choice.grant.withdraw()
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

    async def _prepare(self, choice: Choice, asked: Asked) -> Completion:
        span = self._parts.telemetry.request(
            asked.traceparent,
            signals.GATEWAY_REQUEST,
            share=asked.terms.trace,
            trusts=self._parts.tracing.trusts_clients,
        )
        try:
            message = await self._message(choice, asked)
            budget_ms = asked.budget_ms(time.monotonic())
        except ApiError as error:
            if span.is_recorded:
                span.set(request_span.refused(asked.terms, error))
            span.end(error=error.code)
            raise
        return Completion(
            message,
            self._form(choice, asked),
            self._parts,
            digest=await digest_of(message.prompt.tolist()),
            arrived=asked.arrived,
            span=span,
            traceparent=span.traceparent,
            cost=len(message.prompt) + self._parts.typical.expected(message.max_tokens),
            weight=asked.terms.weight,
            budget_ms=budget_ms,
            grant=choice.grant,
        )

    async def _message(self, choice: Choice, asked: Asked) -> Request:
        if choice.sibling is not None:
            seed = (choice.sibling.seed + choice.index) % admission.SEED_SPAN
            return replace(choice.sibling, request=choice.request, seed=seed)
        message = await self._first_message(choice, asked, self._door.check)
        if message.inspect and choice.grant is not None:
            choices = [choice_id(choice.answer, index) for index in range(asked.num_choices)]
            await choice.grant.inspect(choices, self._max_inspected)
        return message

    async def _first_message(self, choice: Choice, asked: Asked, check_room: CheckRoom) -> Request:
        limits, grant, num_choices = self._limits(), choice.grant, asked.num_choices
        if grant is not None:
            choices = [choice_id(choice.answer, index) for index in range(num_choices)]
            least = min(asked.body.limit or 1, asked.terms.max_tokens or MAX_CONTEXT)
            await grant.admit(choices, 1 + num_choices * least)
        await check_room(asked.terms, places=num_choices, speculation=asked.wants_speculation)
        await self._check_schema(asked.body, asked.terms.tenant)
        prompt = await self._prompts.of(asked.body, asked.terms.tenant)
        if grant is not None:
            most = grant.most_output(limits.default_max_tokens, len(prompt))
            limits = replace(limits, default_max_tokens=most)
        message = admission.new_request(choice.request, asked.terms, asked.body, prompt, limits)
        if grant is not None:
            await grant.reserve(len(prompt), message.max_tokens)
        return message

    async def _check_schema(self, body: ChatRequest | CompletionRequest, tenant: str) -> None:
        schema = body.output_schema
        if not schema:
            return
        if body.ignore_eos:
            raise invalid("ignore_eos", "an output that follows response_format ends where it is complete")
        if len(schema) > MAX_SCHEMA_BYTES:
            raise invalid(PARAM, f"it has {len(schema)} bytes, limit {MAX_SCHEMA_BYTES}")
        await self._schemas.check(schema, tenant)

    def _form(self, choice: Choice, asked: Asked) -> Form:
        body = asked.body
        return Form(
            endpoint="chat" if isinstance(body, ChatRequest) else "completions",
            model=self._model,
            created=int(time.time()),
            with_usage=body.stream_options is not None and body.stream_options.include_usage,
            with_tokens=bool(body.return_token_ids) or admission.wants_inspection(body),
            resumable=asked.is_resumable,
            body_digest=asked.body_digest,
            index=choice.index,
            padding=self._padding(body),
            answer=choice.answer if choice.index else "",
            arm=asked.terms.arm or "",
            service_tier=asked.terms.service_tier,
            tpot_raised_from_ms=asked.terms.tpot_raised_from_ms or 0.0,
            max_tokens_cut_from=admission.cut_from(body, asked.terms) or 0,
        )
