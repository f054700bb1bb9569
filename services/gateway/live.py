"""`/admin/live`: the cell as it is now, from heartbeats, what verifiers tell while somebody looks, and Redis.

Ids and figures only: no text, no token.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

from services.gateway import admission, waiting
from services.gateway.attainment import Attainment, Tally
from services.gateway.bus import Bus
from services.gateway.terms import tpot_ms_of
from shared.errors import BusUnavailable, UnreadableMessage
from shared.functions import Command
from shared.heartbeat import described
from shared.inspect_store import read_live
from shared.inspection import MAX_LIVE, STATES, LiveVerifier
from shared.policy import Policy
from shared.replies import text
from shared.topics import WATCHED_TTL_S, Keys, Kind

Json = dict[str, Any]

KINDS: tuple[Kind, ...] = get_args(Kind)
_SUMS = ("budget_used", "slo_nodes", "throughput_nodes", "accepted", "selected")
_COUNTS = ("running", "waiting", "prefilling", "kv_used", "kv_total")


@dataclass(frozen=True, slots=True)
class Found:
    """Replies of the first look: Redis' clock, members by kind, and memory."""

    now_ms: float
    members: Mapping[Kind, list[str]]
    memory: Json


class LiveView:
    """Assembles the snapshot; every look asks the verifiers to go on telling."""

    def __init__(
        self,
        bus: Bus,
        attainment: Attainment,
        policy: Callable[[], Policy | None],
        zero_load_ms: Callable[[], float | None],
        is_draining: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._attainment = attainment
        self._policy = policy
        self._zero_load_ms = zero_load_ms
        self._is_draining = is_draining
        self._clock = clock

    async def snapshot(self) -> Json:
        """Raises ApiError 503."""
        try:
            return await self._snapshot()
        except BusUnavailable:
            raise admission.unavailable("the message bus does not answer") from None

    async def _snapshot(self) -> Json:
        keys = self._bus.keys
        found = _found(await self._bus.read(_first_look(keys)))
        beats, lives = await self._second_look(keys, found)
        queues = await waiting.look(self._bus)
        members = {
            kind: {name: about for name in names if (about := described(beats[kind, name])) is not None}
            for kind, names in found.members.items()
        }
        told = {name: live for name in members["verifier"] if (live := _readable(lives.get(name))) is not None}
        return {
            "at_ms": round(found.now_ms),
            "cell": keys.cell,
            "gateway": self._bus.gateway,
            "draining": self._is_draining(),
            "classes": self._classes(),
            "verifiers": [
                _of_live(name, told[name]) if name in told else _of_beat(name, about)
                for name, about in members["verifier"].items()
            ],
            **{f"{kind}s": [{"name": name} for name in members[kind]] for kind in KINDS if kind != "verifier"},
            "requests": _requests(told),
            "queue": {
                "tiers": [
                    {"tier": tier, "waiting": queue.num_requests, "oldest_s": round(queue.oldest_s, 3)}
                    for tier, queue in enumerate(queues)
                ]
            },
            "redis": {
                "used_bytes": int(found.memory.get("used_memory", 0)),
                "max_bytes": int(found.memory.get("maxmemory", 0)),
            },
        }

    async def _second_look(self, keys: Keys, found: Found) -> tuple[dict[tuple[Kind, str], Any], dict[str, Any]]:
        """Heartbeats, and what verifiers tell."""
        everybody = [(kind, name) for kind in KINDS for name in found.members[kind]]
        verifiers = found.members["verifier"]
        commands: list[Command] = [("GET", keys.heartbeat(kind, name)) for kind, name in everybody]
        commands += [("GET", keys.live(name)) for name in verifiers]
        replies = await self._bus.read(commands)
        beats = dict(zip(everybody, replies, strict=False))
        return beats, dict(zip(verifiers, replies[len(everybody) :], strict=True))

    def _classes(self) -> list[Json]:
        policy, now_s, zero_load_ms = self._policy(), self._clock(), self._zero_load_ms()
        promises = {} if policy is None else policy.promises(None, datetime.now(UTC))
        tallies = self._attainment.tallies(now_s)
        window_s = self._attainment.window_s(now_s)
        return [
            {
                "name": name,
                "objective": promises[name].objective if name in promises else None,
                "tpot_ms": _rounded(tpot_ms_of(promises[name], zero_load_ms)) if name in promises else None,
                **_tally(tallies.get(name, Tally()), window_s),
            }
            for name in [*promises, *sorted(tallies.keys() - promises.keys())]
        ]


def _first_look(keys: Keys) -> list[Command]:
    commands: list[Command] = [("TIME",), ("SET", keys.watched, 1, "EX", WATCHED_TTL_S), ("INFO", "memory")]
    commands += [("SMEMBERS", keys.members(kind)) for kind in KINDS]
    return commands


def _found(replies: Sequence[Any]) -> Found:
    clock, _, memory, *rest = replies
    members = {kind: sorted(map(text, rest[place])) for place, kind in enumerate(KINDS)}
    return Found(
        now_ms=float(clock[0]) * 1e3 + float(clock[1]) / 1e3,
        members=members,
        memory=memory,
    )


def _readable(body: Any) -> LiveVerifier | None:
    try:
        return read_live(body) if body else None
    except UnreadableMessage:
        return None


def _tally(tally: Tally, window_s: float) -> Json:
    return {
        "requests": tally.requests,
        "met": tally.met,
        "attainment": round(tally.met / tally.requests, 4) if tally.requests else None,
        "goodput_tokens_per_s": round(tally.tokens / window_s, 3),
    }


def _of_beat(name: str, about: Mapping[str, Any]) -> Json:
    """A verifier that has not heard yet that somebody looks."""
    untold = dict.fromkeys((*_COUNTS, "steps_per_s", "tokens_per_s", *_SUMS))
    return {
        "name": name,
        "mode": about.get("mode"),
        "mode_reason": about.get("mode_reason"),
        "mode_since_ms": about.get("mode_since_ms"),
        **untold,
        "acceptance_by_depth": [],
        **dict.fromkeys(("calibration_error", "expected_accepted", "realised_accepted", "drafter")),
    }


def _of_live(name: str, live: LiveVerifier) -> Json:
    by_depth = enumerate(zip(live.accepted_at.tolist(), live.rejected_at.tolist(), strict=True), start=1)
    return {
        "name": name,
        "mode": live.mode,
        "mode_reason": live.mode_reason,
        "mode_since_ms": _rounded(live.mode_since_ms),
        **{field: getattr(live, field) for field in _COUNTS},
        "steps_per_s": _rounded(live.steps_per_s),
        "tokens_per_s": _rounded(live.tokens_per_s),
        **{field: getattr(live, field) for field in _SUMS},
        "acceptance_by_depth": [
            {"depth": depth, "accepted": accepted, "rejected": rejected}
            for depth, (accepted, rejected) in by_depth
        ],
        "calibration_error": None if live.calibration_error is None else round(live.calibration_error, 4),
        "expected_accepted": _rounded(live.expected_accepted),
        "realised_accepted": live.realised_accepted,
        "drafter": live.drafter,
    }


def _requests(told: Mapping[str, LiveVerifier]) -> list[Json]:
    """Those with the least slack; of one without a promise nothing is short."""
    rows = [(slack, name, row) for name, live in told.items() for row, slack in enumerate(live.slack_ms.tolist())]
    return [_request(name, told[name], row) for _, name, row in sorted(rows)[:MAX_LIVE]]


def _request(verifier: str, live: LiveVerifier, row: int) -> Json:
    return {
        "id": live.request[row].tobytes().hex(),
        "tenant": live.tenant[row],
        "class": live.slo_class[row],
        "verifier": verifier,
        "state": STATES[int(live.state[row])],
        "position": int(live.position[row]),
        "output_tokens": int(live.output_tokens[row]),
        "tpot_ms": _rounded(float(live.tpot_ms[row])),
        "tpot_target_ms": _rounded(float(live.tpot_target_ms[row])),
        "slack_ms": _rounded(float(live.slack_ms[row])),
    }


def _rounded(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
