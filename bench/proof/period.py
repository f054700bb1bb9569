"""The figures of a report from counts over a period of a server's life, and over another one beside it. Pure.

Requests are not known one by one: attainment has intervals from its counts, and nothing else has any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.proof import limits
from bench.proof.coverage import Coverage
from bench.proof.intervals import Interval, of_share, of_shares_apart
from bench.proof.sides import ClassFigures, Compared, Facts, TenantFigures, Work
from bench.proof.timeline import compared_arms
from bench.proof.used import TenantCounts, in_period, ratio
from bench.replay.recording import ServerSample
from bench.replay.series import FINISHED
from bench.simulator.prices import Prices


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Finished requests with a target, those that attained, and the tokens of the latter."""

    met: float = 0.0
    missed: float = 0.0
    goodput_tokens: float = 0.0
    objective: float | None = None  # 0 to 1

    def __add__(self, other: ClassCounts) -> ClassCounts:
        return ClassCounts(
            self.met + other.met, self.missed + other.missed, self.goodput_tokens + other.goodput_tokens
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """``counted`` by the names of bench/replay/series.py; ``start`` and ``end`` in seconds since 1970.

    Counts are of what is ``covered``, all of it for None.
    """

    start: float
    end: float
    classes: Mapping[str, ClassCounts]
    counted: Mapping[str, float]
    samples: Sequence[ServerSample] = ()
    tenants: Mapping[str, TenantCounts] = field(default_factory=dict)
    covered: Coverage | None = None

    @property
    def seconds(self) -> float:
        """That the counts are of, and so the price."""
        return self.end - self.start if self.covered is None else self.covered.seconds

    @property
    def everyone(self) -> TenantCounts:
        """What the metrics counted of all tenants together; they do not count prompts."""
        judged = sum(self.classes.values(), ClassCounts())
        return TenantCounts(
            requests=judged.met + judged.missed,
            output_tokens=self.counted.get("committed", 0.0),
            met=judged.met,
            missed=judged.missed,
        )


def facts(ours: Period, theirs: Period | None, prices: Prices | None, source: Mapping[str, str]) -> Facts:
    """Of one period beside another. Raises nothing; what is not known is left out."""
    arms, apart = compared_arms(ours.counted)
    work, base = work_of(ours), None if theirs is None else work_of(theirs)
    found = Facts(
        source=source,
        made_at=ours.end,
        has_baseline=theirs is not None,
        runs=1,
        seconds=ours.seconds,
        total=_class("all", _all(ours), None if theirs is None else _all(theirs), ours, theirs),
        classes=[
            _class(name, one, None if theirs is None else theirs.classes.get(name, ClassCounts()), ours, theirs)
            for name, one in sorted(ours.classes.items())
            if one.met + one.missed > 0
        ],
        work=work,
        baseline_work=base,
        tokens_per_pass=Interval(work.tokens_per_pass),
        net_saving_per_1000=_saving(work, base),
        tenants=[_tenant(name, ours, theirs, prices) for name in (*sorted(ours.tenants), None)],
        currency=None if prices is None else prices.currency,
        arms=arms,
        arms_apart=apart,
        samples=ours.samples,
        coverage=" ".join(_coverage(ours, theirs)),
    )
    return replace(found, limits=[*_limits(found, ours, theirs), *limits.general(found, prices)])


def _coverage(ours: Period, theirs: Period | None) -> Iterator[str]:
    """What a reader must know of periods that there are not samples of all along."""
    for period, which in ((ours, "the period"), (theirs, "the period beside it")):
        covered = None if period is None else period.covered
        if covered is not None and not covered.is_whole:
            yield f"Of {which} Prometheus knows {covered.words}; only these are counted and priced."


def _limits(found: Facts, ours: Period, theirs: Period | None) -> list[str]:
    told = list(_coverage(ours, theirs))
    told.append("Counts over a period do not tell how much they scatter: only attainment has intervals.")
    if theirs is not None:
        told.append(
            "The two periods had different traffic. What differs between them need not come from speculation; "
            "a replay of one trace on both, or a rollout's control arm, is the fairer comparison."
        )
    if found.arms:
        told.append(
            "The control arm has the same traffic as the treatment at the same time, if on other requests."
        )
    if ours.tenants:
        told.append(
            "What each tenant used is counted in whole hours, of which the period may have parts: each has its "
            "share of them of the tokens and requests that Prometheus counted in the period."
        )
    else:
        told.append("What each tenant used is not known (--url): figures are of all together.")
    return told


def _all(period: Period) -> ClassCounts:
    return sum(period.classes.values(), ClassCounts())


def _class(
    name: str, ours: ClassCounts, theirs: ClassCounts | None, period: Period, other: Period | None
) -> ClassFigures:
    objective = ours.objective if ours.objective else None  # 0 where there is none any more
    return ClassFigures(
        name=name,
        requests=round(ours.met + ours.missed),
        attainment=_shares(ours, theirs),
        goodput=_values(
            ours.goodput_tokens / period.seconds,
            None if theirs is None or other is None else theirs.goodput_tokens / other.seconds,
        ),
        objective=None if objective is None else 100 * objective,
    )


def _shares(ours: ClassCounts | TenantCounts, theirs: ClassCounts | TenantCounts | None) -> Compared:
    mine = of_share(ours.met, ours.met + ours.missed)
    if theirs is None:
        return Compared(ours=mine)
    others = of_share(theirs.met, theirs.met + theirs.missed)
    return Compared(ours=mine, theirs=others, difference=of_shares_apart(mine, others))


def _values(ours: float | None, theirs: float | None) -> Compared:
    apart = None if ours is None or theirs is None else ours - theirs
    return Compared(ours=Interval(ours), theirs=Interval(theirs), difference=Interval(apart))


def work_of(period: Period) -> Work:
    """From the verifiers' counters; a request's first token, with a target or without, comes with its prompt."""
    counted = period.counted
    tokens = counted.get("committed", 0.0)
    finished = sum(value for name, value in counted.items() if name.startswith(FINISHED))
    after_first = max(0.0, tokens - finished)
    return Work(
        tokens=tokens,
        after_first=after_first,
        passes=max(0.0, after_first - counted.get("accepted", 0.0)),
        target_s=counted.get("target_s"),
        draft_s=counted.get("draft_s"),
        select_s=counted.get("select_s"),
    )


def _saving(ours: Work, theirs: Work | None) -> Interval:
    mine = ours.per_1000(ours.machine_s)
    others = None if theirs is None else theirs.per_1000(theirs.machine_s)
    return Interval() if mine is None or others is None else Interval(others - mine)


def _tenant(name: str | None, ours: Period, theirs: Period | None, prices: Prices | None) -> TenantFigures:
    mine = _counts(ours, name)
    others = None if theirs is None else _counts(theirs, name)

    def gpu_s(period: Period, priced: Prices | None) -> float | None:
        return _per_1000(period, name, _gpu_s(period, priced))

    def cost(period: Period, priced: Prices) -> float | None:
        return _per_1000(period, name, _cost(period, priced))

    return TenantFigures(
        name=name,
        requests=round(mine.requests),
        tokens=mine.output_tokens,
        attainment=_shares(mine, others),
        gpu_s_per_1000=_values(gpu_s(ours, prices), None if theirs is None else gpu_s(theirs, prices)),
        cost_per_1000=None if prices is None else _values(
            cost(ours, prices), None if theirs is None else cost(theirs, prices.without_drafter)
        ),
    )  # fmt: skip


def _counts(period: Period, name: str | None) -> TenantCounts:
    """Of a tenant its share of what the metrics counted in the period; of all what they counted."""
    if name is None:
        requests = in_period(_used(period), _used(period), period.everyone).requests
        return replace(period.everyone, requests=requests) if period.tenants else period.everyone
    return in_period(period.tenants.get(name, TenantCounts()), _used(period), period.everyone)


def _used(period: Period) -> TenantCounts:
    return sum(period.tenants.values(), TenantCounts())


def _per_1000(period: Period, name: str | None, amount: float | None) -> float | None:
    """A tenant's part of an amount, by the tokens served to it, for a thousand of its output tokens."""
    tokens = _counts(period, name).output_tokens
    if amount is None or not tokens:
        return None
    return 1_000 * amount * _served_share(period, name) / tokens


def _served_share(period: Period, name: str | None) -> float:
    """Of prompt and output tokens."""
    if name is None:
        return 1.0
    mine, used = period.tenants.get(name, TenantCounts()), _used(period)
    return ratio(mine.prompt_tokens + mine.output_tokens, used.prompt_tokens + used.output_tokens)


def _gpu_s(period: Period, prices: Prices | None) -> float | None:
    target_s = period.counted.get("target_s")
    if target_s is None:
        return None
    gpus, drafters = (1, 0) if prices is None else (prices.gpus, prices.drafter_gpus)
    return gpus * target_s + max(1, drafters) * period.counted.get("draft_s", 0.0)


def _cost(period: Period, prices: Prices) -> float:
    return prices.cost_per_hour * period.seconds / 3_600
