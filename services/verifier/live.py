"""What a verifier says of its last seconds to those who watch the cell. Pure; times are monotonic, in ms."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.verifier.generation import Generation
from services.verifier.governor import Status
from services.verifier.labels import Lesson
from services.verifier.scheduler import Scheduler
from shared.inspection import DECODING, MAX_LIVE, NUM_DEPTHS, PREFILLING, WAITING, LiveVerifier
from shared.messages import SLO_PHASE, SelectedTrees, request_ids
from shared.slo import tpot_ms

WINDOW_S = 10
LEAST_S = 1.0  # a rate over less than that says nothing

Int64 = npt.NDArray[np.int64]


def _by_depth() -> Int64:
    return np.zeros(NUM_DEPTHS, np.int64)


@dataclass(slots=True, eq=False)
class Sums:
    """Counters of one second, or of several."""

    num_steps: int = 0
    num_tokens: int = 0
    budget_used: int = 0
    slo_nodes: int = 0
    throughput_nodes: int = 0
    selected: int = 0
    accepted: int = 0
    expected: float = 0.0
    realised: int = 0
    accepted_at: Int64 = field(default_factory=_by_depth)
    rejected_at: Int64 = field(default_factory=_by_depth)

    def add(self, other: Sums) -> None:
        """The other's counters too."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Recent:
    """Sums over the last WINDOW_S seconds, kept second by second."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, Sums]] = deque(maxlen=WINDOW_S)
        self._first_ms: float | None = None

    def stepped(self, now_ms: float, *, selected: int, accepted: int, taken: SelectedTrees | None) -> None:
        """A step: nodes verified and accepted, the reply that its trees were taken from."""
        sums = self._at(now_ms)
        sums.num_steps += 1
        sums.selected += selected
        sums.accepted += accepted
        if taken is not None:
            num_slo = int(np.count_nonzero(taken.phase == SLO_PHASE))
            sums.budget_used += taken.budget_used
            sums.slo_nodes += num_slo
            sums.throughput_nodes += len(taken.phase) - num_slo

    def committed(self, num_tokens: int) -> None:
        """Tokens that the last step has brought."""
        if self._seconds:
            self._seconds[-1][1].num_tokens += num_tokens

    def learned(self, lesson: Lesson) -> None:
        """What walks have said about the draft; counted with the last step."""
        if not self._seconds:
            return
        _, sums = self._seconds[-1]
        labels, accepted = (counts.sum(axis=(0, 2)) for counts in (lesson.counts.labels, lesson.counts.accepted))
        sums.expected += lesson.num_expected
        sums.realised += lesson.num_accepted
        sums.accepted_at += np.rint(accepted).astype(np.int64)
        sums.rejected_at += np.rint(labels - accepted).astype(np.int64)

    def _at(self, now_ms: float) -> Sums:
        second = int(now_ms // 1_000)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append((second, Sums()))
        self._first_ms = now_ms if self._first_ms is None else self._first_ms
        return self._seconds[-1][1]

    def sums(self, now_ms: float) -> tuple[Sums, float]:
        """Over the window, and its length in seconds: since the first step, if that is less."""
        total = Sums()
        for second, sums in self._seconds:
            if second > now_ms / 1_000 - WINDOW_S:
                total.add(sums)
        since_s = WINDOW_S if self._first_ms is None else (now_ms - self._first_ms) / 1_000
        return total, min(WINDOW_S, max(LEAST_S, since_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the verifier decodes now; ``since_ms`` and ``redis_ms`` are of Redis' clock."""

    status: Status
    since_ms: float
    drafter: str | None
    calibration_error: float | None
    redis_ms: float


def snapshot(scheduler: Scheduler[Generation], recent: Recent, standing: Standing, now_ms: float) -> LiveVerifier:
    """The whole of it; of its requests those with the least slack."""
    sums, window_s = recent.sums(now_ms)
    shown = sorted(scheduler.generations, key=lambda one: slack_ms(one, standing.redis_ms))[:MAX_LIVE]
    waiting = set(scheduler.waiting)
    return LiveVerifier(
        mode=standing.status.mode.value,
        mode_reason=str(standing.status.reason),
        mode_since_ms=max(0.0, standing.since_ms),
        running=len(scheduler.decoding),
        waiting=len(waiting),
        prefilling=len(scheduler.prefilling),
        kv_used=scheduler.num_blocks_used,
        kv_total=scheduler.num_blocks,
        steps_per_s=sums.num_steps / window_s,
        tokens_per_s=sums.num_tokens / window_s,
        budget_used=sums.budget_used,
        slo_nodes=sums.slo_nodes,
        throughput_nodes=sums.throughput_nodes,
        selected=sums.selected,
        accepted=sums.accepted,
        expected_accepted=sums.expected,
        realised_accepted=sums.realised,
        calibration_error=standing.calibration_error,
        drafter=standing.drafter,
        accepted_at=sums.accepted_at,
        rejected_at=sums.rejected_at,
        request=request_ids([one.id for one in shown]),
        tenant=tuple(one.request.tenant for one in shown),
        slo_class=tuple(one.request.slo_class for one in shown),
        state=np.array([WAITING if one in waiting else _state(one) for one in shown], np.uint8),
        position=np.array([one.position for one in shown], np.int32),
        output_tokens=np.array([one.num_output for one in shown], np.int32),
        **_times(shown, standing.redis_ms),
    )


def _state(generation: Generation) -> int:
    return DECODING if generation.is_decoding else PREFILLING


def _times(shown: Sequence[Generation], redis_ms: float) -> dict[str, npt.NDArray[np.float64]]:
    return {
        "tpot_ms": np.array([_pace_ms(one, redis_ms) for one in shown], np.float64),
        "tpot_target_ms": np.array([one.request.tpot_ms for one in shown], np.float64),
        "slack_ms": np.array([slack_ms(one, redis_ms) for one in shown], np.float64),
    }


def slack_ms(generation: Generation, redis_ms: float) -> float:
    """Time until its next token is late, negative where it is; infinite where nothing was promised.

    With tokens: (target − time per token so far) × tokens so far, as the next one is due a target after the last
    was. Before the first: what is left of its TTFT target.
    """
    if generation.first_token_ms is None or not generation.num_output:
        return generation.ttft_slack_ms(redis_ms)
    return generation.request.tpot_ms * generation.num_output - (redis_ms - generation.first_token_ms)


def _pace_ms(generation: Generation, redis_ms: float) -> float:
    """TPOT up to now, infinite below two tokens."""
    if generation.first_token_ms is None or generation.num_output < 2:
        return math.inf
    return tpot_ms(generation.first_token_ms, redis_ms, generation.num_output)
