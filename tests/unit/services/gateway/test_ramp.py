"""The steps of a rollout: figures in, verdicts out; and on a real Redis what several gateways make of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis import Redis

from services.gateway import ramp
from services.gateway.bus import Bus
from services.gateway.errors import ApiError
from services.gateway.policy_source import PolicySource
from services.gateway.ramp import Move, Stage, Tally, Verdict, applied, begun, judge
from services.gateway.rollouts import Rollouts
from shared.errors import BusUnavailable, UnreadableMessage
from shared.policy import Policy
from shared.rollout import Arm, Rollout
from shared.telemetry import configure
from shared.topics import Keys

HOUR = 3_600_000
STEPS = (0.1, 0.5, 1.0)
ROLLOUT = Rollout.model_validate(
    {"tenants": ["acme"], "ramp": list(STEPS), "period_hours": 24, "margin": 0.05, "min_requests": 100}
)
TENANTS = ("acme",)
OBJECTIVES = {"chat": 0.9, "coding": 0.99}


def figures(
    chat: Any = (0, 0), coding: Any = (0, 0), chat_others: Any = (0, 0), coding_others: Any = (0, 0)
) -> Any:
    return {
        (Arm.TREATMENT, "chat"): Tally(*chat),
        (Arm.TREATMENT, "coding"): Tally(*coding),
        (Arm.CONTROL, "chat"): Tally(*chat_others),
        (Arm.CONTROL, "coding"): Tally(*coding_others),
    }


GOOD = figures(chat=(95, 100), coding=(100, 100))


@pytest.mark.parametrize(
    ("step", "hours", "tallies", "move", "reason"),
    [
        (1, 23.9, GOOD, Move.WAIT, "the step's period is not over"),
        (1, 24, GOOD, Move.ADVANCE, "every class is good"),
        (2, 24, GOOD, Move.ADVANCE, "every class is good"),
        (3, 24, GOOD, Move.RENEW, "the last step is good"),
        (1, 24, figures(), Move.WAIT, "no request with an objective has finished yet"),
        (1, 24, {}, Move.WAIT, "no request with an objective has finished yet"),
        (1, 24, figures(chat=(95, 100)), Move.ADVANCE, "every class is good"),  # nobody asks for coding
        (1, 24, figures(chat=(95, 100), coding=(7, 7)), Move.WAIT, "class coding has 7 of 100 requests"),
        (1, 24, figures(chat=(10, 99), coding=(100, 100)), Move.WAIT, "class chat has 99 of 100 req"),
        (1, 24, figures(chat=(90, 100)), Move.ADVANCE, "every class is good"),  # not below
        (1, 24, figures(chat=(89, 100)), Move.HALT, "class chat: 89 % of 100 attained, the objective is 90 %"),
        (1, 24, figures(chat=(95, 100), coding=(98, 100)), Move.HALT, "class coding: 98 % of 100 attained"),
        (1, 24, figures((900, 1000), chat_others=(951, 1000)), Move.HALT,
         "class chat: 90 % of 1000 attained, without speculation 95.1 % of 1000"),
        (1, 24, figures((900, 1000), chat_others=(950, 1000)), Move.ADVANCE, "every class is good"),
        (1, 24, figures((900, 1000), chat_others=(99, 99)), Move.ADVANCE, "every class is good"),  # too few
        # before the end of the period only what is certain counts
        (1, 1, figures(chat=(89, 100)), Move.WAIT, "the step's period is not over"),
        (1, 1, figures(chat=(80, 100)), Move.HALT, "class chat: 80 % of 100 attained, the objective is 90 %"),
        (1, 1, figures(chat=(8, 10)), Move.WAIT, "the step's period is not over"),
        (1, 1, figures((900, 1000), chat_others=(980, 1000)), Move.WAIT, "the step's period is not over"),
        (1, 1, figures((9000, 10000), chat_others=(9800, 10000)), Move.HALT, "class chat: 90 % of 10000"),
        (3, 1, figures(chat=(0, 100)), Move.HALT, "class chat: 0 % of 100 attained"),
    ],
)  # fmt: skip
def test_what_is_next(step: int, hours: float, tallies: Any, move: Move, reason: str) -> None:
    stage = Stage(tenants=TENANTS, steps=STEPS, step=step, since_ms=5)
    found = judge(ROLLOUT, OBJECTIVES, stage, tallies, 5 + round(hours * HOUR))
    assert found.move is move
    assert found.reason.startswith(reason)


def test_a_halted_one_and_one_without_a_ramp_wait() -> None:
    stage = Stage(tenants=TENANTS, steps=STEPS, halted="by hand")
    assert judge(ROLLOUT, OBJECTIVES, stage, GOOD, 99 * HOUR) == (Move.WAIT, "halted: by hand")
    fixed = Rollout.model_validate({"tenants": ["acme"], "share": 0.3})
    stage = begun(fixed, None, 7)
    assert (stage.share, stage.since_ms) == (0.3, 7)
    assert judge(fixed, OBJECTIVES, stage, figures(chat=(0, 999)), 99 * HOUR).move is Move.WAIT


def test_a_halt_goes_a_step_back_and_the_first_one_treats_nobody() -> None:
    halt = Verdict(Move.HALT, "class chat is bad")
    second = applied(Stage(tenants=TENANTS, steps=STEPS, step=3, since_ms=1), halt, 9)
    assert (second.step, second.share, second.since_ms, second.halted) == (2, 0.5, 9, "class chat is bad")
    none = applied(Stage(tenants=TENANTS, steps=STEPS, step=1), halt, 9)
    assert (none.step, none.share) == (0, 0.0)
    again = ramp.resumed(none, 11)
    assert (again.step, again.share, again.since_ms, again.halted) == (1, 0.1, 11, "")


def test_other_moves_and_orders() -> None:
    stage = Stage(tenants=TENANTS, steps=STEPS, step=2, since_ms=1)
    assert applied(stage, Verdict(Move.WAIT, ""), 9) == stage
    assert applied(stage, Verdict(Move.RENEW, ""), 9) == Stage(tenants=TENANTS, steps=STEPS, step=2, since_ms=9)
    assert applied(stage, Verdict(Move.ADVANCE, ""), 9) == Stage(tenants=TENANTS, steps=STEPS, step=3, since_ms=9)
    assert ramp.set_to(ramp.halted(stage, "x"), 3, 9) == Stage(tenants=TENANTS, steps=STEPS, step=3, since_ms=9)
    assert ramp.set_to(stage, 0, 9).halted == "set to step 0"
    assert ramp.halted(stage, "x") == Stage(tenants=TENANTS, steps=STEPS, step=2, since_ms=1, halted="x")


@pytest.mark.parametrize(
    ("steps", "step", "new", "found"),
    [
        (STEPS, 2, STEPS, 2),
        (STEPS, 2, (0.1, 0.25, 0.5, 1.0), 3),
        (STEPS, 3, (0.2, 0.9), 2),
        (STEPS, 1, (0.2, 0.9), 1),  # the new first step treats more; there is none lower
        ((0.1,), 1, (0.5,), 1),  # a share is what its file says
        (STEPS, 0, (0.2, 0.9), 0),
        (STEPS, 2, (0.05, 0.4), 2),
    ],
)
def test_an_edited_ramp_goes_on_where_it_treats_no_more(steps: Any, step: int, new: Any, found: int) -> None:
    before = Stage(tenants=TENANTS, steps=steps, step=step, since_ms=1, halted="x")
    after = begun(ROLLOUT.model_copy(update={"ramp": new}), before, 9)
    assert (after.step, after.steps, after.halted) == (found, new, "x")
    assert after.since_ms == (1 if steps == new else 9)


def test_a_tenant_that_is_added_begins_at_the_first_step() -> None:
    """Also if the section was gone meanwhile, for what Redis holds does not go with it."""
    everybody = Stage(tenants=TENANTS, steps=STEPS, step=3, since_ms=1)
    for tenants in (["globex"], ["acme", "globex"]):
        after = begun(ROLLOUT.model_copy(update={"tenants": tuple(tenants)}), everybody, 9)
        assert after == Stage(tenants=tuple(tenants), steps=STEPS, step=1, since_ms=9)
    two = Stage(tenants=("acme", "globex"), steps=STEPS, step=3, since_ms=1)
    one = begun(ROLLOUT, two, 9)
    assert (one.step, one.since_ms, one.tenants) == (3, 1, TENANTS)
    assert begun(ROLLOUT.model_copy(update={"tenants": ("acme", "globex")}), one, 9).step == 1


def test_what_was_halted_stays_so_whoever_joins() -> None:
    both = ROLLOUT.model_copy(update={"tenants": ("acme", "globex")})
    for step, found in ((0, 0), (2, 1)):
        halted = Stage(tenants=TENANTS, steps=STEPS, step=step, since_ms=1, halted="class chat")
        after = begun(both, halted, 9)
        assert (after.step, after.halted) == (found, "class chat")
        others = begun(ROLLOUT.model_copy(update={"tenants": ("globex",)}), halted, 9)
        assert (others.step, others.halted) == (1, ""), "a section for others is another one"


def test_a_rollout_has_one_name_in_whichever_order() -> None:
    def name(*tenants: str, steps: tuple[float, ...] = STEPS) -> str:
        return ramp.name_of(ROLLOUT.model_copy(update={"tenants": tenants, "ramp": steps}))

    assert name("b", "a") == name("a", "b") == ramp.name_of(Stage(tenants=("b", "a"), steps=STEPS))
    assert len({name("a"), name("b"), name("a", steps=(0.1,))}) == 3


def test_a_stage_survives_redis_and_nothing_else_is_one() -> None:
    stage = Stage(tenants=TENANTS, steps=STEPS, step=2, since_ms=123, halted="class chat")
    assert Stage.unpack(stage.pack()) == stage
    for packed in (
        b"",
        b"{",
        b"[]",
        b"{}",
        b"[" * 9999,
        stage.pack().replace(b'"tenants": ', b'"others": '),
        stage.pack().replace(b'"step": 2', b'"step": 4'),
        b"\xff",
    ):
        with pytest.raises(UnreadableMessage):
            Stage.unpack(packed)


POLICY = Policy.model_validate(
    {
        "classes": {"chat": {"tpot_ms": 50, "objective": 0.9}},
        "tenants": {name: {"classes": ["chat"], "default": "chat"} for name in ("acme", "globex")},
        "rollout": {"tenants": ["acme"], "ramp": list(STEPS), "period_hours": 24, "min_requests": 100},
    }
)


class Cell:
    """Gateways of one cell with a clock that a test moves."""

    def __init__(self, url: str, keys: Keys) -> None:
        self.now_s = 1_000_000.0
        self.url = url
        self.keys = keys
        self.records: list[tuple[str, str, Any, Any]] = []
        self.telemetry = configure("gateway", "test")
        self.buses: list[Bus] = []

    def gateway(self, policy: Policy = POLICY) -> Rollouts:
        bus = Bus(self.url, self.keys, "gateway.test")
        self.buses.append(bus)
        source = PolicySource(None, policy, self.telemetry, secret=lambda _: None, record=self.record)
        return Rollouts(bus, source, self.telemetry, record=self.record, clock=lambda: self.now_s)

    async def record(self, what: str, *, who: str, before: Any, after: Any) -> None:
        self.records.append((what, who, before["step"], after["step"]))

    def metric(self, name: str) -> float:
        lines = self.telemetry.prometheus().decode().splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(name)), 0.0)


@pytest_asyncio.fixture
async def cell(redis_url: str, keys: Keys) -> AsyncIterator[Cell]:
    made = Cell(redis_url, keys)
    yield made
    for bus in made.buses:
        await bus.stop()
    made.telemetry.shutdown()


def finish(rollouts: Rollouts, attained: int, missed: int = 0, arm: Arm = Arm.TREATMENT) -> None:
    for met in [True] * attained + [False] * missed:
        rollouts.finished(arm, "chat", met)


async def test_gateways_count_together_and_one_of_them_takes_the_step(cell: Cell) -> None:
    one, other = cell.gateway(), cell.gateway()
    for gateway in (one, other):
        assert gateway.arm(POLICY, "acme", "user") is Arm.CONTROL  # nobody is treated before the first look
        await gateway.look()
    finish(one, 60)
    finish(other, 60)
    finish(other, 50, 5, Arm.CONTROL)
    await one.look()
    await other.look()
    assert other.about()["arms"] == {
        "treatment": {"chat": {"attained": 120, "total": 120}},
        "control": {"chat": {"attained": 50, "total": 55}},
    }
    assert (one.about()["step"], one.about()["next"]["reason"]) == (1, "the step's period is not over")
    cell.now_s += 24 * 3600
    await one.look()
    await other.look()
    assert [gateway.about()["step"] for gateway in (one, other)] == [2, 2]
    assert cell.records == [("rollout.step", "system", 1, 2)]
    assert (cell.metric("adaserve_rollout_step"), cell.metric("adaserve_rollout_share")) == (2, 0.5)
    await one.look()
    assert one.about()["arms"] == {"treatment": {}, "control": {}}  # counted anew


async def test_a_fall_halts_the_ramp_a_step_lower_until_it_is_resumed(
    cell: Cell, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = cell.gateway(), cell.gateway()
    await one.look()
    await one.order(lambda stage, now: ramp.set_to(stage, 3, now), "admin")
    finish(one, 50, 100)
    await one.look()
    found = one.about()
    assert (found["step"], found["share"]) == (2, 0.5)
    assert found["halted"] == "class chat: 33.33 % of 150 attained, the objective is 90 %"
    assert "rollout halted at step 2 by system: class chat: 33.33 %" in caplog.text
    assert (cell.metric("adaserve_rollout_halted"), cell.metric("adaserve_rollout_halts_total")) == (1, 1)
    await other.look()
    cell.now_s += 9 * 24 * 3600
    finish(other, 500)
    await other.look()
    await other.look()
    assert other.about()["step"] == 2
    await other.order(ramp.resumed, "admin")
    assert (other.about()["halted"], cell.metric("adaserve_rollout_halted")) == (None, 0)
    assert [(who, before, after) for _, who, before, after in cell.records] == [
        ("admin", 1, 3), ("system", 3, 2), ("admin", 2, 2),
    ]  # fmt: skip


async def test_of_two_that_judge_at_once_only_one_moves_the_stage(cell: Cell, redis_client: Redis) -> None:
    one = cell.gateway()
    await one.look()
    packed = redis_client.get(cell.keys.rollout)
    assert isinstance(packed, bytes)
    bus = cell.buses[0]
    assert await bus.replace_rollout(packed, b"first")
    assert not await bus.replace_rollout(packed, b"second")
    assert redis_client.get(cell.keys.rollout) == b"first"
    with pytest.raises(UnreadableMessage):
        await one.look()
    with pytest.raises(ApiError, match="cannot be changed") as caught:
        await one.order(ramp.resumed, "admin")
    assert caught.value.status == 503
    assert one.about()["step"] == 1  # as it was known


async def test_what_redis_forgets_is_put_back(cell: Cell, redis_client: Redis) -> None:
    one = cell.gateway()
    await one.look()
    await one.order(lambda stage, now: ramp.set_to(stage, 3, now), "admin")
    redis_client.delete(cell.keys.rollout)
    await one.look()
    other = cell.gateway()
    await other.look()
    assert other.about()["step"] == 3


async def test_counts_that_redis_does_not_take_are_kept(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    one = cell.gateway()
    await one.look()

    async def away(counts: Any) -> None:
        raise BusUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(cell.buses[0], "count_arms", away)
        finish(one, 3)
        with pytest.raises(BusUnavailable):
            await one.look()
    finish(one, 1)
    await one.look()
    assert one.about()["arms"]["treatment"] == {"chat": {"attained": 4, "total": 4}}


async def test_gateways_that_get_a_new_file_one_after_the_other_do_not_undo_each_other(cell: Cell) -> None:
    edited = POLICY.model_copy(deep=True)
    assert edited.rollout is not None
    changed = {"ramp": (0.2, 0.6, 1.0), "tenants": ("acme", "globex")}
    edited = edited.model_copy(update={"rollout": edited.rollout.model_copy(update=changed)})
    assert edited.rollout is not None
    early, late = cell.gateway(), cell.gateway()
    await early.look()
    await late.look()
    await early.order(lambda stage, now: ramp.set_to(stage, 3, now), "admin")
    early._policies.current = edited
    for _ in range(3):
        await early.look()
        await late.look()
    told = late.about()
    assert (told["step"], told["share"]) == (1, 0.2), "it treats as many as the others do"
    assert told["next"] == {"move": "wait", "reason": "another gateway has another rollout in its policy"}
    assert early.about()["next"]["reason"] == "the step's period is not over"
    late._policies.current = edited
    await early.order(lambda stage, now: ramp.set_to(stage, 2, now), "admin")
    await late.look()
    assert (late.about()["step"], late.about()["share"]) == (2, 0.6)
    both = edited.rollout.model_copy(update={"tenants": ("globex", "acme")})
    late._policies.current = edited.model_copy(update={"rollout": both})  # the same, in another order
    await late.look()
    assert late.about()["next"]["reason"] == "the step's period is not over"
    late._policies.current = POLICY  # taken back
    await late.look()
    assert (late.about()["step"], late.about()["share"]) == (2, 0.5)


async def test_a_look_under_way_does_not_undo_an_order(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    one = cell.gateway()
    await one.look()
    arms, is_read = cell.buses[0].arms, asyncio.Event()

    async def slow(since_ms: int) -> dict[str, int]:
        is_read.set()
        await asyncio.sleep(0.05)
        return await arms(since_ms)

    monkeypatch.setattr(cell.buses[0], "arms", slow)
    looking = asyncio.create_task(one.look())
    await is_read.wait()
    await one.order(lambda stage, now: ramp.set_to(stage, 0, now), "admin")
    await looking
    assert one.about()["share"] == 0.0


async def test_only_the_rollouts_tenants_have_an_arm(cell: Cell) -> None:
    one = cell.gateway()
    await one.look()
    await one.order(lambda stage, now: ramp.set_to(stage, 2, now), "admin")
    arms = [one.arm(POLICY, "acme", f"user {n}") for n in range(500)]
    assert 200 < arms.count(Arm.TREATMENT) < 300
    assert arms == [one.arm(POLICY, "acme", f"user {n}") for n in range(500)]
    assert one.arm(POLICY, "globex", "user") is None
    assert one.arm(None, "acme", "user") is None
    await one.order(lambda stage, now: ramp.set_to(stage, 0, now), "admin")
    assert {one.arm(POLICY, "acme", f"user {n}") for n in range(500)} == {Arm.CONTROL}


async def test_without_a_rollout_there_is_nothing_to_show_or_order(cell: Cell) -> None:
    one = cell.gateway(POLICY.model_copy(update={"rollout": None}))
    await one.look()
    with pytest.raises(ApiError, match="no rollout"):
        one.about()
    with pytest.raises(ApiError, match="no rollout"):
        await one.order(ramp.resumed, "admin")
