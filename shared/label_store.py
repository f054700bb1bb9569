"""Label counts in Redis: all verifiers of a model pair add to one hash, verifiers and selectors read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis import Redis

from shared.errors import UnreadableMessage
from shared.failures import bus_errors
from shared.labels import LabelCounts
from shared.topics import Keys

Packed = Mapping[bytes, bytes]
"""As Redis holds it: decimal temperature bucket → packed counts. Equal where nothing was added."""


def read_labels(client: Redis, keys: Keys, pair: str) -> Packed:
    """What is known of ``<draft>:<target>``; empty where nothing is. Raises BusUnavailable."""
    with bus_errors():
        packed: Any = client.hgetall(keys.calibration(pair))
    return dict(packed)


def unpack_labels(packed: Packed) -> LabelCounts:
    """The counts. Raises UnreadableMessage for what no verifier of this version has written."""
    if not all(bucket.isdigit() for bucket in packed):
        raise UnreadableMessage("label counts: a bucket is not a number")
    return LabelCounts.unpack({int(bucket): counts for bucket, counts in packed.items()})
