"""The controllers' part: how many pods of which revision there are, by the workload's own strategy."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from deploy.rehearsal.manifests import Document, RehearsalError
from deploy.rehearsal.pod import Pod

LOOK_S = 0.05
DEADLINE_S = 600.0  # Kubernetes' default progressDeadlineSeconds

COST = "controller.kubernetes.io/pod-deletion-cost"

NewPod = Callable[[Document, str], Pod]
"""From a workload and its pod's name."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a rolling update: pods beyond the replicas, and replicas that may be missing."""

    surge: int
    unavailable: int

    @classmethod
    def of(cls, workload: Document, replicas: int) -> Bounds:
        """Raises RehearsalError for another strategy than RollingUpdate."""
        strategy = workload["spec"].get("strategy", {})
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            raise RehearsalError(f"{workload['metadata']['name']}: strategy {strategy['type']} is not supported")
        given = strategy.get("rollingUpdate") or {}
        surge = math.ceil(_share(given.get("maxSurge", "25%"), replicas))
        unavailable = math.floor(_share(given.get("maxUnavailable", "25%"), replicas))
        return cls(surge, unavailable if surge or unavailable else 1)


def _share(value: int | str, replicas: int) -> float:
    return float(value) if isinstance(value, int) else replicas * float(value.rstrip("%")) / 100


def _cost(pod: Pod) -> int:
    """What its deletion costs, as its annotation says."""
    return int(pod.annotations.get(COST, "0"))


class Workload:
    """A Deployment, or a StatefulSet of stable names. ``pods`` are all that have not ended."""

    def __init__(self, document: Document, new_pod: NewPod, note: Callable[[str], None]) -> None:
        self.document = document
        self.name = str(document["metadata"]["name"])
        self.replicas = int(document["spec"].get("replicas", 1))
        self.pods: list[Pod] = []
        self.retired: list[Pod] = []
        self._new_pod, self._note = new_pod, note
        self._is_stateful = document["kind"] == "StatefulSet"
        self._revision = 0
        self._revisions: dict[str, int] = {}
        self._num_created = 0

    @property
    def active(self) -> list[Pod]:
        return [pod for pod in self.pods if not pod.is_terminating]

    @property
    def available(self) -> list[Pod]:
        """Ready for as long as the workload asks."""
        least_s = float(self.document["spec"].get("minReadySeconds", 0))
        now = time.monotonic()
        return [pod for pod in self.active if pod.ready_since is not None and now - pod.ready_since >= least_s]

    @property
    def is_settled(self) -> bool:
        """As many available pods of the newest revision as asked for, and nothing else, not even ending."""
        return len(self.pods) == len(self.available) == self.replicas and not self._old()

    def restart(self) -> None:
        """A new revision of the same template, as ``kubectl rollout restart`` makes one."""
        self._revision += 1

    async def settle(self) -> None:
        """Until it is as asked. Raises RehearsalError when a pod cannot run, or time is over."""
        deadline = time.monotonic() + float(self.document["spec"].get("progressDeadlineSeconds", DEADLINE_S))
        while not self.is_settled:
            if time.monotonic() > deadline:
                raise RehearsalError(
                    f"{self.name}: {len(self.available)} of {self.replicas} pods available in time"
                )
            if (failure := next(filter(None, (pod.failure for pod in self.pods)), None)) is not None:
                raise RehearsalError(failure)
            self._reconcile()
            await asyncio.sleep(LOOK_S)

    async def end(self) -> None:
        """Delete all of its pods, and wait for them."""
        self.replicas = 0
        await self.settle()

    def _old(self) -> list[Pod]:
        return [pod for pod in self.active if self._revisions[pod.name] != self._revision]

    def _reconcile(self) -> None:
        """Old pods go as new ones become available; then whoever is too many."""
        old = self._old()
        new = [pod for pod in self.active if pod not in old]
        bounds = Bounds(0, 1) if self._is_stateful else Bounds.of(self.document, self.replicas)
        missing = min(self.replicas - len(new), self.replicas + bounds.surge - len(self.active))
        for _ in range(missing):
            if not (self._is_stateful and self.pods):
                self._create()
        if old:
            self._replace(old, new, self.replicas - bounds.unavailable)
        elif len(new) > self.replicas:
            for pod in self._victims(new)[: len(new) - self.replicas]:
                self._delete(pod)

    def _replace(self, old: list[Pod], new: list[Pod], least: int) -> None:
        """Old ones that serve nobody first, then as many as leaves the ``least`` available."""
        available = self.available
        waiting = sum(pod not in available for pod in new)
        may_go = max(0, len(self.active) - least - waiting)
        idle = [pod for pod in old if pod not in available][:may_go]
        serving = [pod for pod in old if pod in available]
        for pod in [*idle, *self._victims(serving)[: max(0, len(available) - least)]]:
            self._delete(pod)

    @staticmethod
    def _victims(pods: list[Pod]) -> list[Pod]:
        """As a ReplicaSet chooses on one node: who is not ready, who costs least, who was ready last."""
        return sorted(pods, key=lambda pod: (pod.ready_since is not None, _cost(pod), -(pod.ready_since or 0.0)))

    def _create(self) -> None:
        tail = str(len(self.pods)) if self._is_stateful else f"r{self._revision}-{self._num_created}"
        pod = self._new_pod(self.document, f"{self.name}-{tail}")
        self._num_created += 1
        self._revisions[pod.name] = self._revision
        self.pods.append(pod)
        pod.start()

    def _delete(self, pod: Pod) -> None:
        pod.delete().add_done_callback(lambda _: self._gone(pod))

    def _gone(self, pod: Pod) -> None:
        if pod in self.pods:
            self.pods.remove(pod)
            self.retired.append(pod)
