"""Collects what verification teaches about the draft, shares it with all verifiers, and reports its quality."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Protocol

from services.verifier.acceptance import Walk
from services.verifier.batch import Batch
from services.verifier.labels import Lesson, learn
from shared import signals
from shared.calibration import Calibration
from shared.errors import UnreadableMessage
from shared.label_store import Packed, unpack_labels
from shared.labels import LabelCounts
from shared.reliability import RAW, brier_score, calibration_error
from shared.telemetry import Telemetry

logger = logging.getLogger(__name__)

DOUBTED_SHARE = 1 / 16  # of the labels that are kept while calibration is off: it learns anew from what comes in
ENOUGH_WALKS = 128  # looked at together: per walk half the time of sixteen, and less than a millisecond in all


class LabelBus(Protocol):
    """The part of the bus that carries labels."""

    def exchange_labels(self, pair: str, counts: LabelCounts, kept: float = 1.0) -> Packed: ...


class Teacher:
    """Knows one model pair at a time, ``<draft>:<target>``, or none (""): then nothing is learned.

    Expectations are made with the labels of before: what the counters say is out of sample.
    """

    def __init__(
        self,
        bus: LabelBus,
        telemetry: Telemetry,
        told: Callable[[int, float, int], None] = lambda *_: None,
        heard: Callable[[Lesson], None] = lambda _: None,
    ) -> None:
        self._bus = bus
        self._telemetry = telemetry
        self._told = told  # of each lesson: trees, tokens that calibration expected of them, tokens accepted
        self._heard = heard  # the whole lesson
        self._turn_to("")

    def _turn_to(self, pair: str) -> None:
        self._pair = pair
        self.calibration_error: float | None = None  # of the labels that are known, None before there are any
        self._walks: list[tuple[int, Walk]] = []
        self._new = LabelCounts.none()
        self._packed: Packed = {}
        self._calibration = _untaught()

    def observe(self, pair: str, batch: Batch) -> None:
        """The walks of a step whose trees this pair's draft has made."""
        if pair != self._pair:
            self._turn_to(pair)
        if not pair:
            return
        self._walks += [
            (generation.temperature_bucket, walk) for generation, walk in batch.walks if len(walk.tree)
        ]
        if len(self._walks) >= ENOUGH_WALKS:
            self._learn()

    def _learn(self) -> None:
        walks, self._walks = self._walks, []
        lesson = learn(walks, self._calibration)
        self._new += lesson.counts
        self._told(lesson.num_trees, lesson.num_expected, lesson.num_accepted)
        self._heard(lesson)
        self._telemetry.add(signals.DRAFT_LABELS, lesson.counts.num_labels)
        self._telemetry.add(signals.ACCEPTED_EXPECTED, lesson.num_expected_raw, kind="raw")
        self._telemetry.add(signals.ACCEPTED_EXPECTED, lesson.num_expected, kind="calibrated")
        self._telemetry.add(signals.ACCEPTED_REALISED, lesson.num_accepted)

    def exchange(self, *, is_doubted: bool = False) -> None:
        """Give away the new labels and learn from everybody's; old ones fade soon while calibration `is_doubted`.

        Raises BusUnavailable. Labels that were on their way then are lost: sent again they might count twice.
        """
        if not self._pair:
            return
        self._learn()
        new, self._new = self._new, LabelCounts.none()
        packed = self._bus.exchange_labels(self._pair, new, DOUBTED_SHARE if is_doubted else 1.0)
        if packed == self._packed:
            return
        self._packed = packed
        try:
            counts = unpack_labels(packed)
        except UnreadableMessage as error:
            logger.warning("labels of %s are not used: %s", self._pair, error)
            counts = LabelCounts.none()
        self._calibration = Calibration.fit(counts)
        self._report(counts)

    def _report(self, counts: LabelCounts) -> None:
        for kind, chances in (("raw", RAW), ("calibrated", self._calibration.probabilities())):
            self.calibration_error = calibration_error(counts, chances)  # that of the last kind stays
            self._telemetry.set(signals.CALIBRATION_ERROR, self.calibration_error, kind=kind)
            self._telemetry.set(signals.BRIER_SCORE, brier_score(counts, chances), kind=kind)


@cache
def _untaught() -> Calibration:
    """Of a pair of which nothing is known yet; read only."""
    return Calibration.fit(LabelCounts.none())
