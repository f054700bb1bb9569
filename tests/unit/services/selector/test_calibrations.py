"""Calibrations by model pair (services/selector/calibrations.py)."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from redis import Redis

from services.selector.calibrations import MAX_CACHED, CalibrationCache, redis_labels
from shared.errors import BusUnavailable
from shared.label_store import Packed
from shared.labels import SHAPE, LabelCounts
from shared.streams import connect
from shared.topics import Keys


def packed(rate: float) -> Packed:
    """A draft whose every guess is accepted at this rate."""
    counts = LabelCounts(np.full(SHAPE, 100.0), np.full(SHAPE, 100.0 * rate))
    return {str(bucket).encode(): data for bucket, data in counts.pack().items()}


class Shelf:
    """A loader over a dict that remembers what it was asked for, and a clock."""

    def __init__(self) -> None:
        self.found: dict[str, Packed] = {}
        self.asked: list[str] = []
        self.now = 0.0
        self.cache = CalibrationCache(self.load, clock=lambda: self.now)

    def load(self, pair: str) -> Packed:
        self.asked.append(pair)
        return self.found.get(pair, {})

    def work(self) -> None:
        while self.cache.is_due:
            self.cache.refresh()


def test_a_pair_is_refreshed_once_a_second_while_it_is_used() -> None:
    shelf = Shelf()
    for shelf.now in (0.0, 0.5, 0.9, 1.0, 1.5, 7.0):
        shelf.cache.get("d:t")
        shelf.work()
    shelf.now = 9.0
    shelf.work()
    assert shelf.asked == ["d:t"] * 3  # at 0, 1 and 7


def test_nothing_is_looked_up_without_a_pair_or_need() -> None:
    shelf = Shelf()
    assert shelf.cache.get("") is None
    shelf.work()
    shelf.cache.refresh()
    assert shelf.asked == []


def test_a_calibration_comes_with_its_labels_and_stays_until_they_change() -> None:
    shelf = Shelf()
    assert shelf.cache.get("d:t") is None
    shelf.work()
    assert shelf.cache.get("d:t") is None
    shelf.found["d:t"] = packed(0.3)
    shelf.now = 1.0
    shelf.work()
    first = shelf.cache.get("d:t")
    assert first is not None
    assert np.abs(first.probabilities() - 0.3).mean() < 0.05
    shelf.now = 2.0
    shelf.work()
    assert shelf.cache.get("d:t") is first
    shelf.found["d:t"] = packed(0.9)
    shelf.now = 3.0
    shelf.work()
    assert shelf.cache.get("d:t") is not first


@pytest.mark.parametrize("rubbish", [{b"0": b"rubbish"}, {b"zero": b""}])
def test_unreadable_labels_are_the_identity(rubbish: Packed, caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    shelf.found["d:t"] = rubbish
    with caplog.at_level(logging.WARNING):
        for shelf.now in (0.0, 1.0, 2.0):
            assert shelf.cache.get("d:t") is None
            shelf.work()
    assert len(caplog.records) == 1


def test_pairs_are_bounded() -> None:
    shelf = Shelf()
    for number in range(MAX_CACHED + 5):
        shelf.cache.get(str(number))
    shelf.work()
    assert len(shelf.asked) == MAX_CACHED


def test_labels_are_read_from_redis(redis_client: Redis, keys: Keys) -> None:
    load = redis_labels(redis_client, keys)
    assert load("d:t") == {}
    redis_client.hset(keys.calibration("d:t"), mapping=dict(packed(0.5)))
    assert load("d:t") == packed(0.5)
    with pytest.raises(BusUnavailable):
        redis_labels(connect("redis://127.0.0.1:1"), keys)("d:t")
