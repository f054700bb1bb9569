"""When a staged introduction takes its next step, and when it halts. Pure: state and figures in, a verdict out.

Step 0 treats nobody, step i the share `steps[i - 1]`. A step ends when its period is over and every judged class
is good; it halts, one step lower, when a class is bad. At the end of the period the figures decide as they are.
Before that only what is certain counts: figures are looked at every second, and some will look bad by chance.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from math import sqrt
from typing import Any, NamedTuple

from shared.errors import UnreadableMessage
from shared.rollout import Arm, Rollout

CERTAIN = 3.0  # standard deviations
_MAX_BYTES = 1 << 20  # many tenants
_HOUR_MS = 3_600_000


class Tally(NamedTuple):
    """Finished requests with a target, and how many of them attained it."""

    attained: int = 0
    total: int = 0

    @property
    def rate(self) -> float:
        return self.attained / self.total if self.total else 0.0


Tallies = Mapping[tuple[Arm, str], Tally]
"""By arm and class, since the step began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a rollout stands: its step, since when (Unix ms), and why it has halted, "" while it has not.

    ``tenants`` and ``steps`` are those of the file that it was reached under.
    """

    tenants: tuple[str, ...]
    steps: tuple[float, ...]
    step: int = 1
    since_ms: int = 0
    halted: str = ""

    @property
    def share(self) -> float:
        return self.steps[self.step - 1] if self.step else 0.0

    def pack(self) -> bytes:
        """As Redis holds it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, packed: bytes) -> Stage:
        """Raises UnreadableMessage."""
        try:
            found: Any = json.loads(packed[: _MAX_BYTES + 1])
            stage = cls(
                tenants=tuple(str(tenant) for tenant in found["tenants"]),
                steps=tuple(float(step) for step in found["steps"]),
                step=int(found["step"]),
                since_ms=int(found["since_ms"]),
                halted=str(found["halted"]),
            )
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UnreadableMessage(f"rollout: {type(error).__name__}") from None
        if not 0 <= stage.step <= len(stage.steps):
            raise UnreadableMessage("rollout: there is no such step")
        return stage


class Move(StrEnum):
    """``renew``: the last step goes on, with figures counted anew."""

    WAIT = "wait"
    ADVANCE = "advance"
    RENEW = "renew"
    HALT = "halt"


class Verdict(NamedTuple):
    move: Move
    reason: str


def begun(rollout: Rollout, before: Stage | None, now_ms: int) -> Stage:
    """The stage when this file comes into force: as it was while tenants and steps are the same.

    A tenant that is new begins at the first step, and all others with it. New steps go on at the last one that
    treats no more requests than before, at the first where all treat more. What was halted stays so.
    """
    if before is None or not set(rollout.tenants) & set(before.tenants):
        return Stage(tenants=rollout.tenants, steps=rollout.steps, since_ms=now_ms)
    is_new = not set(rollout.tenants) <= set(before.tenants)
    if before.steps == rollout.steps and not is_new:
        return replace(before, tenants=rollout.tenants)
    step = 1 if is_new else max(1, sum(step <= before.share for step in rollout.steps))
    return Stage(
        tenants=rollout.tenants,
        steps=rollout.steps,
        step=step if before.step else 0,
        since_ms=now_ms,
        halted=before.halted,
    )


def name_of(one: Stage | Rollout) -> str:
    """The same for the same tenants, in any order, and steps: 16 hex digits."""
    return blake2b(json.dumps([sorted(one.tenants), list(one.steps)]).encode(), digest_size=8).hexdigest()


def judge(
    rollout: Rollout, objectives: Mapping[str, float], stage: Stage, tallies: Tallies, now_ms: int
) -> Verdict:
    """What is next. ``objectives`` are those of the classes that the rollout is judged by."""
    if rollout.ramp is None:
        return Verdict(Move.WAIT, "there is no ramp")
    if stage.halted:
        return Verdict(Move.WAIT, f"halted: {stage.halted}")
    is_over = now_ms - stage.since_ms >= rollout.period_hours * _HOUR_MS
    margin_of_error = 0.0 if is_over else CERTAIN
    for reason in _bad(rollout, objectives, tallies, margin_of_error):
        return Verdict(Move.HALT, reason)
    if not is_over:
        return Verdict(Move.WAIT, "the step's period is not over")
    missing = _missing(rollout, objectives, tallies)
    if missing:
        return Verdict(Move.WAIT, missing)
    if stage.step == len(stage.steps):
        return Verdict(Move.RENEW, "the last step is good")
    return Verdict(Move.ADVANCE, "every class is good")


def applied(stage: Stage, verdict: Verdict, now_ms: int) -> Stage:
    """The stage after a verdict."""
    match verdict.move:
        case Move.ADVANCE:
            return replace(stage, step=stage.step + 1, since_ms=now_ms)
        case Move.RENEW:
            return replace(stage, since_ms=now_ms)
        case Move.HALT:
            return replace(stage, step=max(0, stage.step - 1), since_ms=now_ms, halted=verdict.reason)
        case Move.WAIT:
            return stage


def set_to(stage: Stage, step: int, now_ms: int) -> Stage:
    """An operator's order; step 0 halts as well, since nothing can be judged there."""
    return replace(stage, step=step, since_ms=now_ms, halted="" if step else "set to step 0")


def halted(stage: Stage, reason: str) -> Stage:
    """Stays where it is until it is resumed."""
    return replace(stage, halted=reason)


def resumed(stage: Stage, now_ms: int) -> Stage:
    """Goes on, with figures counted anew, from the first step if nobody was treated."""
    return replace(stage, step=max(1, stage.step), since_ms=now_ms, halted="")


def _bad(rollout: Rollout, objectives: Mapping[str, float], tallies: Tallies, deviations: float) -> Iterator[str]:
    for name, objective in objectives.items():
        treated = tallies.get((Arm.TREATMENT, name), Tally())
        others = tallies.get((Arm.CONTROL, name), Tally())
        if treated.total < rollout.min_requests:
            continue
        if treated.rate + deviations * _deviation(treated, objective) < objective:
            yield f"class {name}: {_percent(treated)} attained, the objective is {100 * objective:g} %"
        if others.total >= rollout.min_requests:
            spread = sqrt(_deviation(treated) ** 2 + _deviation(others) ** 2)
            if treated.rate + rollout.margin + deviations * spread < others.rate:
                yield f"class {name}: {_percent(treated)} attained, without speculation {_percent(others)}"


def _missing(rollout: Rollout, objectives: Mapping[str, float], tallies: Tallies) -> str:
    """Which class has had too few requests to judge, "" for none. One without any is left out, unless all are."""
    counts = {name: tallies.get((Arm.TREATMENT, name), Tally()).total for name in objectives}
    if not any(counts.values()):
        return "no request with an objective has finished yet"
    few = [f"class {name} has {count}" for name, count in counts.items() if 0 < count < rollout.min_requests]
    return f"{', '.join(few)} of {rollout.min_requests} requests to judge by" if few else ""


def _deviation(tally: Tally, rate: float | None = None) -> float:
    """Standard deviation of a rate, were it this one."""
    rate = tally.rate if rate is None else rate
    return sqrt(rate * (1 - rate) / tally.total)


def _percent(tally: Tally) -> str:
    return f"{100 * tally.rate:.4g} % of {tally.total}"
