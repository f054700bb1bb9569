"""What is done in which order, and how often each step may refuse a client."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from deploy.rehearsal.campaign import Plan, Rehearsal
from deploy.rehearsal.clients import Clients, Question, Seen
from deploy.rehearsal.release import Release

PLAN = Plan(num_clients=4, hold_s=0.0, sizes=(2,))
QUESTION = Question([1], [2])


class FakePod:
    """Ends with 0."""

    def __init__(self, name: str) -> None:
        self.name, self.exits = f"{name}-0", {name: 0}


class FakeWorkload:
    """Writes down what is done to it; a restart ends one pod of the same name."""

    def __init__(self, name: str, log: list[str], notes: list[str]) -> None:
        labels = {"app.kubernetes.io/component": name}
        self.document = {
            "metadata": {"name": name},
            "spec": {"template": {"metadata": {"labels": labels}}},
        }
        self.name, self.replicas, self.retired, self._log = name, 1, list[FakePod](), log
        self._notes = notes

    def restart(self) -> None:
        self._log.append(f"restart {self.name}")
        self.retired.append(FakePod(self.name))

    async def settle(self) -> None:
        await asyncio.sleep(0)
        self._log.append(f"settled {self.name}")
        self._notes += [f"{self.name} ended by itself with {code}: {len(self._notes)}" for code in (1, 3)]


class FakeRelease:
    def __init__(self, *names: str) -> None:
        self.log: list[str] = []
        self.notes: list[str] = []
        self.workloads = [FakeWorkload(name, self.log, self.notes) for name in names]

    @property
    def retired(self) -> list[FakePod]:
        return [pod for workload in self.workloads for pod in workload.retired]

    def workload(self, name: str) -> FakeWorkload:
        return next(one for one in self.workloads if one.name == name)


class FakeClients:
    def start(self, _: Any) -> None: ...

    async def stop(self) -> None: ...

    def begin_step(self) -> Seen:
        return Seen()


async def rehearsed(*names: str) -> tuple[Rehearsal, list[str]]:
    release = FakeRelease(*names)
    rehearsal = Rehearsal(cast(Release, release), cast(Clients, FakeClients()), PLAN)
    await rehearsal.run([QUESTION])
    return rehearsal, release.log


SERVICES = ("gateway", "drafter", "selector", "verifier")


async def test_an_upgrade_changes_everything_before_anything_is_settled() -> None:
    rehearsal, log = await rehearsed("redis", *SERVICES)
    begin = log.index("restart redis")
    assert [words.split()[0] for words in log[begin : begin + 10]] == ["restart"] * 5 + ["settled"] * 5
    (step,) = [one for one in rehearsal.result.steps if "Redis StatefulSet among it" in one.name]
    assert set(step.exits) == {f"{name}-0/{name}" for name in ("redis", *SERVICES)}  # also of names that came back
    assert step.may_refuse is None
    assert len(step.restarts) == 5


async def test_a_service_that_found_no_redis_may_be_started_again_while_that_is_restarted() -> None:
    rehearsal, _ = await rehearsed("redis", "verifier", "drafter", "selector", "gateway")
    result = rehearsal.result
    result.notes = [note for step in result.steps for note in step.restarts] + [
        "gateway ended by itself with 3: x"
    ]
    assert result.faults == ["gateway ended by itself with 3: x"]


async def test_each_client_may_be_refused_once_for_each_gateway_that_has_left() -> None:
    rehearsal, _ = await rehearsed(*SERVICES)
    may = {step.name: step.may_refuse for step in rehearsal.result.steps}
    assert may["rollout of gateway"] == may["helm upgrade: everything at once"] == 4
    assert {count for name, count in may.items() if "gateway" not in name and "everything" not in name} == {0}
