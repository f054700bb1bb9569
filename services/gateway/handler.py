"""The gateway without HTTP: checked requests in, completions out; the parts that live as long as the process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from services.gateway import admission, idempotency, slo, tenancy
from services.gateway.answer import Answer
from services.gateway.bus import Bus
from services.gateway.completion import Parts
from services.gateway.door import Door
from services.gateway.errors import ApiError
from services.gateway.fleet import Fleet
from services.gateway.padding import padding_of
from services.gateway.prompts import Prompts
from services.gateway.reaper import reap
from services.gateway.resumption import Resumption
from services.gateway.schemas import ChatRequest, CompletionRequest
from services.gateway.settings import GatewaySettings
from services.gateway.streams import Streams
from services.gateway.submission import Asked, Submission
from services.gateway.tasks import end, vital
from services.gateway.terms import Terms, agree
from shared.errors import BusUnavailable, UnreadableMessage
from shared.heartbeat import Heartbeat
from shared.messages import MAX_CONTEXT
from shared.modes import Order
from shared.policy import Policy
from shared.streams import OwnedStream
from shared.telemetry import Telemetry
from shared.tokenizer import Tokenizer
from shared.topics import Keys

logger = logging.getLogger(__name__)

DEFAULT_ALIAS = "default"


class Gateway:
    """One gateway member of a cell. Built and started on the event loop that serves."""

    def __init__(
        self,
        settings: GatewaySettings,
        member: str,
        tokenizer: Tokenizer,
        telemetry: Telemetry,
        policy: Policy | None = None,
    ) -> None:
        self.settings = settings
        self._policy = policy
        self.telemetry = telemetry
        self.started = int(time.time())
        keys = Keys(settings.cell)
        self.is_draining = False
        self._tokenizer = tokenizer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bus = Bus(settings.redis_url, keys, member)
        self._streams = Streams(settings.redis_url, self._bus, telemetry)
        self._fleet = Fleet(settings.redis_url, keys, tokenizer.token_map_digest)
        parts = Parts(
            bus=self._bus,
            streams=self._streams,
            fleet=self._fleet,
            telemetry=telemetry,
            tokenizer=tokenizer,
            patience_s=settings.verifier_patience_s,
            grace_s=settings.resume_grace_s,
        )
        self.prompts = Prompts(tokenizer)
        self._resumption = Resumption(parts)
        self._submission = Submission(
            parts,
            self.prompts,
            self._resumption,
            Door(
                self._bus,
                self._fleet,
                patience_s=settings.verifier_patience_s,
                refuse_unreachable=settings.refuse_unreachable,
            ),
            model=settings.model_id,
            limits=self._limits,
            padding=partial(padding_of, multiple=settings.padding_bytes, always=settings.padding),
        )
        self._reaping: asyncio.Task[None] | None = None
        self._heartbeat = Heartbeat(
            settings.redis_url,
            keys,
            "gateway",
            member,
            lambda: {"model": settings.model_id},
            [OwnedStream(keys.tokens(member))],
            on_recreated=lambda _: self._from_thread(self._streams.on_recreated),
        )

    async def start(self) -> None:
        """Raises BusUnavailable when Redis does not answer."""
        self._loop = asyncio.get_running_loop()
        await self._bus.start()
        await self._fleet.refresh()
        self._heartbeat.start()
        self._fleet.start()
        self._streams.start()
        self._reaping = vital(reap(self._bus))

    def drain(self) -> None:
        """Take no more requests; those that are open go on."""
        self.is_draining = True

    def end_streams(self) -> None:
        """Tell every client that is still waiting that this process goes, and where its answer is."""
        self._streams.leave_all()

    async def stop(self) -> None:
        await self._fleet.stop()
        if self._reaping is not None:
            await end([self._reaping])
        await self._bus.stop()
        await self._streams.stop()
        self._heartbeat.stop()

    def _from_thread(self, action: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)

    @property
    def is_alive(self) -> bool:
        """Whether the process can do its work if Redis and a verifier are there."""
        return self._streams.is_running and self._fleet.is_running and self._heartbeat.is_running

    async def is_ready(self) -> bool:
        """Whether a request would be served now: Redis takes writes and a warm verifier lives."""
        return not self.is_draining and self._fleet.is_ready and await self._bus.can_write()

    async def modes(self) -> dict[str, Any]:
        """Operators' orders by scope, and how every verifier decodes now. Raises ApiError 503."""
        try:
            orders = await self._bus.orders()
        except (BusUnavailable, UnreadableMessage) as error:
            raise admission.unavailable(f"verification modes cannot be read: {error}") from None
        return {
            "orders": {name: order.json() for name, order in sorted(orders.by_scope.items())},
            "verifiers": self._fleet.modes(),
        }

    async def order(self, scope: str, order: Order) -> None:
        """From the next iteration on. Raises ApiError 503; the order may then have been taken or not."""
        try:
            await self._bus.order(scope, order)
        except BusUnavailable:
            raise admission.unavailable(
                "the message bus does not answer; the mode may or may not be set"
            ) from None
        logger.warning(
            "verification mode of %s set to %s: %s", scope, order.mode, order.reason or "no reason given"
        )

    @property
    def context_limit(self) -> int:
        """Tokens of prompt and output together."""
        known = [
            limit for limit in (self._tokenizer.context_limit, self._fleet.context_limit) if limit is not None
        ]
        return min(known, default=MAX_CONTEXT)

    def serves(self, model: str) -> bool:
        return model in (DEFAULT_ALIAS, self.settings.model_id)

    async def submit(self, body: ChatRequest | CompletionRequest, headers: Mapping[str, str]) -> Answer:
        """Queue a request, or join the one that its idempotency key names.

        Raises ApiError; whoever gets the answer closes it.
        """
        self._check_open()
        arrived = time.monotonic()
        tenant = tenancy.tenant_of(headers, self._policy)
        targets = slo.resolve(body.adaserve.slo if body.adaserve else None, headers)
        self.check_model(body.model)
        key = idempotency.key_of(headers)
        asked = Asked(
            body=body,
            terms=self._terms(tenant, body, targets),
            traceparent=headers.get("traceparent"),
            arrived=arrived,
            body_digest="" if key is None else idempotency.digest_of(body, targets),
        )
        return await (self._submission.submit(asked) if key is None else self._submission.submit_once(key, asked))

    async def resume(self, stream: str, last_event_id: str | None, headers: Mapping[str, str]) -> Answer:
        """Join a request after the event that the client has seen last. Raises ApiError, as `submit`."""
        self._check_open()
        tenant = tenancy.tenant_of(headers, self._policy)
        found = await self._resumption.resume(tenant, stream, last_event_id, headers.get("traceparent"))
        return Answer([found])

    async def cancel(self, stream: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """End a request, if it has not ended; how it ended. Raises ApiError."""
        request, status = await self._resumption.cancel(tenancy.tenant_of(headers, self._policy), stream)
        return {"id": request, "object": "stream", "status": status}

    def _terms(self, tenant: str, body: ChatRequest | CompletionRequest, asked: slo.Slo) -> Terms:
        options = body.adaserve.slo if body.adaserve else None
        return agree(
            self._policy,
            tenant,
            options.service_class if options else None,
            asked,
            zero_load_ms=self._fleet.zero_load_ms,
            limit=self.settings.queue_limit,
        )

    def _limits(self) -> admission.ModelLimits:
        return admission.ModelLimits(
            self._tokenizer.vocab_size, self.context_limit, self.settings.default_max_tokens
        )

    def _check_open(self) -> None:
        if self.is_draining:
            raise admission.refused()

    def check_model(self, model: str) -> None:
        """Raises ApiError 400 for a model that is not served."""
        if not self.serves(model):
            raise ApiError(
                400,
                f"model: {model[:64]!r} is not served here; there is {self.settings.model_id!r}, "
                f"also called {DEFAULT_ALIAS!r}",
                code="model_not_found",
                param="model",
            )
