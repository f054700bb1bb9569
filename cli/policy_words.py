"""Policies in words: what a tenant gets, and what differs between two files. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from shared.policy import Policy, Tenant
from shared.rollout import Rollout
from shared.schedules import Schedule
from shared.service_class import ServiceClass
from shared.yaml_file import YamlFile

NOTHING = "none"
TIME = "%a %Y-%m-%d %H:%M"
_LIMITS = {  # fields of a tenant, in words
    "weight": "weight",
    "rpm": "requests a minute",
    "tpm": "tokens a minute",
    "max_concurrent": "requests at a time",
    "max_tokens": "tokens of one answer",
    "tpot_ms_min": "least TPOT target in ms",
}


def counted(policy: Policy) -> str:
    """What a good file holds."""
    parts = [
        _number(len(policy.classes), "class", "classes"),
        _number(len(policy.tenants), "tenant", "tenants"),
        _number(len(policy.schedules), "schedule", "schedules"),
    ]
    return f"good: {', '.join(parts)}{', a rollout' if policy.rollout else ''}"


def _number(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def targets(promise: ServiceClass | Schedule) -> dict[str, str]:
    """Each target that is there, in words."""
    found = {}
    if promise.tpot is not None:
        found["TPOT"] = f"{promise.tpot:g} x the zero-load latency"
    if promise.tpot_ms is not None:
        found["TPOT"] = f"{promise.tpot_ms:g} ms"
    if promise.ttft_ms is not None:
        found["TTFT"] = f"{promise.ttft_ms:g} ms"
    if promise.tier is not None:
        found["tier"] = str(promise.tier)
    return found


def promised(promise: ServiceClass) -> str:
    """A class in one line."""
    found = targets(promise)
    tier = found.pop("tier")
    said = ", ".join(f"{name} at most {value}" for name, value in found.items()) or "no target (best effort)"
    objective = "" if promise.objective is None else f", for {100 * promise.objective:g} % of its requests"
    return f"{said}{objective}; tier {tier}"


def acceptance(tenant: Tenant) -> str:
    return "exact" if tenant.typical is None else f"exact, typical from {tenant.typical:g} on request"


def introduction(rollout: Rollout | None, tenant: str) -> str:
    """What a rollout does to a tenant's requests."""
    if rollout is None or tenant not in rollout.tenants:
        return "all requests are served with speculation"
    shares = " -> ".join(f"{100 * step:g} %" for step in rollout.steps)
    others = "decoded plainly" if rollout.otherwise is None else f"sent to {rollout.otherwise.upstream}"
    pace = f", a step every {rollout.period_hours:g} h at the earliest" if rollout.ramp else ""
    return f"{shares} of its requests are served with speculation{pace}; the others are {others}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one tenant gets at a time, each part with the line that says so."""

    file: YamlFile
    policy: Policy
    tenant: str
    at: datetime

    def lines(self) -> list[str]:
        settings = self.policy.tenants[self.tenant]
        default = self._line("tenants", self.tenant, "default")
        return [
            f"{self.tenant} (line {self._line('tenants', self.tenant)}), at {self.at:{TIME}} UTC",
            f"  gets class {settings.default} where a request does not ask for another (line {default})",
            *(line for name in settings.classes for line in self._class(name)),
            *self._service_tiers(settings),
            *self._limits(settings),
            f"  acceptance: {acceptance(settings)}{self._cited('acceptance')}",
            f"  {introduction(self.policy.rollout, self.tenant)}{self._rollout_line()}",
        ]

    def _line(self, *place: str | int) -> int:
        return self.file.line(*place)

    def _cited(self, field: str) -> str:
        """Where the tenant says so; a field that it leaves out has its default."""
        given = field in self.policy.tenants[self.tenant].model_fields_set
        return f" (line {self._line('tenants', self.tenant, field)})" if given else " (the default)"

    def _class(self, name: str) -> Iterator[str]:
        now = self.policy.promise(self.tenant, name, self.at)
        yield f"  class {name}: {promised(now)} (line {self._line('classes', name)})"
        least = self.policy.tenants[self.tenant].tpot_ms_min
        if least is not None and now.tpot_ms is not None and now.tpot_ms < least:
            yield f"    but the tenant's least TPOT target is {least:g} ms{self._cited('tpot_ms_min')}"
        for index, schedule in enumerate(self.policy.schedules):
            if schedule.is_for(self.tenant, name):
                yield f"    {self._schedule(schedule)} (line {self._line('schedules', index)})"

    def _schedule(self, schedule: Schedule) -> str:
        changes = ", ".join(f"{name} {value}" for name, value in targets(schedule).items())
        change = schedule.next_change(self.at)
        when = "never" if change is None else f"{change.astimezone(ZoneInfo(schedule.timezone)):{TIME}}"
        if schedule.is_on(self.at):
            return f"now by schedule: {changes}; until {when} {schedule.timezone}"
        if change is None:
            return f"by schedule: {changes}; not within a year"
        return f"by schedule: {changes}; from {when} {schedule.timezone}"

    def _service_tiers(self, settings: Tenant) -> Iterator[str]:
        for tier, name in self.policy.service_tiers.items():
            if name in settings.classes:
                yield f"  service_tier {tier} is class {name} (line {self._line('service_tiers', tier)})"

    def _limits(self, settings: Tenant) -> Iterator[str]:
        for field, words in _LIMITS.items():
            value = getattr(settings, field)
            yield f"  {words}: {_shown(value)}{self._cited(field)}"

    def _rollout_line(self) -> str:
        rollout = self.policy.rollout
        is_in = rollout is not None and self.tenant in rollout.tenants
        return f" (line {self._line('rollout')})" if is_in else ""


