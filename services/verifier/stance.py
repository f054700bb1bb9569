"""How requests are decoded now, and since when: operators' orders and the watch decide, a change is told once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from services.verifier.acceptance import Walk
from services.verifier.generation import Generation
from services.verifier.governor import NO_DRAFTER, Status
from services.verifier.speculator import Speculator
from services.verifier.traces import Traces
from shared import signals
from shared.modes import Mode, Orders
from shared.telemetry import Telemetry
from shared.tree import expected_tokens

logger = logging.getLogger(__name__)


class OrdersBus(Protocol):
    """The part of the bus that carries operators' orders."""

    def orders(self) -> Orders | None: ...


class Stance:
    """The verifier's ``status``, and since when it has its mode: ``since_ms`` of Redis' clock."""

    def __init__(
        self, bus: OrdersBus, speculator: Speculator, telemetry: Telemetry, traces: Traces, redis_ms: float
    ) -> None:
        self._bus = bus
        self._speculator = speculator
        self._telemetry = telemetry
        self._traces = traces
        self.status = Status(Mode.FULL_VERIFICATION, NO_DRAFTER)
        self.since_ms = redis_ms

    def obey(self, running: Sequence[Generation]) -> None:
        """Operators' orders count from this turn on. Raises BusUnavailable."""
        orders = self._bus.orders()
        if orders is not None:
            self._speculator.governor.orders = orders
            self._speculator.rule(running)

    def watch(
        self,
        walks: Sequence[tuple[Generation, Walk]],
        running: Sequence[Generation],
        *,
        now_ms: float,
        redis_ms: float,
    ) -> None:
        """What a step's trees say about the draft; from the next turn on it counts.

        A request that bends the logits is no witness: its draft breaks promises, whatever the model pair is worth.
        """
        watch = self._speculator.governor.watch
        told = [walk for _, walk in walks if len(walk.tree) and walk.is_free]
        for promised, walk in zip(expected_tokens([walk.tree for walk in told]), told, strict=True):
            watch.verified(promised, len(walk.path))
        if watch.turn(now_ms):
            self._speculator.rule(running)
        self.note(running, redis_ms)

    def note(self, running: Sequence[Generation], redis_ms: float) -> None:
        """Tell a change of mode: in the log, in the metrics, and in the trace of each request that runs."""
        status, before = self._speculator.status, self.status
        self.status = status
        if status.mode is before.mode:
            return
        reason = status.reason or before.reason
        if status.mode is Mode.SPECULATIVE:
            logger.info("speculation is on (was: %s)", before.reason)
        else:
            logger.warning("speculation is off: %s", reason)
        self._telemetry.add(signals.MODE_SWITCHES, reason=reason)
        self._traces.switched(Status(status.mode, reason), running)
        self.since_ms = redis_ms
