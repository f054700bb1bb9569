"""CandidateTrees in, SelectedTrees out. Stateless but for a cache of latency models."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from services.selector import described, inspection
from services.selector.calibrations import CalibrationCache, LoadLabels
from services.selector.control import PolicySettings
from services.selector.policy import Decision, decide
from services.selector.profiles import LoadProfile, ProfileCache
from shared import signals
from shared.inspect_store import note
from shared.messages import SLO_PHASE, TRACEPARENT, CandidateTrees, SelectedTrees
from shared.telemetry import Telemetry, now_ns
from shared.topics import Keys
from shared.worker import Outgoing


class Selector:
    """Answers every message with one SelectedTrees to its verifier; refreshes calibrations between messages.

    Without ``load_labels`` the draft's own probabilities count.
    """

    def __init__(
        self,
        keys: Keys,
        settings: PolicySettings,
        load_profile: LoadProfile,
        telemetry: Telemetry,
        load_labels: LoadLabels | None = None,
    ) -> None:
        self._keys = keys
        self._settings = settings
        self._profiles = ProfileCache(load_profile)
        self._calibrations = None if load_labels is None else CalibrationCache(load_labels)
        self._telemetry = telemetry

    @property
    def has_background_work(self) -> bool:
        """Whether a calibration is due."""
        return self._calibrations is not None and self._calibrations.is_due

    def handle(self, message: CandidateTrees, wait_ms: float = 0.0) -> list[Outgoing]:
        """The nodes to verify; the candidates were sent ``wait_ms`` ago.

        Raises BusUnavailable when a table must be read and Redis is away.
        """
        parents = [parent.decode("ascii", "replace") for parent in message.traceparent.tolist()]
        with self._telemetry.batch(signals.SELECTOR_BATCH, parents) as span:
            table = self._profiles.get(message.verifier, message.profile)
            calibration = None if self._calibrations is None else self._calibrations.get(message.calibration)
            start_ns, started = now_ns(), time.perf_counter()
            decision = decide(message, table, self._settings, calibration)
            elapsed = time.perf_counter() - started
            if span.is_recorded:
                span.set(described.batch(message, decision, wait_ms))
            end_ns = start_ns + round(elapsed * 1e9)
            traceparents = self._trace(message, decision, parents, start_ns, end_ns, wait_ms)
            self._telemetry.once_out(self._measure, decision, elapsed)
            reply = _reply(message, decision, traceparents)
            inspected = inspection.trees(message, decision, calibration, select_ms=elapsed * 1_000)
            notes = [command for request, tree in inspected for command in note(self._keys, request, tree)]
            return [Outgoing(self._keys.verify(message.verifier), reply, span.traceparent, notes)]

    def background(self) -> None:
        """Refresh one calibration. Raises BusUnavailable."""
        if self._calibrations is not None:
            self._calibrations.refresh()

    def _trace(
        self,
        message: CandidateTrees,
        decision: Decision,
        parents: list[str],
        start_ns: int,
        end_ns: int,
        wait_ms: float,
    ) -> list[str]:
        """One span for each sampled request, in its own trace; what the verifier's spans hang below."""
        children = []
        for row, parent in zip(message.trace_row.tolist(), parents, strict=True):
            told = described.row(message, decision, row, wait_ms)
            child = self._telemetry.child(parent, signals.SELECTOR_SELECT, start_ns, end_ns, told)
            children.append(child or parent)
        return children

    def _measure(self, decision: Decision, elapsed: float) -> None:
        num_slo_nodes = int((decision.selection.phase == SLO_PHASE).sum())
        num_throughput_nodes = decision.selection.num_nodes - num_slo_nodes
        self._telemetry.record(signals.STEP_TIME, elapsed, part="select")
        self._telemetry.record(signals.BUDGET_USED, decision.budget_used)
        self._telemetry.add(signals.DRAFT_TOKENS_SELECTED, num_slo_nodes, phase="slo")
        self._telemetry.add(signals.DRAFT_TOKENS_SELECTED, num_throughput_nodes, phase="throughput")


def _reply(message: CandidateTrees, decision: Decision, traceparents: list[str]) -> SelectedTrees:
    selection = decision.selection
    return SelectedTrees(
        verifier=message.verifier,
        drafter=message.drafter,
        ring=message.ring,
        step=message.step,
        budget_used=decision.budget_used,
        predicted_ms=decision.predicted_ms,
        draft_ms=message.draft_ms,
        prefill_tokens=decision.prefill_tokens,
        depth=decision.depth,
        width=decision.width,
        stop_value=decision.stop_value,
        request=message.request,
        epoch=message.epoch,
        position=message.position,
        acknowledged=message.acknowledged,
        weight=decision.weight,
        late=selection.late,
        tree_offsets=selection.offsets,
        tokens=message.tokens[selection.nodes],
        parents=selection.parents,
        logprobs=message.logprobs[selection.nodes],
        phase=selection.phase,
        trace_row=message.trace_row,
        traceparent=_column(traceparents) if traceparents else message.traceparent,
    )


def _column(traceparents: list[str]) -> NDArray[np.bytes_]:
    return np.array([text.encode("ascii", "replace") for text in traceparents], TRACEPARENT)
