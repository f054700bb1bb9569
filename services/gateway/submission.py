"""From a request at the door to its completion: a new one, or the one that its idempotency key names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from services.gateway import admission, idempotency, slo
from services.gateway.answer import Answer, choice_id
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
    def num_choices(self) -> int:
        return self.body.n or 1

    @property
    def wants_speculation(self) -> bool:
        options = self.body.adaserve.speculation if self.body.adaserve else None
        return options is None or (options.enabled and options.max_depth > 0)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which choice of which answer; ``sibling`` is the answer's first request, if this is another."""

    answer: str
    index: int
    sibling: Request | None

    @property
    def request(self) -> str:
        return choice_id(self.answer, self.index)


OpenChoice = Callable[[_Choice, Asked], Awaitable[Completion | None]]


class Submission:
    """Every method raises ApiError; whoever gets an answer closes it."""

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

    async def submit(self, asked: Asked) -> Answer:
        """Queue every choice."""
        answer = await self._all_choices(admission.new_id(), asked, self._new_choice)
        assert answer is not None
        return answer

    async def submit_once(self, key: str, asked: Asked) -> Answer:
        """Queue every choice, or join what the key has started before, unless that was cancelled or failed."""
        for attempt in range(idempotency.MAX_ATTEMPTS):
            request = idempotency.request_of(asked.tenant, key, attempt)
            lock = self._keyed.setdefault(request, asyncio.Lock())
            async with lock:  # or the second of two would open a stream that the first one is about to enqueue
                answer = await self._all_choices(request, asked, self._known_choice)
            if answer is not None:
                return answer
        raise idempotency.exhausted()

    async def _all_choices(self, answer: str, asked: Asked, open_choice: OpenChoice) -> Answer | None:
        """All of them or none: None where one cannot be opened."""
        completions: list[Completion] = []
        try:
            for index in range(asked.num_choices):
                sibling = completions[0].request if completions else None
                completion = await open_choice(_Choice(answer, index, sibling), asked)
                if completion is None:
                    Answer(completions).close("choice_failed")
                    return None
                completions.append(completion)
        except BaseException as error:
            Answer(completions).close(error.code if isinstance(error, ApiError) else type(error).__name__)
            raise
        return Answer(completions)

    async def _new_choice(self, choice: _Choice, asked: Asked) -> Completion:
        completion = await self._prepare(choice, asked)
        await opened(completion, completion.enqueue(self._queue_limit))
        return completion

    async def _known_choice(self, choice: _Choice, asked: Asked) -> Completion | None:
        """None where the request has failed before."""
        request = choice.request
        stored = await self._resumption.stored(request)
        if stored is None:
            completion = await self._prepare(choice, asked)
            if await opened(completion, completion.enqueue(self._queue_limit)):
                return completion
            completion.close("exists")
            stored = await self._resumption.stored(request)
        if stored is None or stored.has_failed:
            return None
        if stored.form.body_digest != asked.body_digest:
            raise idempotency.reused()
        return await self._resumption.join(stored, None, asked.traceparent)

    async def _prepare(self, choice: _Choice, asked: Asked) -> Completion:
        span = self._parts.telemetry.request(asked.traceparent, signals.GATEWAY_REQUEST)
        try:
            message = await self._message(choice, asked)
        except ApiError as error:
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
        )

    async def _message(self, choice: _Choice, asked: Asked) -> Request:
        if choice.sibling is not None:
            seed = (choice.sibling.seed + choice.index) % admission.SEED_SPAN
            return replace(choice.sibling, request=choice.request, seed=seed)
        fleet, patience_s = self._parts.fleet, self._parts.patience_s
        slo.check_feasible(asked.targets, fleet.zero_load_ms, speculation=asked.wants_speculation)
        if fleet.silent_s > patience_s:
            raise admission.unavailable(f"no verifier has been alive for {patience_s:g} s")
        prompt = await self._prompts.of(asked.body)
        return admission.new_request(
            choice.request, asked.tenant, asked.body, prompt, asked.targets, self._limits()
        )

    def _form(self, choice: _Choice, asked: Asked) -> Form:
        body = asked.body
        return Form(
            endpoint="chat" if isinstance(body, ChatRequest) else "completions",
            model=self._model,
            created=int(time.time()),
            with_usage=body.stream_options is not None and body.stream_options.include_usage,
            with_tokens=bool(body.return_token_ids),
            resumable=asked.is_resumable,
            body_digest=asked.body_digest,
            index=choice.index,
            answer=choice.answer if choice.index else "",
        )
