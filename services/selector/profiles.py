"""Latency models of the verifiers, read from Redis and kept by version."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

from redis import Redis

from shared.errors import UnreadableMessage
from shared.failures import bus_errors
from shared.functions import execute
from shared.latency import LatencyModel
from shared.topics import Keys

logger = logging.getLogger(__name__)

MAX_CACHED = 256  # a version is a content hash: replicas of one deployment share a few

LoadProfile = Callable[[str, str], LatencyModel | None]


class ProfileCache:
    """Tables by version. A missing one is asked for each time: the verifier may still be writing it."""

    def __init__(self, load: LoadProfile) -> None:
        self._load = load
        self._tables: OrderedDict[str, LatencyModel] = OrderedDict()
        self._reported: tuple[str, str] | None = None

    def get(self, verifier: str, version: str) -> LatencyModel | None:
        """The table, or None when Redis has none that can be read (reported once in a row).

        A verifier that has not measured yet sends no version.
        """
        if not version:
            return None
        table = self._tables.get(version)
        if table is None and (table := self._load(verifier, version)) is not None:
            self._tables[version] = table
            if len(self._tables) > MAX_CACHED:
                self._tables.popitem(last=False)
        if table is None and self._reported != (verifier, version):
            self._reported = (verifier, version)
            logger.warning("no latency model %s of verifier %s: no speculation", version, verifier)
        return table


def redis_loader(client: Redis, keys: Keys) -> LoadProfile:
    """Reads `profile:<verifier>:<version>`. The result raises BusUnavailable while Redis is away."""

    def load(verifier: str, version: str) -> LatencyModel | None:
        with bus_errors():
            data = execute(client, ("GET", keys.profile(verifier, version)))
        if data is None:
            return None
        try:
            return LatencyModel.from_bytes(data)
        except UnreadableMessage as error:
            logger.warning("latency model %s of verifier %s: %s", version, verifier, error)
            return None

    return load
