"""One accepted request from its queue entry to its last piece of text, whatever way it ends.

A completion is one connection's view of it: the one that enqueued the request, or one that joined it later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from services.gateway import admission, request_span
from services.gateway.accounts import Account
from services.gateway.attainment import Attainment
from services.gateway.bus import Bus
from services.gateway.delivery import Delivery, Delta
from services.gateway.errors import ApiError, invalid
from services.gateway.expectation import TypicalOutput
from services.gateway.fleet import Fleet
from services.gateway.form import Form
from services.gateway.logprobs import Logprobs
from services.gateway.open_stream import OpenStream
from services.gateway.output import NoEvent, OutputText, Piece
from services.gateway.quotas import Grant, Quotas
from services.gateway.request_span import Tracing
from services.gateway.slo import slo_of
from services.gateway.stored import origin_of
from services.gateway.stream_ids import LAST_EVENT_ID, EventIds, Seen, event_id
from services.gateway.streams import Streams
from services.gateway.tenancy import unknown_stream
from services.gateway.terms import Bounds
from shared import signals
from shared.errors import BusUnavailable
from shared.logprobs import entry_size
from shared.messages import Request, TokenEvent
from shared.scripts import Enqueued
from shared.telemetry import OpenSpan, Telemetry, now_ns
from shared.tokenizer import Tokenizer

T = TypeVar("T")

WAIT_S = 0.5  # at least, between looks at the verifiers while nothing comes
FINISH_REASONS = ("stop", "length")
INTERNAL_ERROR = 500


@dataclass(frozen=True, slots=True)
class Parts:
    """What all completions of a gateway share."""

    bus: Bus
    streams: Streams
    fleet: Fleet
    telemetry: Telemetry
    tokenizer: Tokenizer
    patience_s: float
    grace_s: float
    quotas: Quotas | None = None
    typical: TypicalOutput = field(default_factory=TypicalOutput)
    attainment: Attainment = field(default_factory=Attainment)
    tracing: Tracing = field(default_factory=Tracing)
    finished: Callable[[str, str, bool], None] = lambda *_: None  # arm, class, whether the SLO was attained


class Completion:
    """Iterate `pieces` to the end, then read `account`; always `close`, which cancels what has not ended.

    ``cost`` and ``weight`` are what the request's place in its queue depends on, ``budget_ms`` is how long it may
    stay there; ``grant`` is what it has of its tenant's limits. Where other connections have had the request,
    ``attachment`` is this one's number and ``seen`` the last event that the client has received.
    """

    def __init__(
        self,
        request: Request,
        form: Form,
        parts: Parts,
        *,
        digest: bytes,
        arrived: float,
        span: OpenSpan,
        traceparent: str | None,
        cost: int = 1,
        weight: float = 1.0,
        budget_ms: float | None = None,
        attachment: int | None = None,
        seen: Seen | None = None,
        grant: Grant | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.request = request
        self.form = form
        self.seen = seen
        self.slo = slo_of(request)
        self.finish_reason: str | None = None
        self._parts = parts
        self._arrived = arrived
        self._span = span
        self._grant = grant
        self._clock = clock
        self._origin = origin_of(
            request,
            form,
            parts.bus.gateway,
            traceparent,
            cost=cost,
            weight=weight,
            budget_ms=budget_ms,
            attachment=parts.bus.new_attachment() if attachment is None else attachment,
            spent_ms=max(0.0, (clock() - arrived) * 1_000),
        )
        self._delivery = Delivery(
            request.request,
            len(request.prompt),
            digest,
            entry_size(request.logprobs),
            drafted=[] if request.inspect else None,
        )
        self.logprobs: Logprobs | None = None
        if request.logprobs is not None:
            self.logprobs = Logprobs(parts.tokenizer, self._delivery, request.logprobs)
        self._output = OutputText(
            parts.tokenizer, request.stop, len(request.prompt), seen=None if seen is None else seen.position
        )
        self._ids = EventIds(request.request, len(request.prompt), digest, self._delivery.tokens)
        self._unproven = seen  # until the stream is there
        self._stream: OpenStream | None = None
        self._opening: asyncio.Task[object] | None = None
        self._replayed: list[Piece] = []
        self._enqueued_ms: float | None = None  # known of a request that was joined
        self._is_measured = True  # by this connection
        self._may_return = form.resumable
        self._ttft_ms: float | None = None
        self._queued_ns = 0
        self._first_ns = 0
        self._closed = False
        self._failure: str | None = None  # by no fault of the client's

    @property
    def id(self) -> str:
        return self.request.request

    async def enqueue(self, bounds: Bounds, *, is_own_id: bool) -> Enqueued:
        """Queue it, unless Redis knows the id (EXISTS) or there is no room. Raises ApiError.

        EXISTS after a lost reply is this very request: certainly so if nobody else can have the id; otherwise
        `join` is right in either case. The call survives the handler's cancellation: `close` can undo it.
        """
        self._stream = self._parts.streams.open(self._delivery, self._origin)
        return await self._outlive(self._enqueue(self._stream, bounds, is_own_id))

    async def _enqueue(self, stream: OpenStream, bounds: Bounds, is_own_id: bool) -> Enqueued:
        try:
            status = await admission.enqueue(self._parts.bus, self._origin, self._delivery, bounds)
        except ApiError as error:
            if error.status == 503:  # it may be there all the same
                stream.is_attached = True
            raise
        if status is Enqueued.OK or (status is Enqueued.EXISTS and is_own_id):
            stream.is_attached = True
            self._queued_ns = now_ns()
        return status

    async def join(self) -> None:
        """Take the request over from whichever connection had it, up to what was seen. Raises ApiError."""
        self._stream = self._parts.streams.open(self._delivery, self._origin)
        try:
            found = await self._outlive(self._parts.streams.join(self._stream))
        except BusUnavailable:
            raise admission.unavailable("the message bus does not answer") from None
        if found.status == "MISSING":
            raise unknown_stream()
        self._enqueued_ms = found.enqueued_ms
        self._is_measured = not found.terminal
        while self._output.is_behind and self._stream.has_next:
            delta = await self._stream.next(WAIT_S)
            if delta is not None:
                self._replayed.append(self._piece(delta))

    async def _outlive(self, call: Coroutine[None, None, T]) -> T:
        task = asyncio.create_task(call)
        task.add_done_callback(_retrieve)  # of a client that left meanwhile nobody hears its error
        self._opening = task
        return await asyncio.shield(task)

    async def pieces(self, keep_alive_s: float) -> AsyncIterator[Piece | None]:
        """Text as it becomes final, None when nothing has come for `keep_alive_s`. Raises ApiError."""
        for replayed in self._replayed:
            yield replayed
        silent_since = self._clock()
        while self.finish_reason is None:
            try:
                delta = await self._next(silent_since + keep_alive_s - self._clock())
                piece = None if delta is None else self._piece(delta)
            except ApiError as error:
                is_over = self._delivery.end is not None or not self._may_return
                if error.status >= INTERNAL_ERROR and is_over:
                    self._failure = error.code or "error"
                raise
            if piece is not None or self._clock() - silent_since >= keep_alive_s:
                yield piece
                silent_since = self._clock()

    async def _next(self, timeout_s: float) -> Delta | None:
        """The next delta, None when nothing came in time, or when it is time to look at the verifiers."""
        assert self._stream is not None
        parts = self._parts
        patience_s = parts.patience_s - parts.fleet.silent_s  # no need to look before
        delta = await self._stream.next(min(timeout_s, max(WAIT_S, patience_s)))
        if delta is None and parts.fleet.silent_s > parts.patience_s:
            raise admission.unavailable(f"no verifier has been alive for {self._parts.patience_s:g} s")
        return delta

    def _piece(self, delta: Delta) -> Piece:
        if delta.tokens and not self._first_ns:
            self._ttft_ms = (self._clock() - self._arrived) * 1_000
            self._first_ns = now_ns()
        self._prove_seen()
        try:
            if delta.end is not None:
                self.finish_reason = _finish_reason(delta.end)
                return self._output.finish(delta.tokens, delta.end)
            piece = self._output.push(delta.tokens)
        except NoEvent:
            assert self.seen is not None
            self._may_return = True  # whoever has named a wrong position may still name the right one
            raise invalid(
                LAST_EVENT_ID, f"no event of this stream has the position {self.seen.position}"
            ) from None
        if delta.digest:
            self._ids.know(self._output.end, delta.digest)
        return piece

    @property
    def has_next(self) -> bool:
        """Whether the next piece is there already."""
        return self._stream is not None and self._stream.has_next

    def _prove_seen(self) -> None:
        """Raises ApiError when the stream is not the one whose beginning the client has."""
        if self._unproven is not None and self._delivery.position >= self._unproven.position:
            seen, self._unproven = self._unproven, None
            try:
                self._ids.check(seen)
            except ApiError:
                self._may_return = True  # to read it from its beginning
                raise

    def event_id(self, position: int) -> str:
        """Of an event with text up to this position; positions only go forward."""
        if self.seen is not None and position <= self.seen.position:  # which the stream may not have reached yet
            return event_id(self.id, self.seen.position, self.seen.mark)
        return self._ids.at(position)

    def drafted(self, piece: Piece) -> list[bool | None] | None:
        """Whether the draft model had guessed each of its tokens; None of a request that is not inspected."""
        flags = self._delivery.drafted
        end = piece.position - len(self.request.prompt)
        return None if flags is None else flags[end - len(piece.tokens) : end]

    def account(self) -> Account:
        """Figures up to now."""
        end = self._delivery.end
        return Account(
            prompt_tokens=len(self.request.prompt),
            output_tokens=len(self._delivery.tokens),
            ttft_ms=self._ttft_ms if self._enqueued_ms is None else self._ttft_on_redis_clock(self._enqueued_ms),
            first_ms=self._delivery.first_ms,
            last_ms=self._delivery.last_ms,
            stats=(end.stats if end is not None else None) or {},
            slo=self.slo,
            tpot_raised_from_ms=self.form.tpot_raised_from_ms or None,
            acceptance="typical" if self.request.typical else "exact",
        )

    def _ttft_on_redis_clock(self, enqueued_ms: float) -> float | None:
        """Of a request whose arrival another connection saw: from its queue entry to the first commit."""
        first_ms = self._delivery.first_ms
        return None if first_ms is None else max(0.0, first_ms - enqueued_ms)

    def close(self, error: str | None = None, *, may_return: bool = True) -> None:
        """Stop receiving; leave or end the request if it has not ended; close its span. Idempotent.

        Whoever was told that the request is refused does not come back for it: not ``may_return``.
        """
        if self._closed:
            return
        self._closed = True
        self._may_return &= may_return
        if self._stream is not None and self._opening is not None:
            self._parts.streams.close(self._stream)
            if self._delivery.end is None:
                self._leave(self._stream, self._opening)
                error = error or "cancelled"
        self._report(error)
        if self._grant is not None:
            self._give_back(self._grant)

    def _give_back(self, grant: Grant) -> None:
        """Its part of its tenant's limits, but for what it used, or uses on without this connection."""
        stream, end = self._stream, self._delivery.end
        is_opening = self._opening is not None and not self._opening.done()
        has_run = stream is not None and (stream.is_attached or is_opening)
        is_left = self._may_return or (stream is not None and stream.is_left)
        goes_on = has_run and (is_left if end is None else end.finish == "detached")
        grant.ended(self.id, tokens=len(self._delivery.tokens), has_run=has_run, goes_on=goes_on)

    def _leave(self, stream: OpenStream, opening: asyncio.Task[object]) -> None:
        async def attachment() -> int | None:
            await asyncio.wait([opening])
            return stream.origin.attachment if stream.is_attached else None

        grace_s = self._parts.grace_s if self._may_return or stream.is_left else None
        self._parts.bus.client_left(self.id, attachment, grace_s)

    @property
    def _has_failed(self) -> bool:
        return self._failure is not None

    def _report(self, error: str | None) -> None:
        error = error or self._failure
        account = self.account()
        met = None if account.met is None else account.met and not self._has_failed
        is_over = self._is_measured and (self.finish_reason is not None or self._has_failed)
        if is_over:
            self._measure(account, met)
        if is_over and self._parts.tracing.keeps_missed and (met is False or self._has_failed):
            moments = request_span.Moments(self._queued_ns, self._first_ns)
            allowance = self._parts.tracing.allowance
            request_span.keep(self._span, self._parts.telemetry, account.stats, moments, allowance)
        if self._span.is_recorded:
            self._describe(account, met, error)
        self._span.end(error=error)

    def _describe(self, account: Account, met: bool | None, error: str | None) -> None:
        self._span.set(request_span.asked(self.request, self.form, self._parts.tracing))
        self._span.set(request_span.told(account, self.finish_reason, met))
        if error is not None:
            self._span.set({signals.ERROR_TYPE: error})
        if self._first_ns:
            waits = {} if self._stream is None else self._stream.waits
            request_span.delivered(self._span, self._parts.telemetry, self._first_ns, waits)

    def _measure(self, account: Account, met: bool | None) -> None:
        """Count a request that finished, or that failed: it has not attained its SLO, whatever it had by then.

        One without a target has no SLO to attain: ``met`` is None.
        """
        telemetry, name = self._parts.telemetry, self.slo.name
        if not self._has_failed:
            self._parts.typical.observe(account.output_tokens)
        if account.ttft_ms is not None:
            telemetry.record(signals.TTFT, account.ttft_ms / 1_000, slo_class=name)
        if account.output_tokens > 1:
            telemetry.record(signals.TPOT, account.tpot_ms / 1_000, slo_class=name)
        if met is not None:
            for outcome in (True, False):  # both series are there from the first request on
                telemetry.add(signals.SLO_REQUESTS, outcome == met, slo_class=name, met=str(outcome).lower())
            telemetry.add(signals.GOODPUT_TOKENS, account.output_tokens * met, slo_class=name)
            self._parts.attainment.finished(name, met=met, tokens=account.output_tokens, now_s=self._clock())
            if not met:
                reason = "failed" if self._has_failed else account.missed_by
                telemetry.add(signals.SLO_MISSED, slo_class=name, reason=reason)
            if self.form.arm:
                self._parts.finished(self.form.arm, name, met)


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _finish_reason(end: TokenEvent) -> str:
    """OpenAI's reason. Raises ApiError for an end that is none."""
    if end.finish in FINISH_REASONS:
        return str(end.finish)
    if end.finish == "error":
        raise ApiError(500, end.error or "The request failed", code="generation_failed")
    if end.finish == "expired":
        raise admission.expired()
    if end.finish == "detached":
        raise ApiError(409, "Another connection has taken this stream over", code="detached")
    raise ApiError(409, "The request was cancelled", code="cancelled")
