"""The verifier's loop: take work → admit → hear or wait → verify → commit and ask, one turn after the other.

It is not the workers' loop of shared.worker, because it must never block on messages while a forward pass could
run: it polls while there is something to compute and blocks to the nearest deadline otherwise. Every effect on the
world goes through the bus and the runner, and time is injected, so that a simulation can drive it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from services.verifier import inspection
from services.verifier.acceptance import Walk
from services.verifier.batch import Batch, Settlement, build_batch, settle_batch
from services.verifier.bus import Claimed, VerifierBus
from services.verifier.committer import Asked, Committer
from services.verifier.departure import Departure
from services.verifier.figures import Figures
from services.verifier.foresight import look_ahead
from services.verifier.generation import Generation
from services.verifier.governor import NO_DRAFTER, Status
from services.verifier.intake import Expired, Intake, Unservable
from services.verifier.live import Recent
from services.verifier.overhead import Overhead
from services.verifier.pace import Pace
from services.verifier.prefixes import KnownPrefixes
from services.verifier.scheduler import Scheduler
from services.verifier.speculator import Speculator
from services.verifier.tally import Timekeeper
from services.verifier.teacher import Teacher
from services.verifier.traces import Forward, Traces
from shared import signals
from shared.errors import BusUnavailable
from shared.failures import kind_of
from shared.heartbeat import Pulse
from shared.inference.plan import ForwardPlan
from shared.inference.prefixes import PrefixCache
from shared.latency import LatencyModel
from shared.latency_refit import Refit
from shared.modes import Mode
from shared.telemetry import Telemetry, now_ns
from shared.topics import HEARTBEAT_TTL_MS, NUM_TIERS

logger = logging.getLogger(__name__)

Int32 = npt.NDArray[np.int32]

HOUSEKEEPING_MS = 1000.0
DEATH_LOOK_MS = 250.0  # a dead verifier's clients wait so long for others to notice, after its heartbeat is gone
IDLE_BLOCK_MS = 200.0
FEW_PLACES_PAUSE_S = 0.01
PROFILE_MOVED = 0.03  # relative change of predictions that is worth a new version for the selectors


class Cache(Protocol):
    """Where the KV lives."""

    def move(self, source: Int32, destination: Int32) -> None:
        """Copy KV between slots; ranges may overlap."""


class Runner(Protocol):
    """The target model, as far as the engine sees it."""

    @property
    def cache(self) -> Cache: ...

    def logits(self, plan: ForwardPlan) -> npt.NDArray[np.floating[Any]]:
        """Run the plan; [num_logits, vocab] on the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Senses:
    """What the engine needs of its surroundings, injected so that a simulation can stand in for them."""

    clock_ms: Callable[[], float]  # monotonic
    redis_ms: Callable[[], float]  # first guess of Redis' clock; every commit corrects it
    on_time_for: Callable[[float], bool]  # whether the own heartbeat has been on time for so many ms
    pause: Callable[[float], bool]  # sleeps for seconds; True, at once, when the time of the process is over
    pulse: Pulse  # ticked once a turn


