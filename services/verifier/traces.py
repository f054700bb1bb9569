"""The spans of sampled requests on this verifier; nothing here costs anything for the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.verifier.acceptance import Walk
from services.verifier.batch import Batch, Settlement
from services.verifier.bus import Claimed
from services.verifier.generation import Generation
from services.verifier.governor import Status
from shared import signals
from shared.messages import SelectedTrees
from shared.telemetry import OpenSpan, Telemetry, is_sampled, now_ns
from shared.tracing import Attributes


@dataclass(frozen=True, slots=True)
class Forward:
    """One forward pass: when it began and ended, and how long the profile and the clock say it took."""

    start_ns: int
    end_ns: int
    predicted_ms: float
    measured_ms: float

    @property
    def told(self) -> dict[str, float]:
        return {signals.PREDICTED_MS: self.predicted_ms, signals.MEASURED_MS: self.measured_ms}


@dataclass(frozen=True, slots=True)
class _Heard:
    """What a reply says of one row; ``traceparent`` is that of its selector.select span."""

    traceparent: str
    told: dict[str, float]
    wait_ms: float


@dataclass(slots=True)
class _Followed:
    """A sampled request that is served here."""

    parent: str
    prefill: OpenSpan | None = None
    num_chunks: int = 0
    iteration: OpenSpan | None = None
    heard: _Heard | None = None


@dataclass(frozen=True, slots=True)
class _Ending:
    """What one settled row's commit will close."""

    settlement: Settlement
    walk: Walk
    forward: Forward
    about: _Followed
    batch: dict[str, int]


