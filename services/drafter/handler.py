"""DraftRequest in, CandidateTrees out; between messages one chunk of warming, or of drafting ahead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from services.drafter.drafter import Drafted, Drafter, Group, drafted_columns
from services.drafter.worth import Mode, Worth
from shared import signals
from shared.messages import NEED_CONTEXT, NO_ROOM, TRACEPARENT, CandidateTrees, DraftRequest
from shared.telemetry import Telemetry, now_ns
from shared.topics import Keys
from shared.tracing import Attributes
from shared.worker import Outgoing

HOUSEKEEPING_S = 1.0
_STATES = {NEED_CONTEXT: "need_context", NO_ROOM: "no_room"}
AT_ONCE_S = 0.002  # a message read so soon after a slice came while that was at work
SILENT_S = 60.0  # longer than any pause between probes: that verifier has found another drafter


class DraftHandler:
    """Answers every DraftRequest with one CandidateTrees, in which every row returns.

    ``live_verifiers`` tells whose rows are worth keeping; it is asked once a second and may raise BusUnavailable.
    """

    def __init__(
        self,
        drafter: Drafter,
        keys: Keys,
        telemetry: Telemetry,
        live_verifiers: Callable[[], Iterable[str]],
        clock: Callable[[], float] = time.monotonic,
        *,
        draft_ahead: Mode = "off",
    ) -> None:
        self._drafter = drafter
        self._select = keys.select
        self._telemetry = telemetry
        self._live_verifiers = live_verifiers
        self._clock = clock
        self._next_housekeeping = clock() + HOUSEKEEPING_S
        self._heard: dict[Group, float] = {}
        self._worth = Worth(draft_ahead)
        self._slice = 0.0, 0.0  # end and length, s, of the last slice of drafting ahead

    @property
    def has_background_work(self) -> bool:
        """Rows to warm, outcomes to draft from, or verifiers to look after."""
        return self._drafter.has_cold_rows or self._drafter.ahead.has_work or self._is_housekeeping_due()

    def handle(self, message: DraftRequest, wait_ms: float = 0.0) -> list[Outgoing]:
        """One round of drafting; the request was sent ``wait_ms`` ago."""
        start, start_ns = self._clock(), now_ns()
        self._heard[message.verifier, message.ring] = start
        self._worth.heard((message.verifier, message.ring), start, _num_gained(message))
        self._drafter.ahead.is_on = self._worth.is_on
        parents = [traceparent.decode("ascii", "replace") for traceparent in message.traceparent.tolist()]
        with self._telemetry.batch(signals.DRAFTER_BATCH, parents) as span:
            drafted = self._drafter.draft(message)
            end_ns = now_ns()
            traces = [
                self._telemetry.child(
                    parent, signals.DRAFTER_DRAFT, start_ns, end_ns, _describe(message, drafted, row, wait_ms)
                )
                or parent
                for row, parent in zip(message.trace_row.tolist(), parents, strict=True)
            ]
            reply = _candidates(message, drafted, traces, draft_ms=(self._clock() - start) * 1000)
            if span.is_recorded:
                span.set(_describe_batch(reply, wait_ms))
        self._telemetry.once_out(self._account, reply, drafted, start)
        return [Outgoing(self._select, reply, span.traceparent)]

    def background(self) -> None:
        """One bounded slice: a warming chunk, a level ahead, or forgetting the rows nobody asks for any more."""
        if self._is_housekeeping_due():
            self._keep_house()
        elif self._drafter.has_cold_rows:
            self._drafter.warm()
        else:
            start = self._clock()
            self._drafter.ahead.advance()
            end = self._clock()
            self._slice = end, end - start
            self._telemetry.add(signals.DRAFT_AHEAD_TIME, end - start, part="spent")

    def _account(self, reply: CandidateTrees, drafted: Drafted, start: float) -> None:
        self._telemetry.record(signals.STEP_TIME, reply.draft_ms / 1000, part="draft")
        self._telemetry.add(signals.DRAFT_TOKENS_PROPOSED, len(reply.tokens))
        self._weigh(drafted, start)
        self._report()

    def _weigh(self, drafted: Drafted, start: float) -> None:
        """What drafting ahead has brought this round, and what it has cost."""
        end, length = self._slice
        waited_s = length / 2 if 0.0 <= start - end < AT_ONCE_S else 0.0  # it came somewhere within the slice
        saved_s = drafted.saved_ms / 1000
        self._worth.spent(saved_s=saved_s, cost_s=waited_s)
        self._telemetry.add(signals.DRAFT_AHEAD_TIME, saved_s, part="saved")
        self._telemetry.add(signals.DRAFT_AHEAD_TIME, waited_s, part="waited")
        for outcome, count in (
            ("hit", int((drafted.ahead > 0).sum())),
            ("miss", int((drafted.ahead == 0).sum())),
        ):
            self._telemetry.add(signals.DRAFT_AHEAD_ROWS, count, outcome=outcome)

    def _keep_house(self) -> None:
        now = self._clock()
        self._next_housekeeping = now + HOUSEKEEPING_S
        live, known = set(self._live_verifiers()), set(self._heard)
        self._heard = {
            group: heard for group, heard in self._heard.items() if group[0] in live and now - heard < SILENT_S
        }
        for group in known - self._heard.keys():
            self._worth.forget(group)
        self._drafter.keep(self._heard)
        self._report()

    def _report(self) -> None:
        self._telemetry.set(signals.KV_BLOCKS, self._drafter.num_blocks_used, state="used")
        self._telemetry.set(signals.KV_BLOCKS, self._drafter.num_blocks, state="total")
        self._telemetry.set(signals.DRAFT_AHEAD_ON, float(self._worth.is_on))
        self._telemetry.set(signals.DRAFT_AHEAD_GAIN, self._worth.gain)

    def _is_housekeeping_due(self) -> bool:
        return self._drafter.num_rows > 0 and self._clock() >= self._next_housekeeping


def _num_gained(message: DraftRequest) -> int:
    """Tokens that rows known before have gained."""
    return int((message.position - message.base)[message.base > 0].sum())


def _describe(message: DraftRequest, drafted: Drafted, row: int, wait_ms: float) -> Attributes:
    """A sampled row: how long its tree could get, and what it got."""
    held = int(drafted.acknowledged[row])
    return {
        signals.DEPTH: min(message.depth, int(message.max_depth[row])),
        signals.WIDTH: message.width,
        signals.NUM_NODES: len(drafted.trees[row]),
        signals.DRAFT_STATE: _STATES.get(held, "drafted"),
        signals.AHEAD_LEVELS: max(0, int(drafted.ahead[row])),
        signals.HOP_WAIT_MS: wait_ms,
    }


def _describe_batch(reply: CandidateTrees, wait_ms: float) -> Attributes:
    return {
        signals.STEP: reply.step,
        signals.NUM_ROWS: len(reply.request),
        signals.NUM_NODES: len(reply.tokens),
        signals.DEPTH: reply.depth,
        signals.HOP_WAIT_MS: wait_ms,
    }


def _candidates(message: DraftRequest, drafted: Drafted, traces: list[str], draft_ms: float) -> CandidateTrees:
    columns: dict[str, Any] = drafted_columns(drafted.trees)
    return CandidateTrees(
        verifier=message.verifier,
        drafter=message.drafter,
        ring=message.ring,
        step=message.step,
        depth=drafted.depth or message.depth,  # what was asked for where nobody could be drafted for yet
        width=message.width,
        prefill_tokens=message.prefill_tokens,
        prefill_slack_ms=message.prefill_slack_ms,
        profile=message.profile,
        overhead_ms=message.overhead_ms,
        calibration=message.calibration,
        draft_ms=draft_ms,
        level_ms=drafted.level_ms,
        request=message.request,
        epoch=message.epoch,
        position=message.position,
        acknowledged=drafted.acknowledged,
        temperature_bucket=message.temperature_bucket,
        tpot_ms=message.tpot_ms,
        elapsed_ms=message.elapsed_ms,
        committed=message.committed,
        weight=message.weight,
        max_depth=message.max_depth,
        warm=message.warm,
        trace_row=message.trace_row,
        traceparent=np.array([trace.encode() for trace in traces], TRACEPARENT) if traces else message.traceparent,
        inspect_row=message.inspect_row,
        **columns,
    )
