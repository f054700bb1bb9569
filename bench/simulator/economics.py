"""What serving the tenants costs and earns, and when a move to another system has paid for itself. Pure.

The machine costs the same, busy or idle; a tenant bears the share that its tokens, prompt and output, are of all
tokens. Output tokens earn the full price when their request attained or had no target to miss, else that of missed
ones. Earnings are those of an hour of the trace's traffic: over the time from the first to the last arrival, the
same for all systems. By the run's own duration, which goodput goes by, a faster system would seem to earn more for
no other reason than that the last requests end sooner.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench.report import Estimate, attainment, duration_ms, goodput_tokens, paired_difference
from bench.simulator.prices import Prices, TenantPrices
from bench.simulator.tenancy import Served

HOUR_MS = 3_600_000.0
NEVER: Literal["never"] = "never"
LEAST_GAIN = 1e-6  # money per hour; less is rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One run: attainment in percent (None without requests with a target), output tokens, money per hour."""

    attainment: float | None
    tokens_per_s: float
    goodput_tokens_per_s: float
    cost_per_hour: float
    earned_per_hour: float

    @property
    def margin_per_hour(self) -> float:
        return self.earned_per_hour - self.cost_per_hour


def account(mine: Sequence[Served], run: Sequence[Served], prices: Prices) -> Account:
    """Of those requests of a run, whose requests must not have arrived all at once."""
    seconds = duration_ms([one.outcome for one in run]) / 1_000
    arrivals_ms = [one.outcome.arrival_ms for one in run]
    hours = (max(arrivals_ms) - min(arrivals_ms)) / HOUR_MS
    outcomes = [one.outcome for one in mine]
    earned = sum(earnings(one, prices.tenants[one.tenant]) for one in mine)
    return Account(
        attainment=attainment(outcomes),
        tokens_per_s=sum(outcome.tokens for outcome in outcomes) / seconds,
        goodput_tokens_per_s=goodput_tokens(outcomes) / seconds,
        cost_per_hour=prices.cost_per_hour * _tokens(mine) / _tokens(run),
        earned_per_hour=earned / hours,
    )


def _tokens(served: Iterable[Served]) -> int:
    return sum(one.tokens for one in served)


def earnings(one: Served, prices: TenantPrices) -> float:
    """Of one request."""
    kept = one.outcome.attained or not one.outcome.has_target
    return one.outcome.tokens * (prices.per_million_tokens if kept else prices.per_million_missed) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A tenant, or all together, under one system: an account for each run and, beside it, the baseline's.

    Both saw the same requests, so the gain is the mean of the differences run by run. `baseline` is None for the
    baseline itself.
    """

    accounts: Sequence[Account]
    baseline: Sequence[Account] | None
    introduction: float | None

    @property
    def attainment(self) -> Estimate:
        """Percent."""
        return Estimate.of(account.attainment for account in self.accounts)

    def mean(self, figure: str) -> float:
        """Of one of the account's figures."""
        return statistics.fmean(getattr(account, figure) for account in self.accounts)

    @property
    def cost_per_1000_goodput_tokens(self) -> float | None:
        """Cost of an hour over the thousands of goodput tokens in it; None without any."""
        thousands_per_hour = self.mean("goodput_tokens_per_s") * 3.6  # of seconds to thousands an hour
        return self.mean("cost_per_hour") / thousands_per_hour if thousands_per_hour else None

    @property
    def gain_per_hour(self) -> Estimate | None:
        """Margin above the baseline's."""
        if self.baseline is None:
            return None
        margins = ([account.margin_per_hour for account in side] for side in (self.accounts, self.baseline))
        return paired_difference(*margins)

    @property
    def payback_days(self) -> float | Literal["never"] | None:
        """Until the gain has earned the introduction; None where there is no introduction or no baseline."""
        gain = self.gain_per_hour
        if gain is None or gain.mean is None or self.introduction is None:
            return None
        return self.introduction / gain.mean / 24 if gain.mean >= LEAST_GAIN else NEVER

    def json(self) -> dict[str, Any]:
        """Money per hour in the currency of the prices."""
        gain, payback = self.gain_per_hour, self.payback_days
        return {
            "attainment": self.attainment.json(),
            **{name: _rounded(self.mean(name)) for name in FIGURES},
            "cost_per_1000_goodput_tokens": _rounded(self.cost_per_1000_goodput_tokens),
            "gain_per_hour": gain and {"mean": _rounded(gain.mean), "ci95": _rounded(gain.ci95)},
            "introduction": self.introduction,
            "payback_days": _rounded(payback) if isinstance(payback, float) else payback,
        }


FIGURES = ("tokens_per_s", "goodput_tokens_per_s", "cost_per_hour", "earned_per_hour", "margin_per_hour")


def statements(
    runs: Sequence[Sequence[Served]], baseline: Sequence[Sequence[Served]] | None, prices: Prices
) -> dict[str | None, Statement]:
    """Of each tenant, in the order of the prices, and last, under None, of all together.

    The baseline is taken to do without the drafter's own GPUs.
    """
    introductions = {tenant: priced.introduction for tenant, priced in prices.tenants.items()}
    known = list(introductions.values())
    return {
        tenant: Statement(
            accounts=_accounts(runs, prices, tenant),
            baseline=None if baseline is None else _accounts(baseline, prices.without_drafter, tenant),
            introduction=introduction,
        )
        for tenant, introduction in (
            *introductions.items(),
            (None, None if None in known else sum(filter(None, known))),
        )
    }


def _accounts(runs: Sequence[Sequence[Served]], prices: Prices, tenant: str | None) -> list[Account]:
    return [account([one for one in run if tenant in (None, one.tenant)], run, prices) for run in runs]


def _rounded(value: float | None) -> float | None:
    """To a millionth: a thousand tokens cost that little."""
    return None if value is None else round(value, 6)
