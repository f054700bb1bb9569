"""Systems compared tenant by tenant: the part of `adaserve simulate` behind --policy and --prices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.report import Report
from bench.simulator.economics import Statement, statements
from bench.simulator.prices import Prices, load_prices
from bench.simulator.simulate import Run
from bench.simulator.tenancy import ClassStanding, Served, TenantTrace, assign, class_standings
from bench.traces import Trace
from bench.workloads import load_trace
from shared.errors import PolicyError
from shared.policy import Policy, load_policy


@dataclass(frozen=True, slots=True)
class Tenancy:
    """A policy, and what its tenants pay where that is known. Picklable, as `load` runs in other processes."""

    policy: Policy
    prices: Prices | None

    @classmethod
    def read(cls, policy_path: Path, prices_path: Path | None) -> Tenancy:
        """Raises PolicyError for a file that is not what it should be."""
        policy = load_policy(policy_path)
        return cls(policy, None if prices_path is None else load_prices(prices_path, policy))

    @property
    def not_simulated(self) -> list[str]:
        """Sections of the policy that say something and have no effect here."""
        names = ("service_tiers", "schedules", "rollout")
        return [name for name in names if getattr(self.policy, name)]

    def trace(self, name: str, seed: int) -> TenantTrace:
        """By the prices' shares; equal shares without prices. Raises what `load_trace` and `assign` raise."""
        priced = self.prices.tenants if self.prices else {}
        shares = {tenant: priced[tenant].share if tenant in priced else 1.0 for tenant in self.policy.tenants}
        return assign(load_trace(name, seed), self.policy, shares, seed)

    def load(self, name: str, seed: int) -> Trace:
        """The trace with the policy's targets."""
        return self.trace(name, seed).trace


@dataclass(frozen=True, slots=True)
class SystemResult:
    """One system: its report, its tenants' classes, and with prices its tenants' statements (None: of all)."""

    report: Report
    standings: Sequence[ClassStanding]
    statements: Mapping[str | None, Statement]

    def json(self) -> dict[str, Any]:
        """The report's object with `tenants`, and with prices `total`."""
        tenants: dict[str, dict[str, Any]] = {one.tenant: {"classes": {}} for one in self.standings}
        for one in self.standings:
            tenants[one.tenant]["classes"][one.name] = one.json()
        told: dict[str, Any] = {**self.report.json(), "tenants": tenants}
        for tenant, statement in self.statements.items():
            if tenant is None:
                told["total"] = statement.json()
            else:
                tenants[tenant] |= statement.json()
        return told


@dataclass(slots=True)
class TenantResults:
    """What systems did for the tenants of one trace. The system added last is the baseline of the others."""

    tenancy: Tenancy
    traces: Mapping[int, TenantTrace]  # by seed
    _reports: list[Report] = field(default_factory=list)
    _runs: list[Sequence[Sequence[Served]]] = field(default_factory=list)  # of each report

    @classmethod
    def of(cls, tenancy: Tenancy, trace: str, seeds: Sequence[int]) -> TenantResults:
        """Without results yet. Raises PolicyError where a request has no tenant, or an hour no meaning."""
        traces = {seed: tenancy.trace(trace, seed) for seed in seeds}
        for assigned in traces.values():
            requests = assigned.trace.requests
            if tenancy.prices is not None and requests[0].arrival_ms == requests[-1].arrival_ms:
                raise PolicyError(
                    f"trace {trace!r}: requests arrive all at once; earnings per hour need a duration"
                )
        return cls(tenancy, traces)

    def add(self, report: Report, runs: Mapping[int, Run]) -> None:
        """The next system's."""
        self._reports.append(report)
        self._runs.append([self.traces[seed].served(run.outcomes) for seed, run in runs.items()])

    @property
    def baseline(self) -> str:
        return self._reports[-1].system

    def results(self) -> Iterator[SystemResult]:
        """In the order added; the baseline itself is compared with nothing."""
        for report, runs in zip(self._reports, self._runs, strict=True):
            baseline = None if runs is self._runs[-1] else self._runs[-1]
            yield SystemResult(
                report,
                list(class_standings(self.tenancy.policy, runs)),
                self._statements(runs, baseline),
            )

    def _statements(
        self, runs: Sequence[Sequence[Served]], baseline: Sequence[Sequence[Served]] | None
    ) -> Mapping[str | None, Statement]:
        prices = self.tenancy.prices
        if prices is None:
            return {}
        return statements(runs, baseline, prices if baseline is not None else prices.without_drafter)

    def json(self) -> Iterator[dict[str, Any]]:
        """An object for each system; with prices also `currency` and `baseline`."""
        prices = self.tenancy.prices
        common = {} if prices is None else {"currency": prices.currency, "baseline": self.baseline}
        for result in self.results():
            yield result.json() | common
