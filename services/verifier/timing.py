"""What forward passes take: told to those who had them, learned from, and published for selectors. Pure."""

from __future__ import annotations

from services.verifier.batch import Batch
from services.verifier.tally import Timekeeper
from shared.latency import LatencyModel
from shared.latency_refit import Refit

PROFILE_MOVED = 0.03  # relative change of predictions that is worth a new version for the selectors


class Timing:
    """``profile`` is the model as published, ``time`` the running totals of where a verifier's time goes."""

    def __init__(self, table: LatencyModel) -> None:
        self.profile = table
        self.time = Timekeeper()
        # The start-up sweep may have shared the machine with other starts; no step is faster than one token's.
        self.fastest_step_ms = table.predict_ms(1, rows=1)
        self._refit = Refit(table)

    def renew_profile(self) -> LatencyModel:
        """What is to be published now: a new version where predictions have moved."""
        if self._refit.differs_from(self.profile) > PROFILE_MOVED:
            self.profile = self._refit.model
        return self.profile

    def expected_ms(self, tokens: int, *, context_tokens: int, rows: int) -> float:
        """By all that was learned, published or not."""
        return self._refit.predict_ms(tokens, context_tokens=context_tokens, rows=rows)

    def published_ms(self, batch: Batch) -> float:
        """What the published profile says of a forward pass."""
        tokens, context_tokens, rows = batch.operation
        return self.profile.predict_ms(tokens, context_tokens=context_tokens, rows=rows)

    def passed(self, batch: Batch, *, predicted_ms: float, measured_ms: float) -> None:
        """A forward pass is over: who had what of it."""
        for generation, _ in batch.prefilled:
            generation.tally.fed(measured_ms)
        if not batch.walks:
            self.time.prefilled(measured_ms)
            return
        tokens, context_tokens, rows = batch.operation
        self.time.drew(
            measured_ms,
            predicted_ms=predicted_ms,
            alone_ms=self.expected_ms(1, context_tokens=context_tokens // rows, rows=1),
            rows=rows,
            tokens=tokens,
            prompt_tokens=sum(size for _, size in batch.prefilled),
        )

    def learn(self, batch: Batch, *, predicted_ms: float, measured_ms: float) -> float:
        """From what a forward pass took, planning included; the error of the prediction, relative."""
        self._refit.observe(*batch.operation, measured_ms)
        self.fastest_step_ms = min(self.fastest_step_ms, measured_ms)
        return abs(predicted_ms - measured_ms) / max(measured_ms, 1e-3)
