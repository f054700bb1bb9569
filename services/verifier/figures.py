"""What a verifier tells of itself: steps as they end, its state each second, its last seconds to who looks."""

from __future__ import annotations

from collections.abc import Sequence

from services.verifier.batch import Batch, Settlement
from services.verifier.generation import Generation
from services.verifier.governor import Status
from services.verifier.live import Recent, Standing, snapshot
from services.verifier.scheduler import Scheduler
from services.verifier.speculator import Speculator
from shared import signals
from shared.inspection import LiveVerifier
from shared.modes import Mode
from shared.telemetry import Telemetry


class Figures:
    """Counters and gauges for Prometheus, and sums over the last seconds (`recent`) for `/admin/live`."""

    def __init__(
        self, telemetry: Telemetry, scheduler: Scheduler[Generation], speculator: Speculator, recent: Recent
    ) -> None:
        self._telemetry = telemetry
        self._scheduler = scheduler
        self._speculator = speculator
        self._recent = recent

    def stepped(self, batch: Batch, settlements: Sequence[Settlement], now_ms: float) -> None:
        """A forward pass and what it verified; its tokens count when they are committed."""
        sizes = [len(walk.tree) for _, walk in batch.walks if len(walk.tree)]
        num_nodes, num_accepted = sum(sizes), sum(settlement.num_accepted for settlement in settlements)
        kind = "speculative" if num_nodes else "bare" if batch.walks else "prefill"
        self._telemetry.add(signals.STEPS, kind=kind)
        self._telemetry.record(signals.STEP_TOKENS, batch.num_tokens)
        self._telemetry.add(signals.DRAFT_TREES, len(sizes))
        self._telemetry.add(signals.DRAFT_TOKENS_ACCEPTED, num_accepted)
        self._telemetry.add(signals.TOKENS_WASTED, num_nodes - num_accepted)
        taken = self._speculator.taken
        self._recent.stepped(now_ms, selected=num_nodes, accepted=num_accepted, taken=taken)

    def committed(self, settlements: Sequence[Settlement], lost: Sequence[Settlement]) -> None:
        """The tokens and the ends of rows that Redis took, each once, also where only a repetition was answered.

        Not of those that were ``lost``: cancelled, given up, or another verifier's.
        """
        gone = {settlement.generation for settlement in lost}
        taken = [settlement for settlement in settlements if settlement.generation not in gone]
        num_tokens = sum(settlement.row.end - settlement.row.start for settlement in taken)
        self._telemetry.add(signals.TOKENS_COMMITTED, num_tokens)
        self._recent.committed(num_tokens)
        for settlement in taken:
            if settlement.finish is not None:
                self._telemetry.add(signals.REQUESTS_FINISHED, reason=settlement.finish)

    def report(self, status: Status) -> None:
        """The state as it is now."""
        scheduler, telemetry = self._scheduler, self._telemetry
        telemetry.set(signals.REQUESTS, len(scheduler.decoding), state="running")
        telemetry.set(signals.REQUESTS, len(scheduler.prefilling), state="prefilling")
        telemetry.set(signals.REQUESTS, len(scheduler.waiting), state="waiting")
        is_plain = status.mode is not Mode.SPECULATIVE
        telemetry.set(signals.MODE_SPECULATIVE, float(not is_plain))
        for reason in signals.MODE_REASONS:
            holds = is_plain and reason == status.reason
            telemetry.set(signals.FULL_VERIFICATION, float(holds), reason=reason)
        telemetry.set(signals.BREAKER_OPEN, float(self._speculator.is_open), ring="0")
        telemetry.set(signals.KV_BLOCKS, scheduler.num_blocks_used, state="used")
        telemetry.set(signals.KV_BLOCKS, scheduler.num_blocks, state="total")

    def snapshot(
        self, status: Status, *, since_ms: float, calibration_error: float | None, now_ms: float, redis_ms: float
    ) -> LiveVerifier:
        """For whoever looks at the cell; ``since_ms`` and ``redis_ms`` are of Redis' clock."""
        standing = Standing(
            status=status,
            since_ms=since_ms,
            drafter=self._speculator.drafter,
            calibration_error=calibration_error,
            redis_ms=redis_ms,
        )
        return snapshot(self._scheduler, self._recent, standing, now_ms)