class Engine:
    """Runs turns until stopped; `drain` then hands every request over."""

    def __init__(
        self,
        bus: VerifierBus,
        runner: Runner,
        scheduler: Scheduler[Generation],
        speculator: Speculator,
        intake: Intake,
        table: LatencyModel,
        telemetry: Telemetry,
        senses: Senses,
        prefixes: PrefixCache | None = None,
    ) -> None:
        self._bus = bus
        self._prefixes = KnownPrefixes(prefixes, telemetry)
        self._runner = runner
        self._scheduler = scheduler
        self._speculator = speculator
        self._intake = intake
        self._refit = Refit(table)
        self.profile = table  # as published
        self._overhead = Overhead()
        self._time = Timekeeper()
        self.pace = Pace()
        self._telemetry = telemetry
        self._traces = Traces(telemetry)
        recent = Recent()
        self._figures = Figures(telemetry, scheduler, speculator, recent)
        self._teacher = Teacher(bus, telemetry, speculator.governor.watch.learned, recent.learned)
        self._clock_ms = senses.clock_ms
        self._on_time_for = senses.on_time_for
        self._pause = senses.pause
        self._committer = Committer(bus, telemetry, self._pause_alive)
        self._redis_offset_ms = senses.redis_ms() - senses.clock_ms()
        self._next_housekeeping_ms = self._next_look_ms = 0.0
        # The start-up sweep may have shared the machine with other starts; no step is faster than one token's.
        self.fastest_step_ms = table.predict_ms(1, rows=1)
        self._away_s = 0.0
        self._departure: Departure | None = None
        self.pulse = senses.pulse
        self.status = Status(Mode.FULL_VERIFICATION, NO_DRAFTER)
        self.status_since_ms = senses.redis_ms()
        self.num_steps = 0
        self._num_ids = 0  # columns of the logits, once there were some

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Turns until ``should_stop``; a bus that is away is waited for."""
        while not should_stop():
            try:
                self.turn()
                self._away_s = 0.0
            except BusUnavailable as error:
                self._speculator.connection_lost()
                self._telemetry.add(signals.BUS_ERRORS, kind=kind_of(error))
                self._away_s = min(0.5, max(0.02, 2 * self._away_s))
                logger.warning("Redis is away, next try in %.2f s: %s", self._away_s, error)
                self._pause(self._away_s)

    def drain(self, is_over: Callable[[], bool]) -> None:
        """Claim nothing more, and serve what is here until others take it, it ends, or ``is_over``."""
        self._departure = Departure(self._clock_ms())
        self.run(lambda: is_over() or not self._scheduler.generations)
        try:
            self._give_back(self._scheduler.generations)
        except BusUnavailable as error:
            logger.warning("%d requests wait for a take-over: %s", len(self._scheduler.generations), error)

    def turn(self) -> None:
        """One turn. Raises BusUnavailable before anything was computed that could be lost."""
        with self._telemetry.later():  # once the next trees are asked for
            self._turn()

    def _turn(self) -> None:
        self.pulse.tick()
        self._keep_house()
        self._take_work()
        if self._departure is not None:
            self._hand_over(self._departure)
        self._admit()
        if not self._scheduler.running:
            self.pace.idle()
            self._hear(None)
            return
        self._hear(None)
        if self._must_wait():
            if self._prefill_fits_the_wait():
                self._step([])
                return
            begin_ms = self._clock_ms()
            self._look_ahead(begin_ms)
            self._hear(self._speculator.remaining_ms(self._clock_ms()))
            self._time.waited(self._clock_ms() - begin_ms)
        if not self._must_wait():
            self._step(self._scheduler.decoding)

    # -- work -------------------------------------------------------------------------------------------------
    def _keep_house(self) -> None:
        """Once a second: choose the drafter, take over what dead verifiers left, report; sooner after a death."""
        now_ms = self._clock_ms()
        if now_ms < self._next_housekeeping_ms:
            if now_ms >= self._next_look_ms:
                self._next_look_ms = now_ms + DEATH_LOOK_MS
                if self._num_places > 0 and self._bus.has_dead_verifier():
                    self._take_over()
            return
        self._next_housekeeping_ms = now_ms + HOUSEKEEPING_MS
        self._next_look_ms = now_ms + DEATH_LOOK_MS
        self._publish_profile()
        self._teacher.exchange(is_doubted=self._speculator.governor.watch.doubts)
        self._speculator.choose(self._bus.live_drafters())
        self._obey()
        if not self._scheduler.running:
            self._ask_alone()  # whoever left outside of a step, by a cancel say, still has a row at the drafter
        self._take_over()
        self._note_status()
        self._report(now_ms)

    def _take_over(self) -> None:
        """What dead verifiers own or have read, unless this one was away itself: then everybody looks dead."""
        places = self._num_places
        if places > 0 and self._on_time_for(2 * HEARTBEAT_TTL_MS):
            known = {generation.id for generation in self._scheduler.generations}
            self._accept(self._bus.take_orphans(self._bus.live_verifiers(), known, places))

    def _publish_profile(self) -> None:
        """Before any DraftRequest names its version; what selectors read before stays until its time is over."""
        if self._refit.differs_from(self.profile) > PROFILE_MOVED:
            self.profile = self._refit.model
        self._bus.publish_profile(self.profile)
        self._speculator.profile = self.profile.version

    @property
    def _num_places(self) -> int:
        """Requests that may be claimed now."""
        return 0 if self._departure is not None else self._scheduler.num_free_places

    def _take_work(self) -> None:
        places = self._num_places
        if places > 0:
            is_idle = not self._scheduler.generations
            claimed = self._bus.take(places, IDLE_BLOCK_MS if is_idle else None)
            self._accept(claimed)
            if is_idle and not claimed and places <= NUM_TIERS:
                self._pause(FEW_PLACES_PAUSE_S)  # the read could not block: it may return one entry of each queue

    def _accept(self, batch: Sequence[Claimed]) -> None:
        served = {generation.id: generation for generation in self._scheduler.generations} if batch else {}
        for claimed in batch:
            if claimed.request in served:  # under an epoch that is over: a gateway has restored the request
                self._forget(served[claimed.request])
            try:
                generation = self._intake.accept(claimed)
            except Unservable as error:
                self._give_up(claimed.request, error, claimed.claim.position, claimed.claim.digest)
                continue
            except Expired:
                self._telemetry.add(signals.REQUESTS_FINISHED, reason="expired")
                self._bus.expire(claimed.request, claimed.claim.position, claimed.claim.digest)
                continue
            generation.tally.claimed(self._clock_ms(), is_begun=generation.num_output > 0)
            self._traces.claimed(claimed)
            self._telemetry.record(
                signals.QUEUE_WAIT, generation.tally.queue_ms / 1000, tier=str(generation.request.tier)
            )
            self._scheduler.add(generation)

    def _give_up(self, request: str, error: Unservable, position: int, digest: str) -> None:
        logger.warning("request %s goes to the dead letters: %s", request, error)
        self._telemetry.add(signals.DEAD_LETTERS, reason="invalid")
        self._bus.give_up(request, str(error), position, digest)

    def _admit(self) -> None:
        compiling = [generation for generation in self._scheduler.waiting if not generation.is_ready]
        for generation, error in self._intake.take_grammars(self._scheduler.generations):
            self._give_up(generation.id, error, generation.position, generation.digest.hex())
            self._forget(generation)
        for generation in compiling:
            if generation.is_ready:
                generation.tally.compiled(self._clock_ms())
        found = self._scheduler.admit(self._prefixes.find)
        if not found:
            return
        self._runner.cache.move(*self._prefixes.adopt(found))
        admitted = [generation for generation, _ in found]
        for generation in admitted:
            generation.tally.admitted(self._clock_ms())
        self._traces.admitted(admitted)
        if not self._speculator.is_outstanding:  # else the drafter hears of them with the next ask
            self._ask_alone()

    def _hand_over(self, departure: Departure) -> None:
        """What does not end soon goes back, so that another verifier goes on at once. Raises BusUnavailable."""
        now_ms = self._clock_ms()
        if departure.is_time_to_look(now_ms) and self._bus.successors():
            departure.relieved(now_ms)
        redis_ms = now_ms + self._redis_offset_ms
        self._give_back(
            generation
            for generation in self._scheduler.generations
            if departure.gives_back(generation.remaining_ms(redis_ms), now_ms)
        )

    def _give_back(self, generations: Iterable[Generation]) -> None:
        for generation in generations:
            self._bus.release(generation.id, generation.epoch, generation.tally.packed())
            self._forget(generation)

    def _forget(self, generation: Generation) -> None:
        if generation.compiling is not None:
            generation.compiling.cancel()  # or the next ones would wait for a grammar that nobody wants
        self._traces.forgotten(generation)
        self._scheduler.remove(generation)

    # -- the ring ---------------------------------------------------------------------------------------------
    def _hear(self, block_ms: float | None) -> None:
        heard = self._bus.hear(block_ms)
        now_ms = self._clock_ms()
        generations = {generation.id: generation for generation in self._scheduler.generations}
        if heard.num_unreadable:
            self._telemetry.add(signals.HINTS_DROPPED, heard.num_unreadable, reason="unreadable")
        kinds = {event.kind for event, _ in heard.control}
        if "mode" in kinds:
            self._obey()
        if "left" in kinds:
            self._speculator.choose(self._bus.live_drafters())
        for event, sent_ms in heard.control:
            if event.kind == "cancel" and event.subject in generations:
                self._forget(generations.pop(event.subject))
                self._telemetry.record(signals.CANCEL_TIME, max(0.0, now_ns() / 1e9 - sent_ms / 1e3))
        for reply, sent_ms in heard.replies:
            self._telemetry.hop("verify", sent_ms, now_ns() / 1e6)
            if self._speculator.hear(reply, generations, now_ms):
                wait_ms = max(0.0, now_ns() / 1e6 - sent_ms)
                self._traces.answered(reply, self._speculator.ring_ms, wait_ms)
                self._overhead.answered(now_ms - self._speculator.ring_ms, reply.draft_ms)
        self._speculator.check_deadline(now_ms)

    def _must_wait(self) -> bool:
        return self._speculator.is_waiting and bool(self._scheduler.decoding)

    def _look_ahead(self, begin_ms: float) -> None:
        """While the trees are still being made: at the noise of what may be drawn with them."""
        end_ms = begin_ms + self._speculator.idle_ms(begin_ms)
        look_ahead(
            [(generation.foresight, generation.position) for generation in self._scheduler.decoding],
            self._speculator.depth + 1,
            self._num_ids,
            lambda: self._clock_ms() >= end_ms,
        )

    def _prefill_fits_the_wait(self) -> bool:
        chunks = self._scheduler.plan_prefill()
        if not chunks:
            return False
        predicted_ms = self._refit.predict_ms(
            sum(size for _, size in chunks),
            context_tokens=sum(generation.slots.length for generation, _ in chunks),
            rows=len(chunks),
        )
        return predicted_ms <= self._speculator.expected_ms(self._clock_ms())

    def _ask(self) -> Asked | None:
        """The next DraftRequest with the trace and time it is sent with, None where none may leave."""
        now_ms = self._clock_ms()
        rows = self._speculator.rows(self._scheduler.running)
        if not self._speculator.may_ask(rows, now_ms):
            return None
        traces = self._traces.asking(rows, self._speculator.status)
        redis_ms = now_ms + self._redis_offset_ms
        message = self._speculator.ask(
            rows,
            traces,
            now_ms=now_ms,
            redis_ms=redis_ms,
            overhead_ms=self._overhead.typical_ms,
            prefill_tokens=self._scheduler.num_prefill_tokens,
            prefill_slack_ms=self._scheduler.prefill_slack_ms(redis_ms),
        )
        return message, None, now_ns() / 1e6

    def _ask_alone(self) -> None:
        """Ask where no commit goes out that the DraftRequest could travel with."""
        asked = self._ask()
        if asked is not None and not self._bus.ask(*asked):
            self._speculator.not_asked("reader_gone", self._clock_ms())

    # -- modes ------------------------------------------------------------------------------------------------
    def _obey(self) -> None:
        """Operators' orders count from this turn on. Raises BusUnavailable."""
        orders = self._bus.orders()
        if orders is not None:
            self._speculator.governor.orders = orders
            self._speculator.rule(self._scheduler.running)

    def _watch(self, walks: Sequence[tuple[Generation, Walk]]) -> None:
        """What this step's trees say about the draft; from the next turn on it counts.

        A request that bends the logits is no witness: its draft breaks promises, whatever the model pair is worth.
        """
        watch = self._speculator.governor.watch
        for _, walk in walks:
            if len(walk.tree) and walk.is_free:
                watch.verified(walk.tree.expected_tokens, len(walk.path))
        if watch.turn(self._clock_ms()):
            self._speculator.rule(self._scheduler.running)
        self._note_status()

    def _note_status(self) -> None:
        status = self._speculator.status
        if status == self.status:
            return
        if status.mode is not self.status.mode:
            reason = status.reason or self.status.reason
            if status.mode is Mode.SPECULATIVE:
                logger.info("speculation is on (was: %s)", self.status.reason)
            else:
                logger.warning("speculation is off: %s", reason)
            self._telemetry.add(signals.MODE_SWITCHES, reason=reason)
            self._traces.switched(Status(status.mode, reason), self._scheduler.running)
            self.status_since_ms = self._clock_ms() + self._redis_offset_ms
        self.status = status

    def _report(self, now_ms: float) -> None:
        """What Prometheus is to find, and what those who look at the cell see."""
        poisoned, self._bus.num_poisoned = self._bus.num_poisoned, 0
        self._telemetry.add(signals.DEAD_LETTERS, poisoned, reason="poison")
        self._figures.report(self.status)
        if self._bus.is_watched():
            told = self._figures.snapshot(
                self.status,
                since_ms=self.status_since_ms,
                calibration_error=self._teacher.calibration_error,
                now_ms=now_ms,
                redis_ms=now_ms + self._redis_offset_ms,
            )
            self._bus.tell_live(told)

    # -- the step ---------------------------------------------------------------------------------------------
    def _step(self, decoding: Sequence[Generation]) -> None:
        """One forward pass over roots, trees and prefill chunks, up to its commit."""
        start_ms, start_ns = self._clock_ms(), now_ns()
        batch = self._plan(decoding)
        if not batch.fed:
            return
        self.num_steps += 1
        logits = self._runner.logits(batch.plan)
        ended_ms, end_ns = self._clock_ms(), now_ns()
        self._num_ids = logits.shape[1]
        forward = Forward(start_ns, end_ns, self._predicted_ms(batch), ended_ms - start_ms)
        self._traces.stepped(batch, forward)
        self._keep_time(batch, forward)
        settlements, moves = settle_batch(batch, logits, self._time.at(ended_ms), self._speculator.why_bare)
        self._runner.cache.move(*moves)
        self._prefixes.publish(batch.fed)
        self._traces.settled(settlements, batch, forward)
        pair = self._speculator.pair  # whose trees these were; the next ask may go to another drafter
        lost = self._commit(settlements, forward.measured_ms, ended_ms)
        # The next trees are asked for: what this step teaches and tells costs nobody time.
        self._learn(batch, forward)
        self._teacher.observe(pair, batch)
        self._watch(batch.walks)
        self._figures.stepped(batch, settlements, ended_ms)
        self._figures.committed(settlements, lost)
        self._end_stuck(batch)
        self.pace.stepped(
            start_ms,
            self._clock_ms(),
            work=batch.work,
            is_decoding=bool(batch.walks),
            favoured=batch.favoured,
        )
        self._telemetry.record(signals.STEP_TIME, forward.measured_ms / 1000, part="forward")
        self._telemetry.record(signals.STEP_TIME, (self._clock_ms() - start_ms) / 1000, part="total")

    def _keep_time(self, batch: Batch, forward: Forward) -> None:
        """Who had what of the forward pass."""
        for generation, _ in batch.prefilled:
            generation.tally.fed(forward.measured_ms)
        if not batch.walks:
            self._time.prefilled(forward.measured_ms)
            return
        tokens, context_tokens, rows = batch.operation
        self._time.drew(
            forward.measured_ms,
            predicted_ms=forward.predicted_ms,
            alone_ms=self._refit.predict_ms(1, context_tokens=context_tokens // rows, rows=1),
            rows=rows,
            tokens=tokens,
            prompt_tokens=sum(size for _, size in batch.prefilled),
        )

    def _predicted_ms(self, batch: Batch) -> float:
        """What the published profile has predicted for the forward pass."""
        tokens, context_tokens, rows = batch.operation
        return self.profile.predict_ms(tokens, context_tokens=context_tokens, rows=rows)

    def _learn(self, batch: Batch, forward: Forward) -> None:
        """From what the forward pass took, planning included."""
        error = abs(forward.predicted_ms - forward.measured_ms) / max(forward.measured_ms, 1e-3)
        self._telemetry.record(signals.PREDICTION_ERROR, error)
        self._speculator.governor.watch.predicted(error)
        self._refit.observe(*batch.operation, forward.measured_ms)
        self.fastest_step_ms = min(self.fastest_step_ms, forward.measured_ms)

    def _plan(self, decoding: Sequence[Generation]) -> Batch:
        granted = self._speculator.granted_prefill if decoding else None
        trees = self._speculator.take_trees(decoding) if decoding else self._speculator.take_none()
        num_preempted = self._scheduler.num_preempted
        num_nodes = self._scheduler.make_room(list(decoding), lambda generation: len(trees[generation]))
        self._telemetry.add(signals.PREEMPTIONS, self._scheduler.num_preempted - num_preempted)
        return build_batch(
            {generation: trees[generation].prefix(count) for generation, count in num_nodes.items()},
            self._scheduler.plan_prefill(granted),
        )

    def _commit(self, settlements: list[Settlement], forward_ms: float, drawn_ms: float) -> list[Settlement]:
        """Commit and ask in one write; the rows that are not ours any more.

        Rows finished here leave first: they are not in the DraftRequest.
        """
        for settlement in settlements:
            if settlement.finish is not None:
                self._scheduler.remove(settlement.generation)
        if not settlements:
            # Only prompts were fed: an outstanding request is as valid as it was.
            if not self._speculator.is_outstanding:
                self._ask_alone()
            return []
        inspected = inspection.steps(
            settlements,
            self._speculator.taken,
            self.status.mode,
            verify_ms=forward_ms,
            redis_ms=drawn_ms + self._redis_offset_ms,
        )
        asked, start_ns = self._ask(), now_ns()
        sent_ms = self._clock_ms()
        committed = self._committer.commit(settlements, asked, inspected)
        self._time.committed(self._clock_ms() - sent_ms)
        if asked is not None and not committed.asked:
            self._speculator.not_asked("reader_gone", self._clock_ms())
        now_ms = self._clock_ms()
        self._telemetry.record(signals.STEP_TIME, (now_ms - sent_ms) / 1000, part="commit")
        self._redis_offset_ms = committed.time_ms - now_ms
        self._overhead.committed(now_ms, forward_ms)
        self._traces.committed(start_ns, now_ns(), self._speculator.status)
        for settlement in committed.lost:
            if settlement.finish is None:
                self._forget(settlement.generation)
        return committed.lost

    def _end_stuck(self, batch: Batch) -> None:
        """Raises BusUnavailable with the rest still here: their next step fails as this one did."""
        for generation, error in batch.stuck:
            logger.warning("request %s goes to the dead letters: its schema %s", generation.id, error)
            self._telemetry.add(signals.DEAD_LETTERS, reason="grammar")
            self._bus.give_up(
                generation.id, f"its JSON Schema {error}", generation.position, generation.digest.hex()
            )
            self._forget(generation)

    def _pause_alive(self, seconds: float) -> bool:
        """Waiting for Redis inside a commit is not being stuck. False when the process is to stop."""
        self._telemetry.catch_up()
        self.pulse.tick()
        return not self._pause(seconds)
