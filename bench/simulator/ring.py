"""The simulated ring: the real policy, over the real messages; prompts are fed while the drafter works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.simulator.baselines import run_plain
from bench.simulator.drafter import Drafted, SimDrafter
from bench.simulator.request import SimRequest
from bench.simulator.world import World
from services.selector.control import PolicySettings
from services.selector.policy import Decision, decide
from services.selector.selection import Selection
from services.verifier.ring import Rest
from shared.calibration import Calibration
from shared.labels import LabelCounts
from shared.latency import LatencyModel
from shared.messages import REQUEST_ID, TRACEPARENT, CandidateTrees
from shared.tree import EMPTY, Forest

_NO_TRACES: dict[str, Any] = {"trace_row": np.empty(0, np.int32), "traceparent": np.empty(0, TRACEPARENT)}


@dataclass(slots=True)
class Control:
    """What the selector said of the next iteration."""

    depth: int
    width: int
    stop_value: float = 0.0


PLAIN_SHARE = 0.5  # of hops, selection and commit: what plain steps pay
CALIBRATION_PERIOD_MS = 1000.0  # how often selectors read the labels


class Teaching:
    """The labels of verified edges, and the calibration that is fitted to them once a second, as in the system."""

    def __init__(self) -> None:
        self.calibration = Calibration.fit(LabelCounts.none())
        self._counts = LabelCounts.none()
        self._next_ms = 0.0

    def observe(self, message: CandidateTrees, drafted: Drafted, selection: Selection, now_ms: float) -> None:
        """Count the selected nodes whose parent was reached."""
        forest = Forest.of(message.tree_offsets, message.parents)
        reached = np.append(drafted.accepted, True)  # the root is reached always
        judged = selection.nodes[reached[forest.parents[selection.nodes]]]
        self._counts += LabelCounts.of(
            forest.each_node(message.temperature_bucket)[judged],
            forest.depths[judged],
            forest.edges(message.logprobs)[judged],
            drafted.accepted[judged],
        )
        if now_ms >= self._next_ms:
            self._next_ms = now_ms + CALIBRATION_PERIOD_MS
            self.calibration = Calibration.fit(self._counts)


class Ring:
    """AdaServe: DraftRequest → drafter → selector → one forward pass, with prompt chunks inside it.

    While the verifier waits for trees it feeds a prompt chunk if that fits the wait, as the engine does.
    """

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
    ) -> None:
        self._hop_ms = hop_ms
        self._teaching = teaching
        self._drafter = drafter
        self._settings = settings
        self._model = model
        self._control = Control(depth, width)
        self._step = 0
        self._rest = Rest()

    def turn(self, world: World) -> None:
        decoding = world.scheduler.decoding
        if not decoding:
            world.forward({}, world.scheduler.plan_prefill())
            return
        if not self._rest.is_over:
            self._rest.stepped()
            commit_ms = PLAIN_SHARE * self._hop_ms
            world.now_ms += commit_ms
            world.spent.scheduling += commit_ms
            run_plain(world, decoding, world.scheduler.plan_prefill())
            return
        asked_ms = world.now_ms
        self._step += 1
        drafted, draft_ms = self._draft(world, decoding)
        message = self._message(world, decoding, drafted, draft_ms, asked_ms, self._hop_ms)
        self._wait(world, asked_ms + draft_ms + self._hop_ms, draft_ms)
        decision = self._decide(world, message, drafted)
        self._verify_rows(world, decoding, world.scheduler.decoding, drafted, decision)
        self._rest.told(self._control.depth)

    def _decide(self, world: World, message: CandidateTrees, drafted: Drafted) -> Decision:
        calibration = self._teaching.calibration if self._teaching else None
        decision = decide(message, self._model, self._settings, calibration)
        if self._teaching:
            self._teaching.observe(message, drafted, decision.selection, world.now_ms)
        return decision

    def _draft(self, world: World, decoding: list[SimRequest]) -> tuple[Drafted, float]:
        depths = np.array([min(max(self._control.depth, 1), r.max_tokens - r.num_output - 1) for r in decoding])
        weights = np.array([request.weight for request in decoding], np.float32)
        drafted = self._drafter.draft(decoding, depths, self._control.width, weights, self._control.stop_value)
        return drafted, drafted.num_levels * world.hardware.draft_step_ms

    def _wait(self, world: World, until_ms: float, draft_ms: float) -> None:
        """Feed prompts while they fit; then the trees are there."""
        self._feed_until(world, until_ms)
        world.spent.speculation += draft_ms
        world.spent.drafting += draft_ms
        world.spent.scheduling += self._hop_ms
        world.now_ms = max(world.now_ms, until_ms)
        world.admit()

    def _feed_until(self, world: World, until_ms: float) -> None:
        while True:
            chunks = world.scheduler.plan_prefill()
            if not chunks or world.now_ms + world.forward_ms({}, chunks) > until_ms:
                break
            world.forward({}, chunks)
            world.admit()

    def _verify_rows(
        self,
        world: World,
        asked: list[SimRequest],
        decoding: list[SimRequest],
        drafted: Drafted,
        decision: Decision,
    ) -> None:
        """One pass over ``decoding``, with the trees of those of ``asked``."""
        selection = decision.selection
        rows = np.repeat(np.arange(len(asked)), np.diff(selection.offsets)[: len(asked)])
        hits = np.bincount(rows[drafted.accepted[selection.nodes]], minlength=len(asked)).tolist()
        counts = dict(zip(asked, np.diff(selection.offsets).tolist(), strict=False))
        for request, weight in zip(asked, decision.weight.tolist(), strict=False):
            request.weight = weight
        nodes = world.make_room(decoding, counts)
        chunks = world.scheduler.plan_prefill(decision.prefill_tokens)
        world.forward(nodes, chunks, dict(zip(asked, hits, strict=True)))
        self._control = Control(decision.depth, decision.width, decision.stop_value)

    def _message(
        self,
        world: World,
        decoding: list[SimRequest],
        drafted: Drafted,
        draft_ms: float,
        asked_ms: float,
        overhead_ms: float,
    ) -> CandidateTrees:
        trees, rows = drafted.trees, len(decoding)
        return CandidateTrees(
            verifier="v",
            drafter="d",
            ring=0,
            step=self._step,
            depth=drafted.num_levels,
            width=self._control.width,
            prefill_tokens=world.scheduler.num_prefill_tokens,
            prefill_slack_ms=world.scheduler.prefill_slack_ms(asked_ms),
            profile="p",
            calibration="",
            overhead_ms=overhead_ms,
            draft_ms=draft_ms,
            level_ms=world.hardware.draft_step_ms,
            request=np.arange(2 * rows, dtype=np.uint64).view(REQUEST_ID),
            epoch=np.ones(rows, np.uint64),
            position=np.array([request.position for request in decoding], np.int32),
            acknowledged=np.zeros(rows, np.int32),
            temperature_bucket=np.zeros(rows, np.uint8),
            tpot_ms=np.array([request.target_ms for request in decoding], np.float32),
            elapsed_ms=np.array([request.elapsed_ms(asked_ms) for request in decoding], np.float32),
            committed=np.array([request.num_output for request in decoding], np.int32),
            weight=np.array([request.weight for request in decoding], np.float32),
            max_depth=np.full(rows, 8, np.uint8),
            warm=np.zeros(rows, np.bool_),
            tree_offsets=np.cumsum([0, *map(len, trees)], dtype=np.int32),
            tokens=np.concatenate([EMPTY.tokens, *(tree.tokens for tree in trees)]),
            parents=np.concatenate([EMPTY.parents, *(tree.parents for tree in trees)]),
            logprobs=np.concatenate([EMPTY.logprobs, *(tree.logprobs for tree in trees)]),
            **_NO_TRACES,
        )
