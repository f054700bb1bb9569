"""Calibrations of the model pairs that ask for trees, fitted from their label counts in Redis once a second."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis

from shared.calibration import Calibration
from shared.errors import UnreadableMessage
from shared.label_store import Packed, read_labels, unpack_labels
from shared.topics import Keys

logger = logging.getLogger(__name__)

MAX_CACHED = 16  # model pairs of one cell
REFRESH_S = 1.0

LoadLabels = Callable[[str], Packed]


@dataclass(slots=True)
class _Known:
    packed: Packed
    calibration: Calibration | None = None
    next_refresh: float = 0.0
    is_used: bool = True


class CalibrationCache:
    """Calibrations by pair. Reading and fitting are background work: a batch never waits for them."""

    def __init__(self, load: LoadLabels, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def get(self, pair: str) -> Calibration | None:
        """What is known by now; None, the identity, while nothing is. A verifier without a pair sends ""."""
        if not pair:
            return None
        known = self._known.setdefault(pair, _Known({}))
        known.is_used = True
        self._known.move_to_end(pair)
        if len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)
        return known.calibration

    @property
    def is_due(self) -> bool:
        """Whether a pair that was used since its last refresh may be refreshed."""
        return self._due() is not None

    def refresh(self) -> None:
        """Read one pair that is due, and fit it if its counts have changed. Raises BusUnavailable."""
        pair = self._due()
        if pair is None:
            return
        known = self._known[pair]
        known.next_refresh, known.is_used = self._clock() + REFRESH_S, False
        packed = self._load(pair)
        if packed == known.packed:
            return
        known.packed, known.calibration = packed, None
        try:
            known.calibration = Calibration.fit(unpack_labels(packed)) if packed else None
        except UnreadableMessage as error:
            logger.warning("calibration %s is not used: %s", pair, error)

    def _due(self) -> str | None:
        now = self._clock()
        due = (pair for pair, known in self._known.items() if known.is_used and now >= known.next_refresh)
        return next(due, None)


def redis_labels(client: Redis, keys: Keys) -> LoadLabels:
    """Reads `calibration:<pair>`. The result raises BusUnavailable while Redis is away."""
    return lambda pair: read_labels(client, keys, pair)
