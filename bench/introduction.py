"""Whether the next phase of an introduction may begin: the figures of each phase, and go or no-go. Pure.

The phases and their criteria are those of docs/poc.md. Figures come from what other commands print, so that
nothing is judged here that nobody has seen: `adaserve simulate --json`, `adaserve replay --json`, `GET
/admin/rollout` and `GET /admin/audit`. A figure that is missing is no "go": the phase is not over yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel

MOST_HALTS = 1  # at one step, for one class


class Verdict(StrEnum):
    GO = "GO"
    NO_GO = "NO-GO"
    NOT_YET = "NOT YET"


@dataclass(frozen=True, slots=True)
class Criterion:
    """``figure`` and ``go`` are for people; ``is_met`` is None where there is no figure to judge by."""

    what: str
    figure: str
    go: str
    is_met: bool | None


@dataclass(frozen=True, slots=True)
class Phase:
    number: int
    name: str
    criteria: tuple[Criterion, ...]

    @property
    def verdict(self) -> Verdict:
        return _verdict([criterion.is_met for criterion in self.criteria])

    def json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict.value}


def whole(phases: Sequence[Phase]) -> Verdict:
    """GO where every phase is."""
    known = {Verdict.GO: True, Verdict.NO_GO: False, Verdict.NOT_YET: None}
    return _verdict([known[phase.verdict] for phase in phases])


def _verdict(met: Sequence[bool | None]) -> Verdict:
    if False in met:
        return Verdict.NO_GO
    return Verdict.NOT_YET if None in met or not met else Verdict.GO


# What the other commands print, as far as it is judged.


class Figure(BaseModel):
    """Over seeds; ``ci95`` is half the width of the 95 % interval, None for one seed."""

    mean: float | None
    ci95: float | None

    def told(self, unit: str) -> str:
        spread = "" if self.ci95 is None else f" ± {self.ci95:.2f}"
        return "none" if self.mean is None else f"{self.mean:.2f}{spread} {unit}"


class SimulatedClass(BaseModel):
    attainment: Figure
    objective: float | None
    met: bool | None


class SimulatedTenant(BaseModel):
    classes: dict[str, SimulatedClass]
    payback_days: float | Literal["never"] | None = None


class Total(BaseModel):
    gain_per_hour: Figure | None = None


class Simulated(BaseModel):
    """One object of `adaserve simulate --policy … --json`."""

    system: str
    tenants: dict[str, SimulatedTenant]
    total: Total = Total()
    currency: str = ""


class Attainment(Figure):
    by_category: dict[str, float | None]


class Tallied(BaseModel):
    equal: bool | None


class OfReplay(BaseModel):
    requests: int
    failures: dict[str, int]
    tally: list[Tallied]

    @property
    def failed_percent(self) -> float:
        return 100 * sum(self.failures.values()) / max(1, self.requests)

    def told(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.failures.items())
        return f"{self.failed_percent:.2f} %" + (f" ({reasons})" if reasons else "")


class Replayed(BaseModel):
    """The object of `adaserve replay --json`."""

    attainment: Attainment
    goodput_tokens_per_s: Figure
    replay: OfReplay


class ArmFigures(BaseModel):
    attained: int
    total: int

    @property
    def percent(self) -> float:
        return 100 * self.attained / max(1, self.total)


class RolloutNow(BaseModel):
    """`GET /admin/rollout`."""

    id: str
    steps: list[float]
    step: int | None
    share: float | None
    halted: str | None
    objectives: dict[str, float]
    min_requests: int
    margin: float
    arms: dict[str, dict[str, ArmFigures]]


def promises(objectives: Mapping[str, float], warnings: Sequence[str]) -> Phase:
    """Phase 0. ``warnings`` of `adaserve policy check`."""
    found = (
        Criterion("the policy's warnings", "; ".join(warnings) or "none", "none", not warnings),
        Criterion("classes with an objective", ", ".join(objectives) or "none", "at least one", bool(objectives)),
    )
    return Phase(0, "the promises", found)


def on_paper(simulated: Simulated, *, max_payback_days: float) -> Phase:
    """Phase 1: the first system of the simulation."""
    return Phase(1, "on paper", tuple(_on_paper(simulated, max_payback_days)))


def _on_paper(simulated: Simulated, max_payback_days: float) -> Iterator[Criterion]:
    for name, tenant in simulated.tenants.items():
        for class_name, found in tenant.classes.items():
            if found.objective is not None:
                what = f"{name}: attainment of {class_name}"
                has_figure = found.attainment.mean is not None
                go = f"at least {found.objective:g} %"
                yield Criterion(what, found.attainment.told("%"), go, found.met if has_figure else None)
    gain = simulated.total.gain_per_hour
    is_clear = None if gain is None or gain.mean is None or gain.ci95 is None else gain.mean > gain.ci95
    told = "none: give --prices" if gain is None else gain.told(f"{simulated.currency} an hour")
    yield Criterion("gain of all tenants", told, "above its ±", is_clear)
    for name, tenant in simulated.tenants.items():
        days = tenant.payback_days
        if days is not None:
            is_soon = isinstance(days, float) and days <= max_payback_days
            told = f"{days:.1f} days" if isinstance(days, float) else days
            yield Criterion(f"{name}: payback", told, f"at most {max_payback_days:g} days", is_soon)


def in_the_laboratory(objectives: Mapping[str, float], with_: Replayed, without: Replayed) -> Phase:
    """Phase 2: a replay with speculation beside one without."""
    return Phase(2, "in the laboratory", tuple(_in_the_laboratory(objectives, with_, without)))


def _in_the_laboratory(objectives: Mapping[str, float], with_: Replayed, without: Replayed) -> Iterator[Criterion]:
    for name, objective in objectives.items():
        attained = with_.attainment.by_category.get(name)
        told = "the replay has no such category" if attained is None else f"{attained:.2f} %"
        is_met = None if attained is None else attained >= 100 * objective
        yield Criterion(f"attainment of {name}", told, f"at least {100 * objective:g} %", is_met)
    yield _gain_in_goodput(with_.goodput_tokens_per_s, without.goodput_tokens_per_s)
    is_met = with_.replay.failed_percent <= without.replay.failed_percent
    yield Criterion("failed requests", with_.replay.told(), f"at most {without.replay.told()}, as without", is_met)
    equal = [tally.equal for tally in with_.replay.tally]
    is_equal = None if None in equal or not equal else all(equal)
    words = {True: "equal", False: "they differ", None: "the gateway's is not known"}
    yield Criterion("the client's count and the gateway's", words[is_equal], "equal", is_equal)


def _gain_in_goodput(with_: Figure, without: Figure) -> Criterion:
    gain, room = None, None
    if with_.mean is not None and without.mean is not None:
        gain = with_.mean - without.mean
    if with_.ci95 is not None and without.ci95 is not None:
        room = with_.ci95 + without.ci95
    told = f"{with_.told('tokens/s')}, without {without.told('tokens/s')}"
    go = "above by more than both ±" + ("" if room is None else f", {room:.2f}")
    return Criterion("goodput", told, go, None if gain is None or room is None else gain > room)


def on_the_ramp(now: RolloutNow, audit: Sequence[Mapping[str, Any]]) -> Phase:
    """Phase 3 at the first step, 4 at the others. ``audit``: events, of which those of this rollout count."""
    is_first = now.step in (None, 0, 1)
    name = "the first step" if is_first else "the ramp"
    if now.step is not None and now.share is not None:
        name += f", {now.step} of {len(now.steps)} ({100 * now.share:g} %)"
    return Phase(3 if is_first else 4, name, tuple(_on_the_ramp(now, audit)))


def _on_the_ramp(now: RolloutNow, audit: Sequence[Mapping[str, Any]]) -> Iterator[Criterion]:
    treated, others = now.arms.get("treatment", {}), now.arms.get("control", {})
    asked = [name for name in now.objectives if name in treated and treated[name].total]
    if not asked:
        yield Criterion("requests with an objective", "none yet", f"at least {now.min_requests}", None)
    for name in asked:
        yield _of_class(name, treated[name], now)
        if name in others and others[name].total >= now.min_requests:
            yield _beside(name, treated[name], others[name], now)
    yield Criterion("halted", now.halted or "no", "no", now.halted is None)
    halts = halts_of(now, audit)
    worst = max(halts.values(), default=0)
    told = ", ".join(f"step {step} by {cause}: {count}" for (step, cause), count in halts.items()) or "none"
    yield Criterion("halts at one step by one class", told, f"at most {MOST_HALTS}", worst <= MOST_HALTS)


def _of_class(name: str, treated: ArmFigures, now: RolloutNow) -> Criterion:
    is_enough = treated.total >= now.min_requests
    objective = 100 * now.objectives[name]
    return Criterion(
        f"attainment of {name}",
        f"{treated.percent:.2f} % of {treated.total} requests",
        f"at least {objective:g} % of at least {now.min_requests}",
        treated.percent >= objective if is_enough else None,
    )


def _beside(name: str, treated: ArmFigures, others: ArmFigures, now: RolloutNow) -> Criterion:
    return Criterion(
        f"{name}, beside those not treated",
        f"{treated.percent:.2f} %, they {others.percent:.2f} % of {others.total} requests",
        f"at most {100 * now.margin:g} below them",
        treated.percent >= others.percent - 100 * now.margin if treated.total >= now.min_requests else None,
    )


def halts_of(now: RolloutNow, audit: Sequence[Mapping[str, Any]]) -> Counter[tuple[int, str]]:
    """How often each class has halted each step of this rollout."""
    found: Counter[tuple[int, str]] = Counter()
    for event in audit:
        before, after = event.get("before"), event.get("after")
        if (
            event.get("what") != "rollout.step"
            or not isinstance(before, Mapping)
            or not isinstance(after, Mapping)
        ):
            continue
        if before.get("id") == after.get("id") == now.id and after.get("halted") and not before.get("halted"):
            cause = str(after["halted"]).partition(":")[0]
            if cause.startswith("class "):  # an operator may halt as often as it takes
                found[int(before["step"]), cause] += 1
    return found
