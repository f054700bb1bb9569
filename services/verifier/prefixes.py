"""What the prefix cache does for this verifier's requests: found at admission, published with every step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from services.verifier.generation import Generation
from services.verifier.scheduler import NOTHING
from shared import signals
from shared.inference.prefixes import PrefixCache
from shared.telemetry import Telemetry

Int32 = npt.NDArray[np.int32]
Moves = tuple[Int32, Int32]  # source and destination slots


class KnownPrefixes:
    """Without a cache nothing is known and nothing is kept."""

    def __init__(self, cache: PrefixCache | None, telemetry: Telemetry) -> None:
        self._cache = cache
        self._telemetry = telemetry

    def find(self, generation: Generation) -> Int32:
        """Slots with the KV of its first tokens."""
        if self._cache is None or generation.prefix is None:
            return NOTHING
        return self._cache.find(generation.prefix, generation.tokens)

    def adopt(self, admitted: Sequence[tuple[Generation, Int32]]) -> Moves:
        """Each has what was found for it, once the KV is copied as returned, before any KV is written.

        One copy for all: what one was found to have may lie in the slots of another.
        """
        destinations = []
        for generation, source in admitted:
            num_known = generation.slots.length = len(source)
            destinations.append(generation.slots.slots(0, num_known))
            if generation.tally.num_steps == 0:
                generation.tally.num_cached_tokens = min(num_known, generation.num_prompt)
            self._telemetry.add(signals.PREFIX_TOKENS, num_known, outcome="hit")
            self._telemetry.add(signals.PREFIX_TOKENS, generation.num_pending, outcome="miss")
        return np.concatenate([source for _, source in admitted]), np.concatenate(destinations)

    def publish(self, fed: Iterable[tuple[Generation, int]]) -> None:
        """What was fed may be the beginning of others."""
        if self._cache is None:
            return
        for generation, _ in fed:
            if generation.prefix is not None:
                slots = generation.slots
                self._cache.publish(generation.prefix, generation.tokens, slots.length, slots.blocks)