class Traces:
    """Opens a `verifier.iteration` per sampled request when trees are asked for, and ends it at the commit.

    A step that nobody was asked for is an iteration too: the mode says why it is a plain one.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._followed: dict[str, _Followed] = {}
        self._ending: list[_Ending] = []

    def claimed(self, claimed: Claimed) -> None:
        """The request waited from its queue entry until now; one that is taken over has not waited here."""
        claim = claimed.claim
        if claim.traceparent is None or not is_sampled(claim.traceparent):
            return
        self._followed[claimed.request] = _Followed(claim.traceparent)
        is_take_over = bool(claim.journal) or claim.crash_claims > 0
        start_ms = claim.time_ms if is_take_over else claim.enqueued_ms
        told = {
            signals.TIER: claim.tier,
            signals.POSITION: claim.position,
            signals.IS_TAKE_OVER: is_take_over,
            signals.QUEUE_MS: claim.time_ms - start_ms,
        }
        start_ns, end_ns = int(start_ms * 1e6), int(claim.time_ms * 1e6)
        self._telemetry.child(claim.traceparent, signals.VERIFIER_QUEUE, start_ns, end_ns, told)

    def admitted(self, generations: Iterable[Generation]) -> None:
        """Their prefill begins."""
        for generation in generations:
            if (about := self._followed.get(generation.id)) is not None:
                about.prefill, about.num_chunks = self._telemetry.open(about.parent, signals.VERIFIER_PREFILL), 0
                about.prefill.set(
                    {
                        signals.GEN_AI_INPUT_TOKENS: generation.position,
                        signals.GEN_AI_CACHED_TOKENS: generation.slots.length,
                    }
                )

    def switched(self, status: Status, generations: Iterable[Generation]) -> None:
        """The mode has changed: told in the trace of each request that is served now."""
        at = now_ns()
        for generation in generations:
            if (about := self._followed.get(generation.id)) is not None:
                self._telemetry.child(about.parent, signals.VERIFIER_MODE_SWITCH, at, at, _mode(status))

    def asking(self, rows: Sequence[Generation], status: Status) -> list[tuple[int, str]]:
        """Open an iteration for each sampled decoding row; the (row, traceparent) pairs that travel along."""
        traces = []
        for index, generation in enumerate(rows) if self._followed else ():
            about = self._followed.get(generation.id)
            if about is not None and generation.is_decoding:
                self._void(about)
                about.iteration = self._telemetry.open(
                    about.parent, signals.VERIFIER_ITERATION, attributes=_mode(status)
                )
                traces.append((index, about.iteration.traceparent or about.parent))
        return traces

    def answered(self, reply: SelectedTrees, ring_ms: float, wait_ms: float) -> None:
        """Remember under which span of the selector each row is verified; the reply was sent ``wait_ms`` ago."""
        told = {signals.PREDICTED_MS: reply.predicted_ms, signals.RING_MS: ring_ms}
        for row, traceparent in zip(reply.trace_row.tolist(), reply.traceparent.tolist(), strict=True):
            about = self._followed.get(reply.request[row].tobytes().hex())
            if about is not None and about.iteration is not None:
                about.heard = _Heard(traceparent.decode("ascii", "replace"), told, wait_ms)

    def stepped(self, batch: Batch, forward: Forward) -> None:
        """A forward pass is over: its own span, and a chunk of each sampled prompt in it."""
        if not self._followed:
            return
        fed = [(about, size) for row, size in batch.fed if (about := self._followed.get(row.id)) is not None]
        if not fed:
            return
        step = self._telemetry.open_batch(
            signals.VERIFIER_STEP, [about.parent for about, _ in fed], forward.start_ns
        )
        told = {signals.NUM_ROWS: batch.plan.num_rows, signals.NUM_TOKENS: batch.num_tokens, **forward.told}
        step.end(forward.end_ns, told)
        for about, size in fed:
            if about.prefill is not None:
                about.num_chunks += 1
                parent, told_of_chunk = about.prefill.traceparent, {**told, signals.CHUNK_TOKENS: size}
                name = signals.VERIFIER_PREFILL_CHUNK
                self._telemetry.child(parent, name, forward.start_ns, forward.end_ns, told_of_chunk)

    def settled(self, settlements: Sequence[Settlement], batch: Batch, forward: Forward) -> None:
        """Set the iterations that end with the coming commit aside, before new ones are opened for the next."""
        if not self._followed:
            return
        walks = {generation.id: walk for generation, walk in batch.walks}
        size = {signals.NUM_ROWS: batch.plan.num_rows, signals.NUM_TOKENS: batch.num_tokens}
        for settlement in settlements:
            request = settlement.generation.id
            if (about := self._followed.get(request)) is not None:
                self._ending.append(_Ending(settlement, walks[request], forward, about, size))
                self._followed[request] = _Followed(about.parent)
                if settlement.finish is not None:
                    del self._followed[request]

    def committed(self, start_ns: int, end_ns: int, status: Status) -> None:
        """The commit of the settled rows was sent at ``start_ns`` and answered at ``end_ns``."""
        for ending in self._ending:
            if ending.about.prefill is not None:
                told = {signals.NUM_CHUNKS: ending.about.num_chunks, **_mode(status)}
                ending.about.prefill.end(end_ns, told)
            else:
                self._end_iteration(ending, start_ns, end_ns, status)
        self._ending.clear()

    def _end_iteration(self, ending: _Ending, start_ns: int, end_ns: int, status: Status) -> None:
        about, heard, forward = ending.about, ending.about.heard, ending.forward
        span, told = about.iteration, _gained(ending)
        if span is None:
            span = self._telemetry.open(about.parent, signals.VERIFIER_ITERATION, forward.start_ns, _mode(status))
            outcome = "plain"
        else:
            outcome = "missed" if heard is None else "speculative"
        if heard is not None:
            verified = {**told, **forward.told, **ending.batch, signals.HOP_WAIT_MS: heard.wait_ms}
            verified[signals.NUM_EXPECTED] = ending.walk.tree.expected_tokens
            self._telemetry.child(
                heard.traceparent, signals.VERIFIER_VERIFY, forward.start_ns, forward.end_ns, verified
            )
        self._telemetry.child(span.traceparent, signals.VERIFIER_COMMIT, start_ns, end_ns)
        span.set({**told, signals.OUTCOME: outcome, signals.MEASURED_MS: (end_ns - span.start_ns) / 1e6})
        span.end(end_ns, None if heard is None else heard.told)

    def forgotten(self, generation: Generation) -> None:
        """The request is gone from this verifier."""
        about = self._followed.pop(generation.id, None)
        if about is not None:
            self._void(about)
            if about.prefill is not None:
                about.prefill.end(attributes={signals.NUM_CHUNKS: about.num_chunks})

    def _void(self, about: _Followed) -> None:
        """End an iteration that no commit has ended."""
        span, about.iteration, about.heard = about.iteration, None, None
        if span is not None:
            span.end(attributes={signals.OUTCOME: "void"})


def _gained(ending: _Ending) -> dict[str, float]:
    row = ending.settlement.row
    return {
        signals.POSITION: row.start,
        signals.COMMITTED_TOKENS: row.end - row.start,
        signals.NUM_NODES: len(ending.walk.tree),
        signals.NUM_ACCEPTED: ending.settlement.num_accepted,
    }


def _mode(status: Status) -> Attributes:
    return {signals.MODE: status.mode.value, signals.MODE_REASON: status.reason}
