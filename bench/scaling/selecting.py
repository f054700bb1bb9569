"""How a verifier's decoding steps go: at the pace learned before, or by the project's real selection.

The real one runs the selector's own policy over the real messages and drawn texts (bench/simulator/ring.py), some
forty times as slow: for checks of what the pace gives, not for hours of many verifiers.
"""

from __future__ import annotations

import random
from typing import Protocol

from bench.scaling.drafters import Drafters
from bench.scaling.pace import Pace
from bench.simulator.acceptance import Text
from bench.simulator.baselines import run_plain
from bench.simulator.drafter import Drafted, SimDrafter
from bench.simulator.hardware import Hardware
from bench.simulator.request import SimRequest
from bench.simulator.ring import PLAIN_SHARE, Ring
from bench.simulator.systems import SystemSpec
from bench.simulator.world import World
from shared.errors import ConfigurationError

READ_AHEAD_MS = 250.0  # the longest wait for trees (ADASERVE_RING_DEADLINE_CAP_MS)


class Selecting(Protocol):
    """Of one verifier."""

    def decode(self, world: World, drafters: Drafters) -> None:
        """One step of a world that has decoding requests: trees, meanwhile prompts, then a pass over all."""


class Learned:
    """All rows alike: nodes and accepted tokens are the means of so many rows, urgency is in them."""

    def __init__(self, number: int, hardware: Hardware, pace: Pace, seed: int) -> None:
        self._number, self._hop_ms, self._pace = number, hardware.hop_ms, pace
        self._chance = random.Random(f"{seed}/{number}")

    def decode(self, world: World, drafters: Drafters) -> None:
        decoding = world.scheduler.decoding
        step = self._pace.at(len(decoding))
        trees_ms = drafters.answered_ms(self._number, world.now_ms, step.draft_ms)
        speculates = bool(drafters.live) and trees_ms - world.now_ms <= READ_AHEAD_MS
        if speculates:
            _feed(world, trees_ms + self._hop_ms)
        else:
            world.now_ms += PLAIN_SHARE * self._hop_ms
        counts = world.make_room(decoding, _nodes(decoding, step.nodes) if speculates else {})
        chunks = world.scheduler.plan_prefill(round(step.granted) if speculates else None)
        accepted = {request: self._drawn(step.accepted) for request in counts} if speculates else {}
        world.forward(counts, chunks, accepted)

    def _drawn(self, mean: float) -> int:
        """A whole number, ``mean`` on average."""
        return int(mean + self._chance.random())


class Real(Ring):
    """The simulator's ring beside others at the same drafters: trees come when the drafter has got round to them.

    It waits for them however long it takes. Without any drafter it decodes plainly.
    """

    def __init__(self, number: int, hardware: Hardware, spec: SystemSpec, text: Text) -> None:
        built = spec.build(hardware, SimDrafter(text))
        if not isinstance(built, Ring):
            raise ConfigurationError(f"--system {spec.name}: it has no selection of ours to run")
        vars(self).update(vars(built))
        self._number, self._waited_ms = number, 0.0
        self._live = Drafters()

    def decode(self, world: World, drafters: Drafters) -> None:
        self._live = drafters
        if drafters.live:
            self.turn(world)
            return
        world.now_ms += PLAIN_SHARE * world.hardware.hop_ms
        run_plain(world, world.scheduler.decoding, world.scheduler.plan_prefill())

    def _draft(self, world: World, decoding: list[SimRequest]) -> tuple[Drafted, float]:
        drafted, draft_ms = super()._draft(world, decoding)
        self._waited_ms = self._live.answered_ms(self._number, world.now_ms, draft_ms) - world.now_ms - draft_ms
        return drafted, draft_ms

    def _wait(self, world: World, until_ms: float, draft_ms: float) -> None:
        super()._wait(world, until_ms + self._waited_ms, draft_ms)


def _feed(world: World, until_ms: float) -> None:
    """Prompts while the trees are grown, as far as they fit."""
    while True:
        chunks = world.scheduler.plan_prefill()
        if not chunks or world.now_ms + world.forward_ms({}, chunks) > until_ms:
            break
        world.forward({}, chunks)
    world.now_ms = max(world.now_ms, until_ms)


def _nodes(decoding: list[SimRequest], mean: float) -> dict[SimRequest, int]:
    total = round(mean * len(decoding))
    least, more = divmod(total, len(decoding))
    return {request: least + (index < more) for index, request in enumerate(decoding)}
