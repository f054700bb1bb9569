"""Requests that Redis holds already: joined by another connection, or cancelled by name."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable
from typing import TypeVar

from services.gateway import admission, stream_ids, tenancy
from services.gateway.completion import Completion, Parts
from services.gateway.errors import ApiError
from services.gateway.prompts import digest_of
from services.gateway.stored import Stored
from shared import signals
from shared.errors import BusUnavailable, UnreadableMessage
from shared.replies import Cancelled
from shared.telemetry import OpenSpan

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Resumption:
    """Every method raises ApiError; whoever gets a completion closes it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def resume(
        self, tenant: str, stream: str, last_event_id: str | None, traceparent: str | None
    ) -> Completion:
        """Join a request after the event that the client has seen last."""
        stored = await self.accessible(tenant, stream)
        seen = stream_ids.seen_of(last_event_id, stored.request.request)
        stream_ids.check_position(seen, prompt=len(stored.request.prompt), end=stored.end, limit=stored.limit)
        return await self.join(stored, seen, traceparent)

    async def cancel(self, tenant: str, stream: str) -> tuple[str, str]:
        """End a request, if it has not ended; its id and how it ended."""
        stored = await self.accessible(tenant, stream)
        request = stored.request.request
        try:
            done = await self._parts.bus.cancel(request)
        except BusUnavailable:
            raise admission.unavailable("the message bus does not answer; ask again") from None
        if done is Cancelled.MISSING:
            raise tenancy.unknown_stream()
        return request, "cancelled" if done is Cancelled.OK else (await self.accessible(tenant, stream)).status

    async def accessible(self, tenant: str | None, stream: str) -> Stored:
        """The tenant's request, None for whoever may read all. Raises ApiError 404."""
        stored = await self.stored(stream_ids.request_of(stream))
        if stored is None:
            raise tenancy.unknown_stream()
        if tenant is not None:
            tenancy.check_access(tenant, stored.tenant)
        return stored

    async def stored(self, request: str) -> Stored | None:
        """The request as Redis holds it, None where it does not."""
        try:
            return await self._parts.bus.stored(request)
        except BusUnavailable:
            raise admission.unavailable("the message bus does not answer") from None
        except UnreadableMessage as error:
            logger.error("request %s cannot be taken up: %s", request, error)
            raise ApiError(500, "The request cannot be read any more", code="request_lost") from None

    async def join(self, stored: Stored, seen: stream_ids.Seen | None, traceparent: str | None) -> Completion:
        """Take the request over; without ``seen`` from its beginning."""
        quotas = None if stored.has_ended else self._parts.quotas
        completion = Completion(
            stored.request,
            stored.form,
            self._parts,
            digest=await digest_of(stored.request.prompt.tolist()),
            arrived=time.monotonic(),
            span=self._span(traceparent, stored),
            traceparent=stored.traceparent,
            cost=stored.cost,
            weight=stored.weight,
            # A gateway's clock may be behind the one that gave the last number.
            attachment=max(self._parts.bus.new_attachment(), stored.attachment + 1),
            seen=seen,
            grant=None
            if quotas is None
            else quotas.joined(stored.tenant, stored.request.request, is_inspected=stored.request.inspect),
        )
        await opened(completion, completion.join())
        return completion

    def _span(self, traceparent: str | None, stored: Stored) -> OpenSpan:
        """The die was thrown at the request's beginning: whoever comes back does not throw it again."""
        return self._parts.telemetry.request(
            traceparent,
            signals.GATEWAY_REQUEST,
            share=0.0,
            trusts=self._parts.tracing.trusts_clients,
            link=stored.traceparent,
        )


async def opened(completion: Completion, opening: Awaitable[T]) -> T:
    """What opening a completion gives; where it fails, nobody else will close it."""
    try:
        return await opening
    except BaseException as error:
        completion.close(error.code if isinstance(error, ApiError) else type(error).__name__)
        raise
