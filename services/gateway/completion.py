"""One accepted request from its queue entry to its last piece of text, whatever way it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from services.gateway import admission
from services.gateway.accounts import Account
from services.gateway.bus import Bus
from services.gateway.delivery import Delivery, Delta
from services.gateway.errors import ApiError
from services.gateway.fleet import Fleet
from services.gateway.output import OutputText, Piece
from services.gateway.slo import Slo
from services.gateway.streams import OpenStream, Streams
from shared import signals
from shared.messages import Request, TokenEvent
from shared.telemetry import OpenSpan, Telemetry, now_ns
from shared.tokenizer import Tokenizer

WAIT_S = 0.5  # between looks at the verifiers while nothing comes
FINISH_REASONS = ("stop", "length")


class Completion:
    """Iterate `pieces` to the end, then read `account`; always `close`, which cancels what has not ended."""

    def __init__(
        self,
        request: Request,
        slo: Slo,
        *,
        digest: bytes,
        arrived: float,
        span: OpenSpan,
        bus: Bus,
        streams: Streams,
        fleet: Fleet,
        telemetry: Telemetry,
        tokenizer: Tokenizer,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.request = request
        self.slo = slo
        self.created = int(time.time())
        self.finish_reason: str | None = None
        self._arrived = arrived
        self._span = span
        self._bus = bus
        self._streams = streams
        self._fleet = fleet
        self._telemetry = telemetry
        self._patience_s = patience_s
        self._clock = clock
        self._delivery = Delivery(request.request, len(request.prompt), digest)
        self._output = OutputText(tokenizer, request.stop, len(request.prompt))
        self._stream: OpenStream | None = None
        self._enqueue: asyncio.Task[None] | None = None
        self._ttft_ms: float | None = None
        self._first_ns = 0
        self._closed = False

    @property
    def id(self) -> str:
        return self.request.request

    async def enqueue(self, limit: int) -> None:
        """Queue it. The call survives the handler's cancellation, so that `close` can undo it. Raises ApiError."""
        self._stream = self._streams.open(self._delivery)
        call = admission.enqueue(self._bus, self.request, self._delivery.digest, self._span.traceparent, limit)
        self._enqueue = asyncio.create_task(call)
        await asyncio.shield(self._enqueue)
        self._stream.is_enqueued = True

    async def pieces(self, keep_alive_s: float) -> AsyncIterator[Piece | None]:
        """Text as it becomes final, None when nothing has come for `keep_alive_s`. Raises ApiError."""
        silent_since = self._clock()
        while self.finish_reason is None:
            delta = await self._next()
            if delta is not None:
                yield self._piece(delta)
                silent_since = self._clock()
            elif self._clock() - silent_since >= keep_alive_s:
                yield None
                silent_since = self._clock()

    async def _next(self) -> Delta | None:
        assert self._stream is not None
        delta = await self._stream.next(WAIT_S)
        if delta is None and self._fleet.silent_s > self._patience_s:
            raise admission.unavailable(f"no verifier has been alive for {self._patience_s:g} s")
        return delta

    def _piece(self, delta: Delta) -> Piece:
        if delta.tokens and self._ttft_ms is None:
            self._ttft_ms = (self._clock() - self._arrived) * 1_000
            self._first_ns = now_ns()
        if delta.end is None:
            return self._output.push(delta.tokens)
        self.finish_reason = _finish_reason(delta.end)
        return self._output.finish(delta.tokens, delta.end)

    def account(self) -> Account:
        """Figures up to now."""
        end = self._delivery.end
        return Account(
            prompt_tokens=len(self.request.prompt),
            output_tokens=len(self._delivery.tokens),
            ttft_ms=self._ttft_ms,
            first_ms=self._delivery.first_ms,
            last_ms=self._delivery.last_ms,
            stats=(end.stats if end is not None else None) or {},
            slo=self.slo,
        )

    def close(self, error: str | None = None) -> None:
        """Stop receiving; end the request if it has not ended; close its span. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._streams.close(self.id)
        if self._delivery.end is None and self._enqueue is not None and not _was_refused(self._enqueue):
            self._bus.cancel(self.id, after=self._enqueue)
            error = error or "cancelled"
        self._report(error)

    def _report(self, error: str | None) -> None:
        account = self.account()
        if self.finish_reason is not None:
            self._measure(account)
        if self._first_ns:
            self._telemetry.child(self._span.traceparent, signals.GATEWAY_DELIVER, self._first_ns, now_ns())
        self._span.end(
            attributes={
                signals.REQUEST_ID: self.id,
                signals.PROMPT_TOKENS: account.prompt_tokens,
                signals.OUTPUT_TOKENS: account.output_tokens,
                signals.FINISH_REASON: self.finish_reason or "none",
                signals.TPOT_MS: account.tpot_ms,
            },
            error=error,
        )

    def _measure(self, account: Account) -> None:
        """Count a request that finished; one without a target has no SLO to attain."""
        if self._ttft_ms is not None:
            self._telemetry.record(signals.TTFT, self._ttft_ms / 1_000)
        if account.output_tokens > 1:
            self._telemetry.record(signals.TPOT, account.tpot_ms)
        if account.met is not None:
            name = self.slo.name
            self._telemetry.add(signals.SLO_REQUESTS, slo_class=name, met="true" if account.met else "false")
            self._telemetry.add(signals.GOODPUT_TOKENS, account.output_tokens * account.met, slo_class=name)


def _finish_reason(end: TokenEvent) -> str:
    """OpenAI's reason. Raises ApiError for an end that is none."""
    if end.finish in FINISH_REASONS:
        return str(end.finish)
    if end.finish == "error":
        raise ApiError(500, end.error or "The request failed", code="generation_failed")
    if end.finish == "detached":
        raise ApiError(409, "Another connection has taken this stream over", code="detached")
    raise ApiError(409, "The request was cancelled", code="cancelled")


def _was_refused(enqueue: asyncio.Task[None]) -> bool:
    """Whether Redis certainly does not hold the request; after a lost reply it may."""
    if not enqueue.done() or enqueue.cancelled():
        return False
    error = enqueue.exception()
    return isinstance(error, ApiError) and error.status != 503