def differences(old: Policy, new: Policy) -> Iterator[str]:
    """What changes for which tenant, one line each; a single line where nothing does."""
    unchanged = 0
    for tenant in [*old.tenants, *(name for name in new.tenants if name not in old.tenants)]:
        if tenant not in new.tenants:
            yield f"{tenant}: is no tenant any more; its requests are refused"
            continue
        before = facts(old, tenant) if tenant in old.tenants else {}
        after = facts(new, tenant)
        changes = [*_changes(before, after)]
        if changes:
            yield f"{tenant}:" if before else f"{tenant}: a new tenant"
            yield from (f"  {change}" for change in changes)
        else:
            unchanged += 1
    if unchanged:
        yield f"{_number(unchanged, 'tenant', 'tenants')} without a change"


def _changes(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    for name in [*before, *(name for name in after if name not in before)]:
        if before.get(name) != after.get(name):
            was, now = before.get(name, NOTHING), after.get(name, NOTHING)
            yield f"{name}: {now}" if not before else f"{name}: {was} -> {now}"


def facts(policy: Policy, tenant: str) -> dict[str, str]:
    """All that a policy says of a tenant, by name."""
    settings = policy.tenants[tenant]
    found = {"default class": settings.default}
    for name in settings.classes:
        promise = policy.classes[name]
        found[f"class {name}"] = "may be used"
        found |= {f"class {name}, {what}": value for what, value in targets(promise).items()}
        if promise.objective is not None:
            found[f"class {name}, objective"] = f"{100 * promise.objective:g} %"
        if promise.trace is not None:
            found[f"class {name}, traced"] = f"{100 * promise.trace:g} %"
        mine = [one for one in policy.schedules if one.is_for(tenant, name)]
        for index, schedule in enumerate(mine, 1):
            changes = ", ".join(f"{what} {value}" for what, value in targets(schedule).items())
            found[f"class {name}, schedule {index}"] = f"{changes} at {schedule.cron!r} {schedule.timezone}"
    tiers = {tier: name for tier, name in policy.service_tiers.items() if name in settings.classes}
    found |= {f"service_tier {tier}": f"class {name}" for tier, name in tiers.items()}
    found |= {words: _shown(getattr(settings, field)) for field, words in _LIMITS.items()}
    rollout = policy.rollout
    if rollout is not None and rollout.ramp is not None and tenant in rollout.tenants:
        found["rollout, margin"] = f"{100 * rollout.margin:g} points of attainment"
        found["rollout, requests to judge by"] = str(rollout.min_requests)
    return found | {"acceptance": acceptance(settings), "rollout": introduction(rollout, tenant)}


def _shown(value: float | None) -> str:
    return "no limit" if value is None else f"{value:.12g}"
