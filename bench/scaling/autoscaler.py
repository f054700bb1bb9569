"""The horizontal autoscaler of Kubernetes, by which KEDA scales too: from metrics to replicas. Pure.

Every SYNC_S it takes, over all metrics, the largest number of replicas that one of them asks for, damps it by the
stabilization windows, and moves there no faster than the policies allow. As `pkg/controller/podautoscaler` does.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from bench.scaling.rules import Direction, Policy, Rules, Trigger

SYNC_S = 15.0
TOLERANCE = 0.1
_EPSILON = 1e-9  # 0.7 + 0.7 + 0.7 over 0.7 are three replicas, not four


def wanted(trigger: Trigger, value: float, replicas: int, ready: int) -> int:
    """Replicas that one metric asks for.

    The target of AverageValue is one replica's part of the value. Value and Utilization are the ratio to the
    target, times the ready replicas.
    """
    per_replica = trigger.type == "AverageValue"
    ratio = value / (trigger.target * replicas if per_replica else trigger.target)
    if abs(1.0 - ratio) <= TOLERANCE:
        return replicas
    return math.ceil((value / trigger.target if per_replica else ratio * ready) - _EPSILON)


class Autoscaler:
    """Holds what was recommended and done; asked every SYNC_S."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._recommended: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def decide(self, now_s: float, replicas: int, ready: int, values: Mapping[str, float]) -> int:
        """How many replicas there are to be. ``values`` has each active trigger that there is a value of."""
        asked = [
            wanted(trigger, values[name], replicas, ready)
            for name, trigger in self._rules.active.items()
            if name in values
        ]
        desired = max(asked, default=replicas)
        stable = self._stabilized(now_s, replicas, min(max(desired, self._rules.min), self._rules.max))
        chosen = min(max(self._limited(now_s, replicas, stable), self._rules.min), self._rules.max)
        if chosen != replicas:
            self._changes.append((now_s, chosen - replicas))
        return chosen

    def _stabilized(self, now_s: float, replicas: int, desired: int) -> int:
        behavior = self._rules.behavior
        if not self._recommended:
            self._recommended.append((now_s, replicas))  # what it finds counts as recommended
        up = down = desired
        for at_s, past in self._recommended:
            if at_s > now_s - behavior.scaleUp.stabilizationWindowSeconds:
                up = min(up, past)
            if at_s > now_s - behavior.scaleDown.stabilizationWindowSeconds:
                down = max(down, past)
        self._recommended.append((now_s, desired))
        while self._recommended and self._recommended[0][0] < now_s - 3600.0:
            self._recommended.popleft()
        return min(max(replicas, up), down)

    def _limited(self, now_s: float, replicas: int, desired: int) -> int:
        if desired > replicas:
            return min(desired, max(replicas, self._bound(now_s, replicas, self._rules.behavior.scaleUp, up=True)))
        if desired < replicas:
            bound = self._bound(now_s, replicas, self._rules.behavior.scaleDown, up=False)
            return max(desired, min(replicas, bound))
        return desired

    def _bound(self, now_s: float, replicas: int, direction: Direction, *, up: bool) -> int:
        """As far as the policies let it go."""
        bounds = [_moved(policy, self._before(now_s, replicas, policy), up) for policy in direction.policies]
        furthest = (direction.selectPolicy == "Max") == up
        return max(bounds) if furthest else min(bounds)

    def _before(self, now_s: float, replicas: int, policy: Policy) -> int:
        """Replicas at the beginning of the policy's period."""
        since_s = now_s - policy.periodSeconds
        return replicas - sum(change for at_s, change in self._changes if at_s > since_s)


def _moved(policy: Policy, start: int, up: bool) -> int:
    sign = 1 if up else -1
    if policy.type == "Pods":
        return start + sign * policy.value
    moved = start * (1.0 + sign * policy.value / 100.0)
    return math.ceil(moved) if up else math.floor(moved)
