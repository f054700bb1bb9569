"""What a valid policy file says that its operator may not have meant. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import urlsplit

from shared.policy import Policy
from shared.rollout import Rollout
from shared.schedules import overlaps
from shared.yaml_file import Place, YamlFile

_LOCAL = ("localhost", "127.0.0.1", "::1")


def warnings(file: YamlFile, policy: Policy, since: datetime) -> list[str]:
    """One line each, with the line of the file; schedules are looked at over the year after ``since``."""
    found = [*_schedules(policy, since), *_classes(policy), *_tenants(policy)]
    if policy.rollout is not None:
        found += _rollout(policy, policy.rollout)
    ordered = sorted(found, key=lambda one: file.line(*one[0]))
    return [f"line {file.line(*place)}: {'.'.join(map(str, place))}: {words}" for place, words in ordered]


def _schedules(policy: Policy, since: datetime) -> Iterator[tuple[Place, str]]:
    for index, schedule in enumerate(policy.schedules):
        if schedule.minutes_an_hour == 1:
            hours = " ".join(["*", *schedule.cron.split()[1:]])
            words = f"is on for a single minute of each hour that it names; {hours!r} is on all the time in them"
            yield ("schedules", index, "cron"), words
        promised = policy.classes[schedule.service_class]
        if schedule.over(promised) == promised:
            yield ("schedules", index), f"says what class {schedule.service_class} promises anyway"
    for earlier, later, fields, at in overlaps(policy.schedules, since):
        words = (
            f"sets {', '.join(fields)} at the same time as schedules.{earlier}, first on {at:%Y-%m-%d at %H:%M} "
            "UTC; the later entry wins"
        )
        yield ("schedules", later), words


def _classes(policy: Policy) -> Iterator[tuple[Place, str]]:
    used = {name for tenant in policy.tenants.values() for name in tenant.classes}
    for name in policy.classes:
        if name not in used:
            yield ("classes", name), "is a class of no tenant"


def _tenants(policy: Policy) -> Iterator[tuple[Place, str]]:
    for tenant, settings in policy.tenants.items():
        least = settings.tpot_ms_min
        if least is None:
            continue
        for name in settings.classes:
            promises = [policy.classes[name]]
            promises += [one.over(promises[0]) for one in policy.schedules if one.is_for(tenant, name)]
            if any(promise.tpot_ms is not None and promise.tpot_ms < least for promise in promises):
                words = f"{least:g} keeps this tenant from what class {name} promises"
                yield ("tenants", tenant, "tpot_ms_min"), words


def _rollout(policy: Policy, rollout: Rollout) -> Iterator[tuple[Place, str]]:
    upstream = rollout.otherwise
    if upstream is not None:
        parts = urlsplit(upstream.upstream)
        if upstream.api_key_env is not None and parts.scheme == "http" and parts.hostname not in _LOCAL:
            yield ("rollout", "otherwise", "upstream"), "sends the key of api_key_env unencrypted"
    if rollout.ramp is not None and rollout.ramp[-1] < 1:
        yield ("rollout", "ramp"), f"ends at {rollout.ramp[-1]:g}; the rest is never served with speculation"
    for name in rollout.tenants:
        if not any(policy.classes[one].has_target for one in policy.tenants[name].classes):
            yield ("rollout", "tenants"), f"tenant {name} has no class with a target: neither arm can miss one"
