"""The rollout of this cell: who is in which arm, what became of them, and the steps of the ramp.

All gateways count into one hash in Redis and any of them may take the next step: the stage is only replaced if it
is still the one that was judged. Counts are added once a second; what Redis does not take is kept for the next
time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from services.gateway import ramp
from services.gateway.admission import unavailable
from services.gateway.audit import SYSTEM, Record
from services.gateway.bus import Bus
from services.gateway.errors import ApiError
from services.gateway.policy_source import PolicySource
from services.gateway.ramp import Move, Stage, Tally, Verdict
from shared import signals
from shared.errors import BusUnavailable, UnreadableMessage
from shared.policy import Policy
from shared.rollout import Arm, Rollout, arm_of
from shared.telemetry import Telemetry

logger = logging.getLogger(__name__)

PERIOD_S = 1.0
MAX_TRIES = 5  # of an order that other changes come before
_SEPARATOR = ":"  # no class holds one


class Rollouts:
    """Starts without a stage: until the first look nobody is treated."""

    def __init__(
        self,
        bus: Bus,
        policies: PolicySource,
        telemetry: Telemetry,
        *,
        record: Record,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bus = bus
        self._policies = policies
        self._telemetry = telemetry
        self._record = record
        self._clock = clock
        self._stage: Stage | None = None
        self._counts: Counter[tuple[int, str]] = Counter()
        self._tallies: dict[tuple[Arm, str], Tally] = {}
        self._verdict = Verdict(Move.WAIT, "not looked at yet")
        self._applied = ""  # name of the rollout that this gateway has brought in
        self._turn = asyncio.Lock()  # what a look has read is old when an order comes before its end

    def arm(self, policy: Policy | None, tenant: str, key: str) -> Arm | None:
        """Of a request; None for one that the policy's rollout is not about."""
        rollout = policy.rollout if policy is not None else None
        if rollout is None or tenant not in rollout.tenants:
            return None
        if self._stage is None:
            return Arm.CONTROL
        return arm_of(tenant, key, self._stage.share)

    def finished(self, arm: str, service_class: str, met: bool) -> None:
        """Count a request with a target that has ended by itself."""
        if self._stage is not None:
            since = self._stage.since_ms
            self._counts[since, _SEPARATOR.join((arm, service_class, "total"))] += 1
            self._counts[since, _SEPARATOR.join((arm, service_class, "attained"))] += met
        self._telemetry.add(signals.ROLLOUT_FINISHED, arm=arm, met="true" if met else "false")

    async def watch(self) -> None:
        """For ever, once a second."""
        while True:
            try:
                await self.look()
            except BusUnavailable as error:
                logger.warning("the rollout stays as it is: %s", error)
            except UnreadableMessage as error:
                logger.error("the rollout stays as it is: %s", error)
            await asyncio.sleep(PERIOD_S)

    async def look(self) -> None:
        """Tell what was counted, read the stage, and take the step that is due.

        Raises BusUnavailable and UnreadableMessage.
        """
        async with self._turn:
            await self._look()

    async def _look(self) -> None:
        policy = self._policies.current
        rollout = policy.rollout if policy is not None else None
        if policy is None or rollout is None:
            return
        await self._tell()
        packed = await self._bus.rollout()
        stage, now_ms = self._begun(rollout, packed), self._now_ms()
        counts = await self._bus.arms(stage.since_ms)
        self._tallies = _tallies(counts)
        if ramp.name_of(stage) != ramp.name_of(rollout):
            self._verdict = Verdict(Move.WAIT, "another gateway has another rollout in its policy")
            self._take(stage)
            return
        self._verdict = ramp.judge(rollout, policy.judged_classes, stage, self._tallies, now_ms)
        after = ramp.applied(stage, self._verdict, now_ms)
        if packed != after.pack() and not await self._bus.replace_rollout(packed, after.pack()):
            return  # another gateway was faster; it will be read the next time
        self._applied = ramp.name_of(rollout)
        if packed is not None and after != stage:
            await self._moved(stage, after, SYSTEM)
        self._take(after)

    def _begun(self, rollout: Rollout, packed: bytes | None) -> Stage:
        """What Redis has forgotten is put back as this gateway knows it; a file that is new here comes into force.

        One that is not leaves alone what others have made of theirs, or gateways that get a new file one after the
        other would move the step to and fro.
        """
        stage = self._stage if packed is None else Stage.unpack(packed)
        if packed is not None and stage is not None and self._applied == ramp.name_of(rollout):
            return stage
        return ramp.begun(rollout, stage, self._now_ms())

    async def order(self, change: Callable[[Stage, int], Stage], who: str) -> dict[str, Any]:
        """Change the stage as an operator wants it. Raises ApiError 404 without a rollout, 503."""
        policy = self._policies.current
        rollout = policy.rollout if policy is not None else None
        if rollout is None:
            raise no_rollout()
        try:
            async with self._turn:
                for _ in range(MAX_TRIES):
                    packed = await self._bus.rollout()
                    stage = self._begun(rollout, packed)
                    after = change(stage, self._now_ms())
                    if await self._bus.replace_rollout(packed, after.pack()):
                        self._take(after)
                        await self._moved(stage, after, who)
                        await self._look()
                        return self.about()
        except (BusUnavailable, UnreadableMessage) as error:
            raise unavailable(f"the rollout cannot be changed: {error}") from None
        raise unavailable("the rollout is being changed by others")

    def about(self) -> dict[str, Any]:
        """For operators. Raises ApiError 404 without a rollout."""
        policy = self._policies.current
        if policy is None or policy.rollout is None:
            raise no_rollout()
        stage = self._stage
        return {
            "id": ramp.name_of(policy.rollout),
            "tenants": list(policy.rollout.tenants),
            "otherwise": "plain" if policy.rollout.otherwise is None else policy.rollout.otherwise.upstream,
            "steps": list(policy.rollout.steps),
            "step": None if stage is None else stage.step,
            "share": None if stage is None else stage.share,
            "since_ms": None if stage is None else stage.since_ms,
            "halted": None if stage is None else stage.halted or None,
            "next": {"move": self._verdict.move.value, "reason": self._verdict.reason},
            "objectives": policy.judged_classes,
            "min_requests": policy.rollout.min_requests,
            "margin": policy.rollout.margin,
            "arms": {
                arm.value: {
                    name: tally._asdict() for (whose, name), tally in self._tallies.items() if whose == arm
                }
                for arm in Arm
            },
        }

    async def _tell(self) -> None:
        """Raises BusUnavailable; counts that may or may not have arrived are then told again."""
        counts, self._counts = self._counts, Counter()
        try:
            await self._bus.count_arms(counts)
        except BusUnavailable:
            self._counts.update(counts)
            raise

    async def _moved(self, before: Stage, after: Stage, who: str) -> None:
        if after.halted and not before.halted:
            logger.error("rollout halted at step %d by %s: %s", after.step, who, after.halted)
            self._telemetry.add(signals.ROLLOUT_HALTS)
        if replace(before, since_ms=after.since_ms) != after:
            await self._record("rollout.step", who=who, before=_told(before), after=_told(after))

    def _take(self, stage: Stage) -> None:
        self._stage = stage
        self._telemetry.set(signals.ROLLOUT_STEP, stage.step)
        self._telemetry.set(signals.ROLLOUT_SHARE, stage.share)
        self._telemetry.set(signals.ROLLOUT_HALTED, bool(stage.halted))

    def _now_ms(self) -> int:
        return round(1_000 * self._clock())


def _told(stage: Stage) -> dict[str, Any]:
    """For the audit log, which takes no lists without end."""
    told = asdict(stage) | {"id": ramp.name_of(stage), "num_tenants": len(stage.tenants)}
    del told["tenants"]
    return told


def no_rollout() -> ApiError:
    """404 where the policy has none."""
    return ApiError(404, "The policy in force has no rollout", code="no_rollout")


def _tallies(counts: dict[str, int]) -> dict[tuple[Arm, str], Tally]:
    """From the hash of one step. What another release counts is left out."""
    found: dict[tuple[Arm, str], Tally] = {}
    for name, total in counts.items():
        arm, _, rest = name.partition(_SEPARATOR)
        service_class, _, what = rest.partition(_SEPARATOR)
        if what == "total" and arm in list(Arm):
            attained = counts.get(_SEPARATOR.join((arm, service_class, "attained")), 0)
            found[Arm(arm), service_class] = Tally(attained, total)
    return found
