"""A report's opening: three sentences for people who decide and read no further. Pure.

They say what was measured, with its interval, and nothing that the interval does not carry.
"""

from __future__ import annotations

import math

from bench.proof.intervals import Interval
from bench.proof.sides import Facts, TenantFigures, Work


def number(value: float | None, digits: int = 3) -> str:
    """With so many significant digits, integers in full, thousands apart; – for none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace("-", "−")


def count(value: float | None) -> str:
    """In whole numbers, thousands apart; – for none."""
    return "–" if value is None else f"{value:,.0f}"


def spread(interval: Interval, unit: str = "") -> str:
    """`70.8 % (65.1 to 76.2)`, without a known interval `70.8 %`."""
    told = number(interval.value) + (f" {unit}" if unit else "")
    if interval.low is None or interval.high is None:
        return told
    return f"{told} ({number(interval.low)} to {number(interval.high)})"


def sentences(facts: Facts) -> list[str]:
    """On promises, on work and on money."""
    promises = " ".join(part for part in (facts.coverage, on_promises(facts)) if part)
    return [promises, on_work(facts), on_money(facts)]


def on_promises(facts: Facts) -> str:
    """Attainment of all classes together; without a baseline that of a rollout's arms."""
    found = facts.total.attainment
    if found.ours.value is None:
        return "No request had a target, so nothing can be said about promises kept."
    requests = f"{facts.total.requests:,} requests with a promised response time"
    if found.theirs.value is not None:
        sides = f"{spread(found.ours, '%')} kept it with speculation and {spread(found.theirs, '%')} without"
        return f"Of {requests}, {sides}{_verdict(found.difference)}"
    if facts.arms:
        treated, control = facts.arms
        both = f"{treated.total + control.total:,} requests of a rollout"
        kept = [spread(arm.attainment, "%") for arm in (treated, control)]
        sides = f"{kept[0]} kept their promise with speculation and {kept[1]} without"
        return f"Of {both}, {sides}{_verdict(facts.arms_apart)}"
    return f"Of {requests}, {spread(found.ours, '%')} kept it; how many would have without was not measured."


def _verdict(difference: Interval) -> str:
    apart = _points(difference)
    if difference.is_above:
        return f": {apart} more."
    if difference.is_below:
        return f": {apart} fewer, so here speculation does harm."
    return f"; the difference of {apart} is within what chance explains."


def _points(difference: Interval) -> str:
    return spread(difference.turned if difference.is_below else difference, "points")


def on_work(facts: Facts) -> str:
    """Passes of the target, and what that leaves of the machine's time."""
    per_pass = facts.tokens_per_pass
    if per_pass.value is None:
        return "Nothing was generated, so nothing can be said about work saved."
    saved = 100 * (1 - 1 / per_pass.value)
    start = (
        f"The large model gave {spread(per_pass, 'tokens')} each time it worked on a request, which spares it "
        f"{number(max(0.0, saved), 2)} % of its passes"
    )
    net = facts.net_saving_per_1000
    mine, base = (_machine_s_per_1000(work) for work in (facts.work, facts.baseline_work))
    if net.value is None or mine is None or base is None:
        return f"{start}; what that saves of the machine's time was not measured."
    return f"{start}; all in all {_machine_time(mine, base, net)}."


def _machine_time(mine: float, base: float, net: Interval) -> str:
    """What was measured on both sides, and apart from it the difference, which is a mean over runs."""
    sides = (
        f"a thousand tokens took {number(mine)} s of the machine's time with speculation, the drafter's own "
        f"included, and {number(base)} s without"
    )
    less = (net.value or 0.0) > 0
    apart = spread(net if less else net.turned, "s") + (" less" if less else " more")
    if net.low is None:
        return f"{sides}: {apart}, measured too seldom for an interval"
    if net.is_above or net.is_below:
        return f"{sides}: {apart}, on average over the runs"
    return f"{sides}; the difference of {spread(net, 's')} is within noise"


def _machine_s_per_1000(work: Work | None) -> float | None:
    return None if work is None else work.per_1000(work.machine_s)


def on_money(facts: Facts) -> str:
    """Gain and payback of all tenants together."""
    everyone = next((one for one in facts.tenants if one.name is None), None)
    if facts.currency is None or everyone is None:
        return "Without prices nothing is said about money: give --prices."
    gain = everyone.gain_per_hour
    if gain is None or gain.value is None:
        cost = everyone.cost_per_1000
        told = "" if cost is None else f"; a thousand tokens cost {number(cost.ours.value)} {facts.currency}"
        why = "Without a baseline" if not facts.has_baseline else "From counts over a period alone"
        return f"{why} there is no gain to tell{told}."
    unit = f"{facts.currency} for an hour of such traffic"
    amount = spread(gain, unit)
    if gain.is_below:
        return f"At the given prices speculation does not pay: it loses {spread(gain.turned, unit)}."
    if not gain.is_above:
        return (
            f"At the given prices it is not shown that speculation pays: the gain is {amount}, which may be none."
        )
    return f"At the given prices speculation gains {amount}{_payback(everyone, facts.currency)}."


def _payback(everyone: TenantFigures, currency: str) -> str:
    """Only of a gain that is one over its whole interval."""
    after = everyone.payback_days
    if after is None or after.low is None or after.high is None:
        return ""
    paid = f"the introduction of {number(everyone.introduction)} {currency}"
    return f", so that {paid} is paid back after {days(after)}"


def days(interval: Interval) -> str:
    """`4.0 to 38 days`."""
    return " to ".join(dict.fromkeys(number(end, 2) for end in (interval.low, interval.high))) + " days"
