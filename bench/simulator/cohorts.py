"""Two rings: the running requests in two cohorts, one of which is drafted for while the other is verified.

The drafter works for one cohort at a time; a step verifies the cohort whose trees come first. A request's
iteration lasts a cycle of both, which its A(r) must count: what a DraftRequest calls overhead is measured from
sending to commit, as the verifier measures it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.simulator.baselines import run_plain
from bench.simulator.drafter import Drafted, SimDrafter
from bench.simulator.request import SimRequest
from bench.simulator.ring import PLAIN_SHARE, Control, Ring, Teaching
from bench.simulator.world import World
from services.selector.control import PolicySettings
from services.verifier.overhead import Overhead
from services.verifier.ring import Rest
from shared.latency import LatencyModel
from shared.messages import CandidateTrees

FORGETTING = 0.05
LEAST_GAIN = 1.03


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A DraftRequest on its way: for whom, what comes back, and when."""

    rows: list[SimRequest]
    positions: list[int]
    drafted: Drafted
    message: CandidateTrees
    draft_ms: float
    sent_ms: float
    ready_ms: float


@dataclass(slots=True, eq=False)
class Cohort:
    """One ring's requests."""

    control: Control
    overhead: Overhead = field(default_factory=Overhead)
    asked: Asked | None = None
    rest: Rest = field(default_factory=Rest)


class TwoRings(Ring):
    """AdaServe with two rings; with ``is_auto`` only while drafting and hops take enough of a step."""

    def __init__(
        self,
        drafter: SimDrafter,
        settings: PolicySettings,
        model: LatencyModel,
        teaching: Teaching | None,
        *,
        depth: int,
        width: int,
        hop_ms: float,
        is_auto: bool,
    ) -> None:
        super().__init__(drafter, settings, model, teaching, depth=depth, width=width, hop_ms=hop_ms)
        self._cohorts = (Cohort(Control(depth, width)), Cohort(Control(depth, width)))
        self._of: dict[SimRequest, Cohort] = {}
        self._drafter_free_ms = 0.0
        self._auto = is_auto
        self._gain = 1.0

    def turn(self, world: World) -> None:
        decoding = world.scheduler.decoding
        if not decoding:
            for cohort in self._cohorts:
                cohort.asked = None
            world.forward({}, world.scheduler.plan_prefill())
            return
        self._assign(decoding)
        for cohort in self._cohorts:
            self._check(cohort, world)
        for cohort in self._cohorts:
            rows = [request for request in decoding if self._of[request] is cohort]
            if rows and cohort.asked is None and cohort.rest.is_over:
                self._ask(world, cohort, rows)
        waiting = [cohort for cohort in self._cohorts if cohort.asked is not None]
        resting = [cohort for cohort in self._cohorts if cohort.asked is None]
        plain = [request for request in decoding if self._of[request] in resting]
        if plain and not any(c.asked is not None and c.asked.ready_ms <= world.now_ms for c in waiting):
            for cohort in resting:
                cohort.rest.stepped()
            commit_ms = PLAIN_SHARE * self._hop_ms
            world.now_ms += commit_ms
            world.spent.scheduling += commit_ms
            run_plain(world, plain, world.scheduler.plan_prefill())
            return
        first = min(waiting, key=lambda cohort: cohort.asked.ready_ms if cohort.asked else 0.0)
        self._finish(world, first)

    def _assign(self, decoding: list[SimRequest]) -> None:
        """Newcomers join the smaller cohort, all the first where one ring is better."""
        self._of = {request: self._of[request] for request in decoding if request in self._of}
        sizes = [sum(cohort is own for own in self._of.values()) for cohort in self._cohorts]
        one_ring = self._auto and self._gain < LEAST_GAIN
        for request in decoding:
            if request not in self._of:
                place = 0 if one_ring or sizes[0] <= sizes[1] else 1
                self._of[request] = self._cohorts[place]
                sizes[place] += 1
        if one_ring and self._cohorts[1].asked is None:
            self._of = dict.fromkeys(decoding, self._cohorts[0])

    def _check(self, cohort: Cohort, world: World) -> None:
        """Who was preempted or has ended meanwhile has no use for its tree."""
        asked = cohort.asked
        if asked is not None and not any(_is_current(asked, row, world) for row in range(len(asked.rows))):
            cohort.asked = None

    def _ask(self, world: World, cohort: Cohort, rows: list[SimRequest]) -> None:
        self._control = cohort.control
        self._step += 1
        sent_ms = world.now_ms
        drafted, draft_ms = self._draft(world, rows)
        overhead_ms = cohort.overhead.typical_ms or self._hop_ms
        message = self._message(world, rows, drafted, draft_ms, sent_ms, overhead_ms)
        begin_ms = max(sent_ms + self._hop_ms / 2, self._drafter_free_ms)
        self._drafter_free_ms = begin_ms + draft_ms
        world.spent.drafting += draft_ms
        cohort.asked = Asked(
            rows,
            [request.position for request in rows],
            drafted,
            message,
            draft_ms,
            sent_ms,
            self._drafter_free_ms + self._hop_ms / 2,
        )

    def _finish(self, world: World, cohort: Cohort) -> None:
        """Wait for the cohort's trees, feeding prompts that fit, and verify them."""
        asked = cohort.asked
        assert asked is not None
        before_ms = world.now_ms
        self._feed_until(world, asked.ready_ms)
        world.spent.speculation += max(0.0, asked.ready_ms - world.now_ms)
        world.now_ms = max(world.now_ms, asked.ready_ms)
        world.admit()
        decision = self._decide(world, asked.message, asked.drafted)
        cohort.overhead.answered(asked.sent_ms, asked.draft_ms)
        begin_ms = world.now_ms
        still = [row for row in range(len(asked.rows)) if _is_current(asked, row, world)]
        others = {request for other in self._cohorts if other is not cohort for request in _rows(other)}
        newcomers = [r for r in world.scheduler.decoding if r not in others and r not in asked.rows]
        bare = [request for request in newcomers if self._of.get(request, cohort) is cohort]
        self._verify_rows(world, asked.rows, [*(asked.rows[row] for row in still), *bare], asked.drafted, decision)
        cohort.overhead.committed(world.now_ms, world.now_ms - begin_ms)
        cohort.control, cohort.asked = self._control, None
        cohort.rest.told(cohort.control.depth)
        num_cohorts = len({id(own) for own in self._of.values()})
        tokens = num_cohorts * (len(asked.rows) + len(decision.selection.nodes))
        gain = two_rings_gain(self._model, tokens, asked.draft_ms + self._hop_ms)
        self._gain += FORGETTING * (gain - self._gain)
        assert world.now_ms > before_ms


def two_rings_gain(model: LatencyModel, tokens: int, draft_ms: float) -> float:
    """The period of one ring over that of two, which verify ``tokens`` in two passes while ``draft_ms`` go by.

    Each pass reads the weights: two rings pay where drafting takes longer than that.
    """
    one, half = model.predict_ms(tokens), model.predict_ms(max(1, tokens // 2))
    return (draft_ms + one) / max(2 * half, 2 * draft_ms)


def _is_current(asked: Asked, row: int, world: World) -> bool:
    request = asked.rows[row]
    return request.is_decoding and request in world.scheduler.running and request.position == asked.positions[row]


def _rows(cohort: Cohort) -> list[SimRequest]:
    return [] if cohort.asked is None else cohort.asked.rows
