"""Which pods come and go in a rollout and a scale, step by step."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from deploy.rehearsal.manifests import Document, RehearsalError
from deploy.rehearsal.pod import Pod
from deploy.rehearsal.workloads import COST, Bounds, Workload


class FakePod:
    """Becomes ready and ends when the test says so."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready_since: float | None = None
        self.is_terminating = False
        self.ending: asyncio.Future[None] | None = None
        self.failure: str | None = None
        self.exits: dict[str, int] = {}
        self.annotations: dict[str, str] = {}

    def start(self) -> None: ...

    def delete(self) -> asyncio.Future[None]:
        if self.ending is None:
            self.is_terminating, self.ready_since = True, None
            self.ending = asyncio.get_running_loop().create_future()
        return self.ending


class Stage:
    """A workload whose pods are fakes."""

    def __init__(self, **spec: Any) -> None:
        document = {"kind": "Deployment", "metadata": {"name": "v"}, "spec": {"replicas": 2, **spec}}
        self.workload = Workload(document, self._new, lambda _: None)

    def _new(self, _: Document, name: str) -> Pod:
        return cast(Pod, FakePod(name))

    @property
    def pods(self) -> list[FakePod]:
        return cast(list[FakePod], self.workload.pods)

    def turn(self) -> list[str]:
        """What there is after the controller has looked; + for ready, - for ending."""
        self.workload._reconcile()
        return [
            f"{'-' if pod.is_terminating else '+' if pod.ready_since else ''}{pod.name[2:]}" for pod in self.pods
        ]

    def ready(self, *tails: str) -> None:
        for number, pod in enumerate(self.pods):
            if pod.name[2:] in tails:
                pod.ready_since = time.monotonic() - 1 + number / 100

    async def end(self, tail: str) -> None:
        (pod,) = (pod for pod in self.pods if pod.name[2:] == tail)
        assert pod.ending is not None
        pod.ending.set_result(None)
        await asyncio.sleep(0)


SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


async def test_a_rollout_with_surge_ends_an_old_pod_for_each_new_one_that_is_ready() -> None:
    stage = Stage(strategy=SURGE)
    assert stage.turn() == ["r0-0", "r0-1"]
    stage.ready("r0-0", "r0-1")
    stage.workload.restart()
    assert stage.turn() == ["+r0-0", "+r0-1", "r1-2"]
    assert stage.turn() == ["+r0-0", "+r0-1", "r1-2"]
    stage.ready("r1-2")
    assert stage.turn() == ["+r0-0", "-r0-1", "+r1-2"]
    assert stage.turn() == ["+r0-0", "-r0-1", "+r1-2", "r1-3"]  # who is ending counts for nothing
    stage.ready("r1-3")
    assert stage.turn() == ["-r0-0", "-r0-1", "+r1-2", "+r1-3"]
    assert not stage.workload.is_settled
    await stage.end("r0-0")
    await stage.end("r0-1")
    assert stage.workload.is_settled


async def test_a_rollout_without_surge_goes_one_below() -> None:
    stage = Stage(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
    stage.turn()
    stage.ready("r0-0", "r0-1")
    stage.workload.restart()
    assert stage.turn() == ["+r0-0", "-r0-1"]
    assert stage.turn() == ["+r0-0", "-r0-1", "r1-2"]
    assert stage.turn() == ["+r0-0", "-r0-1", "r1-2"]


async def test_a_smaller_scale_takes_who_is_not_ready_and_then_the_youngest() -> None:
    stage = Stage(replicas=4, strategy=SURGE)
    stage.turn()
    stage.ready("r0-0", "r0-1", "r0-2")
    stage.workload.replicas = 2
    assert stage.turn() == ["+r0-0", "+r0-1", "-r0-2", "-r0-3"]


async def test_a_pod_that_costs_more_stays() -> None:
    stage = Stage(replicas=3, strategy=SURGE)
    stage.turn()
    stage.ready("r0-0", "r0-1", "r0-2")
    for pod, cost in zip(stage.pods, ("0", "-5", "900"), strict=True):
        pod.annotations[COST] = cost
    stage.workload.replicas = 1
    assert stage.turn() == ["-r0-0", "-r0-1", "+r0-2"]


async def test_a_stateful_set_waits_for_its_old_pod_to_end() -> None:
    stage = Stage(replicas=1)
    stage.workload = Workload(
        {"kind": "StatefulSet", "metadata": {"name": "v"}, "spec": {}}, stage._new, lambda _: None
    )
    assert stage.turn() == ["0"]
    stage.ready("0")
    stage.workload.restart()
    assert stage.turn() == ["-0"]
    assert stage.turn() == ["-0"]
    await stage.end("0")
    assert stage.turn() == ["0"]


async def test_no_progress_is_an_error() -> None:
    stage = Stage(strategy=SURGE, progressDeadlineSeconds=0.01)
    with pytest.raises(RehearsalError, match="0 of 2"):
        await stage.workload.settle()


async def test_a_pod_that_can_never_run_is_an_error_at_once() -> None:
    stage = Stage(strategy=SURGE)
    stage.turn()
    stage.pods[1].failure = "no such image"
    with pytest.raises(RehearsalError, match="no such image"):
        await stage.workload.settle()


async def test_pods_must_be_ready_for_as_long_as_the_workload_asks() -> None:
    stage = Stage(strategy=SURGE, minReadySeconds=60)
    stage.turn()
    stage.ready("r0-0", "r0-1")
    assert stage.workload.available == []


@pytest.mark.parametrize(
    ("given", "replicas", "expected"),
    [
        ({}, 1, Bounds(1, 0)),
        ({}, 4, Bounds(1, 1)),
        ({"maxSurge": "30%", "maxUnavailable": "50%"}, 3, Bounds(1, 1)),
        ({"maxSurge": 0, "maxUnavailable": 0}, 3, Bounds(0, 1)),
    ],
)
def test_shares_are_rounded_as_kubernetes_does(given: dict[str, Any], replicas: int, expected: Bounds) -> None:
    document = {"metadata": {"name": "v"}, "spec": {"strategy": {"rollingUpdate": given}}}
    assert Bounds.of(document, replicas) == expected


def test_another_strategy_is_refused() -> None:
    with pytest.raises(RehearsalError, match="Recreate"):
        Bounds.of({"metadata": {"name": "v"}, "spec": {"strategy": {"type": "Recreate"}}}, 1)
