"""Which tenant sends which request of a trace, and how well each tenant's classes were served. Pure.

A request's category is the name of its class. It comes from one of the tenants that may use the class, drawn by
their shares; its targets are the class's, in place of those of the trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.report import Estimate, Outcome, attainment
from bench.traces import Trace, TraceRequest
from shared.errors import PolicyError
from shared.policy import Policy, ServiceClass


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantTrace:
    """A trace with its policy's targets, and the tenant of each request."""

    trace: Trace
    tenants: tuple[str, ...]

    def served(self, outcomes: Sequence[Outcome]) -> list[Served]:
        """The requests with what became of them, in the order of the trace."""
        requests = zip(self.tenants, self.trace.requests, outcomes, strict=True)
        return [
            Served(tenant=tenant, prompt_tokens=request.prompt_tokens, outcome=outcome)
            for tenant, request, outcome in requests
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A tenant's request after the run."""

    tenant: str
    prompt_tokens: int
    outcome: Outcome

    @property
    def tokens(self) -> int:
        """Prompt and output."""
        return self.prompt_tokens + self.outcome.tokens


def assign(trace: Trace, policy: Policy, shares: Mapping[str, float], seed: int) -> TenantTrace:
    """The same for the same seed, whatever system serves it. `shares` has every tenant, relative to the others.

    Raises PolicyError for a category that no tenant has a class for.
    """
    chance = np.random.default_rng([seed, 3])
    categories = np.array([request.category for request in trace.requests])
    tenants = np.empty(len(categories), dtype=object)
    for category in trace.categories:
        able = [name for name, tenant in policy.tenants.items() if category in tenant.classes]
        if not able:
            raise PolicyError(_uncovered(trace, category, policy))
        weights = np.array([shares[name] for name in able])
        mine = categories == category
        tenants[mine] = chance.choice(able, size=mine.sum(), p=weights / weights.sum()).tolist()
    requests = tuple(_promised(request, policy.classes[request.category]) for request in trace.requests)
    return TenantTrace(trace=replace(trace, requests=requests), tenants=tuple(tenants))


def _promised(request: TraceRequest, promise: ServiceClass) -> TraceRequest:
    return replace(request, tpot_ratio=promise.tpot, tpot_ms=promise.tpot_ms, ttft_ms=promise.ttft_ms)


def _uncovered(trace: Trace, category: str, policy: Policy) -> str:
    tenants = "; ".join(f"{name}: {', '.join(tenant.classes)}" for name, tenant in policy.tenants.items())
    return f"trace {trace.name!r} has requests of category {category!r}, a class of no tenant ({tenants})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassStanding:
    """How one class of one tenant was served. `requests` of all runs; `attainment` and `objective` in percent."""

    tenant: str
    name: str
    requests: int
    attainment: Estimate
    objective: float | None

    @property
    def is_met(self) -> bool | None:
        """Whether the mean reaches the objective; None without an objective or without requests."""
        if self.objective is None or self.attainment.mean is None:
            return None
        return self.attainment.mean >= self.objective

    def json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "attainment": self.attainment.json(),
            "objective": self.objective,
            "met": self.is_met,
        }


def class_standings(policy: Policy, runs: Sequence[Sequence[Served]]) -> Iterator[ClassStanding]:
    """Of every class that a tenant may use, in the order of the policy."""
    for tenant, settings in policy.tenants.items():
        for name in settings.classes:
            found = [
                [one.outcome for one in run if (one.tenant, one.outcome.category) == (tenant, name)]
                for run in runs
            ]
            objective = policy.classes[name].objective
            yield ClassStanding(
                tenant=tenant,
                name=name,
                requests=sum(map(len, found)),
                attainment=Estimate.of(map(attainment, found)),
                objective=None if objective is None else round(100.0 * objective, 9),
            )
