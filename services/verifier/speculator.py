"""The verifier's side of speculation: which drafter, what it is asked, which answers are usable.

Everything here is a hint: a wrong answer costs a step's speculation, never a token.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.verifier.ask import Circumstances, Control, draft_request, may_draft
from services.verifier.generation import Generation, Speculation
from services.verifier.governor import NO_DRAFTER, RING, Governor, Status
from services.verifier.ring import Rest, Ring
from shared import signals
from shared.messages import NEED_CONTEXT, NO_ROOM, DraftRequest, SelectedTrees
from shared.telemetry import Telemetry
from shared.tree import EMPTY, TokenTree

logger = logging.getLogger(__name__)

NO_ROOM_RETRY_MS = 1000.0
_MODEL = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Speculator:
    """One ring's speculation. ``vocab_size`` and ``max_nodes`` bound what a reply may hold."""

    def __init__(
        self,
        ring: Ring,
        governor: Governor,
        telemetry: Telemetry,
        *,
        verifier: str,
        token_map: str,
        model: str,
        profile: str,
        control: Control,
        vocab_size: int,
        max_nodes: int,
    ) -> None:
        self._ring = ring
        self.governor = governor
        self._telemetry = telemetry
        self._verifier = verifier
        self._token_map = token_map
        self.profile = profile  # version of the latency model that the next DraftRequest names
        self._model = model
        self._draft_model = ""
        self._control = control
        self._vocab_size = vocab_size
        self._max_nodes = max_nodes
        self._reply: SelectedTrees | None = None
        self.taken: SelectedTrees | None = None  # what the trees of the step at hand were taken from
        self._has_rows = False  # whether the drafter may hold rows of this ring
        self._rest = Rest()
        self._refused: set[str] = set()
        self.drafter: str | None = None
        self.pair = ""  # <draft>:<target>, the models of the last ask and of the trees that answer it; "" unknown

    # -- which drafter ----------------------------------------------------------------------------------------
    def choose(self, live: Mapping[str, Mapping[str, Any]]) -> None:
        """Stay with a live drafter; otherwise, or while it misses, take the least loaded one of our token map."""
        fitting = {name: about for name, about in live.items() if about.get("token_map") == self._token_map}
        for name in live.keys() - fitting.keys() - self._refused:
            logger.warning("drafter %s has other token ids than the target: it is not used", name)
            self._refused.add(name)
        if not fitting:
            self._change_to(None)
        elif self.drafter not in fitting or (self._ring.is_open and len(fitting) > 1):
            others = {name: about for name, about in fitting.items() if name != self.drafter} or fitting
            self._change_to(min(sorted(others), key=lambda name: _load(others[name])))
        self._draft_model = _model(fitting.get(self.drafter or "", {}))

    def _change_to(self, drafter: str | None) -> None:
        if drafter == self.drafter:
            return
        logger.info("drafter is now %s", drafter or "none: decoding without speculation")
        self.drafter = drafter
        self._has_rows = False
        self.governor.watch.start_over()
        if drafter is None:
            self._telemetry.add(signals.RING_MISSES, reason="no_drafter")
        self._ring.drafter_changed()

    # -- asking -----------------------------------------------------------------------------------------------
    def rows(self, running: Sequence[Generation]) -> list[Generation]:
        """Who is in the next DraftRequest: all that decode, and those worth warming the drafter for.

        Permissions are brought up to date first: requests have come since orders or the watch last changed.
        """
        self.governor.rule(running)
        return [row for row in running if row.is_decoding or row.wants_trees]

    def may_ask(self, rows: Sequence[Generation], now_ms: float) -> bool:
        """Whether to ask for these rows now; once more when none wants a tree, so that the drafter frees them.

        After the selector chose depth 0 some steps decode plainly (`Rest`), without a round to wait for; then one
        level is asked for, to see whether drafting pays again.
        """
        if self.drafter is None or not self._ring.may_ask(now_ms):
            return False
        if not self._rest.is_over and any(row.is_decoding for row in rows):
            return False
        return self._has_rows or any(may_draft(row, now_ms) for row in rows)

    def ask(
        self,
        rows: Sequence[Generation],
        traces: Sequence[tuple[int, str]],
        *,
        now_ms: float,
        redis_ms: float,
        overhead_ms: float,
        prefill_tokens: int,
        prefill_slack_ms: float,
    ) -> DraftRequest:
        """The DraftRequest for the rows; from now on its reply is awaited. Only while there is a drafter."""
        assert self.drafter is not None
        for row in rows:
            self._forget_if_changed(row)
        self._reply = None
        self._has_rows = any(may_draft(row, now_ms) for row in rows)
        self.pair = f"{self._draft_model}:{self._model}" if self._draft_model else ""
        about = Circumstances(
            verifier=self._verifier,
            drafter=self.drafter,
            ring=self._ring.index,
            step=self._ring.asked(now_ms),
            profile=self.profile,
            overhead_ms=overhead_ms,
            calibration=self.pair,
            prefill_tokens=prefill_tokens,
            prefill_slack_ms=prefill_slack_ms,
            redis_ms=redis_ms,
            now_ms=now_ms,
        )
        if not self._has_rows:
            self._ring.void()  # there is nothing to wait for
        control = replace(self._control, depth=self.governor.depth(max(self._control.depth, 1)))
        return draft_request(rows, traces, control, about)

    def _forget_if_changed(self, row: Generation) -> None:
        if row.speculation.drafter != self.drafter:
            row.speculation = Speculation(drafter=self.drafter or "")

    def not_asked(self, reason: str, now_ms: float) -> None:
        """The ask did not reach a reader: an immediate miss."""
        self._telemetry.add(signals.RING_MISSES, reason=reason)
        self._ring.missed(now_ms)

    def connection_lost(self) -> None:
        """The ask's fate is unknown: void, nobody is blamed."""
        self._ring.void()

    # -- modes ------------------------------------------------------------------------------------------------
    def rule(self, running: Sequence[Generation]) -> None:
        """Orders or the watch have changed: nobody waits any longer for trees that nobody may have."""
        self.governor.rule(running)
        if not any(row.wants_trees for row in running):
            self._ring.void()

    @property
    def status(self) -> Status:
        """How requests are decoded now."""
        return self.governor.status(has_drafter=self.drafter is not None, is_open=self._ring.is_open)

    # -- answers ----------------------------------------------------------------------------------------------
    @property
    def is_waiting(self) -> bool:
        """Whether decoding should wait for trees."""
        return self._ring.is_waiting

    @property
    def depth(self) -> int:
        """Levels of the trees that were last asked for, at most."""
        return self._control.depth

    @property
    def is_open(self) -> bool:
        """Whether the breaker keeps decoding from waiting."""
        return self._ring.is_open

    @property
    def is_outstanding(self) -> bool:
        """Whether a DraftRequest is unanswered."""
        return self._ring.outstanding_step is not None

    def remaining_ms(self, now_ms: float) -> float:
        """Time to the deadline."""
        return max(0.0, self._ring.wait_ends_ms() - now_ms)

    def expected_ms(self, now_ms: float) -> float:
        """Time until the reply probably arrives."""
        return max(0.0, self.remaining_ms(now_ms) - self._ring.deadline_ms + self._ring.typical_ms)

    def idle_ms(self, now_ms: float) -> float:
        """Time in which the reply hardly ever arrives."""
        return max(0.0, self.remaining_ms(now_ms) - self._ring.deadline_ms + self._ring.soonest_ms)

    def check_deadline(self, now_ms: float) -> None:
        """Give up waiting when the deadline has passed."""
        if self._ring.has_missed(now_ms):
            logger.info("no trees within %.1f ms: decoding without waiting", self._ring.deadline_ms)
            self.not_asked("deadline", now_ms)

    def hear(self, reply: SelectedTrees, generations: Mapping[str, Generation], now_ms: float) -> bool:
        """Take a reply in; whether it is the awaited one."""
        if reply.ring != self._ring.index or reply.drafter != self.drafter:
            self._drop("late")
            return False
        self._learn(reply, generations, now_ms)
        took_ms = self._ring.took_ms(reply.step, now_ms)
        if took_ms is not None:
            self._telemetry.record(signals.RING_SECONDS, took_ms / 1000)
        if not self._ring.answered(reply.step, now_ms):
            self._drop("late")
            return False
        self._reply = reply
        self._control = Control(depth=reply.depth, width=reply.width, stop_value=reply.stop_value)
        self._rest.told(reply.depth)
        return True

    def _learn(self, reply: SelectedTrees, generations: Mapping[str, Generation], now_ms: float) -> None:
        """What the drafter holds of each row; true even when the reply is late."""
        columns = (reply.request, reply.epoch, reply.acknowledged, reply.weight)
        for request, epoch, acknowledged, weight in zip(*(column.tolist() for column in columns), strict=True):
            generation = generations.get(request.hex())
            if generation is None or int(generation.epoch, 16) != epoch:
                continue
            state = generation.speculation
            state.weight = weight
            state.acknowledged = max(0, acknowledged)
            if acknowledged == NO_ROOM:
                state.retry_ms = now_ms + NO_ROOM_RETRY_MS
            elif acknowledged < NEED_CONTEXT:
                self._drop("invalid_row")

    @property
    def ring_ms(self) -> float:
        """How long the newest reply took, from its DraftRequest on."""
        return self._ring.last_ms

    @property
    def granted_prefill(self) -> int | None:
        """Prompt tokens the selector grants this step; None where it has not spoken."""
        return None if self._reply is None else self._reply.prefill_tokens

    def take_none(self) -> dict[Generation, TokenTree]:
        """Of a step in which nobody decodes: a reply stays for the next one."""
        self.taken = None
        return {}

    def take_trees(self, decoding: Sequence[Generation]) -> dict[Generation, TokenTree]:
        """The tree to verify for each request, EMPTY where there is no usable one. Uses the reply up."""
        trees = dict.fromkeys(decoding, EMPTY)
        reply, self._reply = self._reply, None
        self.taken = reply
        self._rest.stepped()
        for row in decoding:
            row.speculation.is_late = False
        if reply is None:
            return trees
        by_id = {row.id: row for row in decoding}
        room, places = self._max_nodes, zip(reply.epoch.tolist(), reply.position.tolist(), strict=True)
        are_known = bool((reply.tokens < self._vocab_size).all())  # all ids; else each tree is looked at
        for request, late, place, tree in zip(
            reply.request.tolist(), reply.late.tolist(), places, reply.trees(), strict=True
        ):
            generation = by_id.get(request.hex())
            if generation is None:
                continue
            generation.speculation.is_late = late
            if len(tree) == 0:
                continue
            is_current = place == (int(generation.epoch, 16), generation.position)
            has_known_ids = are_known or int(tree.tokens.max()) < self._vocab_size
            if not (is_current and has_known_ids and generation.wants_trees) or len(tree) > room:
                self._drop("invalid_row")
                continue
            trees[generation] = tree
            room -= len(tree)
        return trees

    def why_bare(self, generation: Generation) -> str:
        """Why a request had no tree when trees were last taken."""
        state = generation.speculation
        if not generation.tally.num_steps:
            return "first_step"  # it ends a prompt
        if not (generation.request.speculation and generation.request.max_depth):
            return "not_wanted"
        if generation.is_barred:
            return self.governor.why_barred(generation)
        if self.drafter is None:
            return NO_DRAFTER
        if self.is_open:
            return RING
        if state.acknowledged == 0 and (self.taken is not None or state.retry_ms > 0):
            return "drafter_behind"
        if self.taken is not None:
            return "not_selected"
        return "resting" if self._control.depth == 0 else "no_reply"

    def _drop(self, reason: str) -> None:
        self._telemetry.add(signals.HINTS_DROPPED, reason=reason)


def _model(about: Mapping[str, Any]) -> str:
    model = about.get("model")
    return model if isinstance(model, str) and _MODEL.fullmatch(model) else ""


def _load(about: Mapping[str, Any]) -> float:
    load = about.get("load", 0.0)
    return float(load) if isinstance(load, int | float) else 0.0
