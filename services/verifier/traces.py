"""The spans of sampled requests on this verifier; nothing here costs anything for the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.verifier.batch import Settlement
from services.verifier.bus import Claimed
from services.verifier.generation import Generation
from shared import signals
from shared.messages import SelectedTrees
from shared.telemetry import OpenSpan, Telemetry, is_sampled, now_ns


class Traces:
    """Opens a `verifier.iteration` per sampled request when trees are asked for, and ends it at the commit."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._iterations: dict[str, OpenSpan] = {}
        self._selected: dict[str, str] = {}  # request -> traceparent of its selector.select span
        self._prefill_ns: dict[str, int] = {}

    def claimed(self, claimed: Claimed) -> None:
        """The request waited from its queue entry until now."""
        parent = claimed.claim.traceparent
        if is_sampled(parent):
            start_ns, end_ns = int(claimed.claim.enqueued_ms * 1e6), int(claimed.claim.time_ms * 1e6)
            self._telemetry.child(parent, signals.VERIFIER_QUEUE, start_ns, end_ns)

    def admitted(self, generations: Iterable[Generation]) -> None:
        """Their prefill begins."""
        for generation in generations:
            if is_sampled(generation.origin.traceparent):
                self._prefill_ns[generation.id] = now_ns()

    def asking(self, rows: Sequence[Generation]) -> list[tuple[int, str]]:
        """Open an iteration for each sampled decoding row; the (row, traceparent) pairs that travel along."""
        traces = []
        for index, generation in enumerate(rows):
            if generation.is_decoding and is_sampled(generation.origin.traceparent):
                self._end_iteration(generation.id, {})  # one that was voided
                span = self._telemetry.open(generation.origin.traceparent, signals.VERIFIER_ITERATION)
                self._iterations[generation.id] = span
                if span.traceparent is not None and is_sampled(span.traceparent):
                    traces.append((index, span.traceparent))
        return traces

    def answered(self, reply: SelectedTrees) -> None:
        """Remember under which span of the selector each row is verified."""
        for row, traceparent in zip(reply.trace_row.tolist(), reply.traceparent.tolist(), strict=True):
            self._selected[reply.request[row].tobytes().hex()] = traceparent.decode("ascii", "replace")

    def committed(self, settlements: Sequence[Settlement], start_ns: int, end_ns: int) -> None:
        """The forward began at ``start_ns``, the commit was answered at ``end_ns``."""
        if not (self._iterations or self._prefill_ns):
            return
        for settlement in settlements:
            generation = settlement.generation
            told = {
                signals.POSITION: settlement.row.start,
                signals.COMMITTED_TOKENS: settlement.row.end - settlement.row.start,
                signals.NUM_ACCEPTED: settlement.num_accepted,
            }
            prefill_ns = self._prefill_ns.pop(generation.id, None)
            if prefill_ns is not None:
                self._telemetry.child(generation.origin.traceparent, signals.VERIFIER_PREFILL, prefill_ns, end_ns)
            selected = self._selected.pop(generation.id, None)
            if generation.id in self._iterations and selected is not None:
                self._telemetry.child(selected, signals.VERIFIER_VERIFY, start_ns, end_ns, told)
            self._end_iteration(generation.id, told)

    def forgotten(self, generation: Generation) -> None:
        """The request is gone from this verifier."""
        self._end_iteration(generation.id, {})
        self._selected.pop(generation.id, None)
        self._prefill_ns.pop(generation.id, None)

    def _end_iteration(self, request: str, told: dict[str, int]) -> None:
        span = self._iterations.pop(request, None)
        if span is not None:
            span.end(attributes=told)
