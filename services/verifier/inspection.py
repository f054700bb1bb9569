"""What the verifier tells of a step to those who inspect their requests. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from services.verifier.batch import Settlement
from services.verifier.generation import Generation
from shared.fields import FieldError
from shared.inspection import NO_STEP, InspectedStep
from shared.messages import SelectedTrees
from shared.modes import Mode
from shared.slo import tpot_ms


def steps(
    settlements: Sequence[Settlement],
    taken: SelectedTrees | None,
    mode: Mode,
    *,
    verify_ms: float,
    redis_ms: float,
) -> list[tuple[str, InspectedStep]]:
    """Of each inspected request that gained something: its id, and what. ``taken`` is the reply with its trees."""
    told = []
    for settlement in settlements:
        if settlement.generation.request.inspect and settlement.row.end > settlement.row.start:
            with suppress(FieldError):  # a path longer than any tree should be
                step = _step(settlement, NO_STEP if taken is None else taken.step, mode, verify_ms, redis_ms)
                told.append((settlement.generation.id, step))
    return told


def _step(settlement: Settlement, step: int, mode: Mode, verify_ms: float, redis_ms: float) -> InspectedStep:
    generation, row, walk = settlement.generation, settlement.row, settlement.walk
    path = np.array(walk.path[: settlement.num_accepted], np.int16)
    return InspectedStep(
        step=step,
        position=row.start,
        mode=(Mode.FULL_VERIFICATION if generation.is_barred else mode).value,
        tpot_target_ms=generation.request.tpot_ms,
        tpot_ms=_pace_ms(generation, redis_ms),
        verify_ms=verify_ms,
        tokens=np.array(generation.tokens[row.start : row.end], np.int32),
        path=path,
        logprobs=walk.tree.logprobs[path],
    )


def _pace_ms(generation: Generation, redis_ms: float) -> float | None:
    """TPOT with the tokens that are about to be committed; None below two."""
    if generation.first_token_ms is None or generation.num_output < 2:
        return None
    return tpot_ms(generation.first_token_ms, redis_ms, generation.num_output)
