"""The spans of sampled requests on this verifier; nothing here costs anything for the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.verifier.batch import Settlement
from services.verifier.bus import Claimed
from services.verifier.generation import Generation
from services.verifier.governor import Status
from shared import signals
from shared.messages import SelectedTrees
from shared.telemetry import OpenSpan, Telemetry, is_sampled, now_ns


@dataclass(frozen=True, slots=True)
class _Ending:
    """What one settled row's commit will close."""

    settlement: Settlement
    iteration: OpenSpan | None
    selected: str | None
    prefill_ns: int | None


class Traces:
    """Opens a `verifier.iteration` per sampled request when trees are asked for, and ends it at the commit."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._iterations: dict[str, OpenSpan] = {}
        self._selected: dict[str, str] = {}  # request -> traceparent of its selector.select span
        self._prefill_ns: dict[str, int] = {}
        self._ending: list[_Ending] = []

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

    def switched(self, status: Status, generations: Iterable[Generation]) -> None:
        """The mode has changed: told in the trace of each request that is served now."""
        for generation in generations:
            at = now_ns()
            parent = generation.origin.traceparent
            self._telemetry.child(parent, signals.VERIFIER_MODE_SWITCH, at, at, _mode(status))

    def asking(self, rows: Sequence[Generation], status: Status) -> list[tuple[int, str]]:
        """Open an iteration for each sampled decoding row; the (row, traceparent) pairs that travel along."""
        traces = []
        for index, generation in enumerate(rows):
            if generation.is_decoding and is_sampled(generation.origin.traceparent):
                self._void(generation.id)
                parent = generation.origin.traceparent
                span = self._telemetry.open(parent, signals.VERIFIER_ITERATION, attributes=_mode(status))
                self._iterations[generation.id] = span
                if span.traceparent is not None and is_sampled(span.traceparent):
                    traces.append((index, span.traceparent))
        return traces

    def answered(self, reply: SelectedTrees) -> None:
        """Remember under which span of the selector each row is verified."""
        for row, traceparent in zip(reply.trace_row.tolist(), reply.traceparent.tolist(), strict=True):
            request = reply.request[row].tobytes().hex()
            if request in self._iterations:
                self._selected[request] = traceparent.decode("ascii", "replace")

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """Set the iterations that end with the coming commit aside, before new ones are opened for the next."""
        for settlement in settlements:
            request = settlement.generation.id
            self._ending.append(
                _Ending(
                    settlement,
                    self._iterations.pop(request, None),
                    self._selected.pop(request, None),
                    self._prefill_ns.pop(request, None),
                )
            )

    def committed(self, start_ns: int, end_ns: int, status: Status) -> None:
        """The forward of the settled rows began at ``start_ns``, their commit was answered at ``end_ns``."""
        for ending in self._ending:
            row = ending.settlement.row
            told = {
                signals.POSITION: row.start,
                signals.COMMITTED_TOKENS: row.end - row.start,
                signals.NUM_ACCEPTED: ending.settlement.num_accepted,
            }
            parent = ending.settlement.generation.origin.traceparent
            if ending.prefill_ns is not None:
                name = signals.VERIFIER_PREFILL
                self._telemetry.child(parent, name, ending.prefill_ns, end_ns, _mode(status))
            if ending.iteration is not None:
                if ending.selected is not None:
                    self._telemetry.child(ending.selected, signals.VERIFIER_VERIFY, start_ns, end_ns, told)
                ending.iteration.end(end_ns, told)
        self._ending.clear()

    def forgotten(self, generation: Generation) -> None:
        """The request is gone from this verifier."""
        self._void(generation.id)
        self._selected.pop(generation.id, None)
        self._prefill_ns.pop(generation.id, None)

    def _void(self, request: str) -> None:
        """End an iteration that no commit has ended."""
        span = self._iterations.pop(request, None)
        if span is not None:
            span.end()


def _mode(status: Status) -> dict[str, str]:
    return {signals.MODE: status.mode.value, signals.MODE_REASON: status.reason}
