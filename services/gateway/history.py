"""What Redis and the verifiers know of one request, from its arrival to its end: figures only. Pure.

Times are Redis' clock. What a verifier tells is as of its last word, which is at most some steps old while the
request runs; of one that died it is all there is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from shared import slo as slo_rules
from shared.replies import text

FIELDS = (
    "status", "finish", "tenant", "slo_class", "position", "prompt_tokens", "tpot_ms", "ttft_ms", "spent_ms",
    "enqueued_ms", "claimed_ms", "taken_ms", "first_token_ms", "last_token_ms", "claims", "idle_ms", "owner",
    "stats", "earlier_stats",
)  # fmt: skip
ENDED = ("finished", "cancelled", "poisoned")
ONLY_OF_THE_FIRST = ("queue_ms", "num_cached_tokens")
MAX_STATS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """``stats`` are those of all verifiers that had it, added up (services/verifier/tally.py).

    A time is None where it has not come, a target infinite where there is none.
    """

    id: str
    status: str
    finish: str
    tenant: str
    slo_class: str
    prompt_tokens: int
    output_tokens: int
    tpot_target_ms: float
    ttft_target_ms: float
    spent_ms: float
    enqueued_ms: float
    claimed_ms: float | None
    taken_ms: float | None
    first_token_ms: float | None
    last_token_ms: float | None
    takeovers: int
    idle_ms: float
    stats: Mapping[str, float]

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def ttft_ms(self) -> float | None:
        """From the arrival at the gateway to the first commit; None also where it is not known any more."""
        if self.first_token_ms is None or self.is_beginning_lost:
            return None
        return self.first_token_ms - self.enqueued_ms + self.spent_ms

    @property
    def is_beginning_lost(self) -> bool:
        """Whether Redis had forgotten when the request came, and whoever restored it could not tell."""
        return self.first_token_ms is not None and self.first_token_ms < self.enqueued_ms

    @property
    def generation_ms(self) -> float:
        """From the first commit to the last."""
        if self.first_token_ms is None or self.last_token_ms is None:
            return 0.0
        return max(0.0, self.last_token_ms - self.first_token_ms)

    @property
    def tpot_ms(self) -> float:
        """As everywhere: 0 below two tokens."""
        return slo_rules.tpot_ms(0.0, self.generation_ms, self.output_tokens)

    @property
    def has_target(self) -> bool:
        return math.isfinite(self.tpot_target_ms) or math.isfinite(self.ttft_target_ms)

    @property
    def has_both_targets(self) -> bool:
        return math.isfinite(self.tpot_target_ms) and math.isfinite(self.ttft_target_ms)

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or `none`: no target, not ended, left by its client, or not known."""
        if not self.has_target or not self.has_ended or self.finish == "cancelled":
            return "none"
        if self.finish not in ("stop", "length"):
            return "missed"
        # A lost beginning is no miss, but nor is it a hit.
        ttft, ttft_target = (math.inf if self.ttft_ms is None else self.ttft_ms), self.ttft_target_ms
        is_met = slo_rules.attained(
            tpot=self.tpot_ms,
            tpot_target=self.tpot_target_ms,
            ttft=ttft,
            ttft_target=math.inf if self.is_beginning_lost else ttft_target,
        )
        if not is_met:
            return "missed"
        return "none" if self.is_beginning_lost and math.isfinite(ttft_target) else "met"

    @property
    def is_partial(self) -> bool:
        """Whether verifiers know more than is here, or did: only who finishes a request tells all of it."""
        return self.status != "finished" or self.takeovers > 0

    def stat(self, name: str) -> float:
        """0 for what nobody has told."""
        return self.stats.get(name, 0.0)

    @property
    def bare_reasons(self) -> dict[str, int]:
        """Steps without a tree, by why."""
        return {
            name.removeprefix("bare_"): int(count)
            for name, count in self.stats.items()
            if name.startswith("bare_") and count > 0
        }


def unpack(request: str, values: Sequence[Any]) -> History | None:
    """From the values of FIELDS; None where there is no such request. What an older release lacks is empty."""
    held = {name: text(value) for name, value in zip(FIELDS[:-2], values[:-2], strict=True) if value is not None}
    if "status" not in held:
        return None
    prompt = int(held.get("prompt_tokens", held["position"]))
    return History(
        id=request,
        status=held["status"],
        finish=held.get("finish", ""),
        tenant=held.get("tenant", ""),
        slo_class=held.get("slo_class", ""),
        prompt_tokens=prompt,
        output_tokens=max(0, int(held["position"]) - prompt),
        tpot_target_ms=float(held.get("tpot_ms") or math.inf),
        ttft_target_ms=float(held.get("ttft_ms") or math.inf),
        spent_ms=float(held.get("spent_ms") or 0.0),
        enqueued_ms=float(held.get("enqueued_ms") or 0.0),
        claimed_ms=_time(held, "claimed_ms"),
        taken_ms=_time(held, "taken_ms"),
        first_token_ms=_time(held, "first_token_ms"),
        last_token_ms=_time(held, "last_token_ms"),
        takeovers=max(0, int(held.get("claims", 0)) - 1),
        idle_ms=float(held.get("idle_ms") or 0.0),
        stats=_added(_stats(values[-1]), _stats(values[-2])),
    )


def _time(held: Mapping[str, str], name: str) -> float | None:
    return float(held[name]) if held.get(name) else None


def _stats(packed: bytes | None) -> dict[str, float]:
    """What a verifier has told; nothing where it cannot be read."""
    try:
        told = msgpack.unpackb(packed or b"\x80", max_map_len=MAX_STATS, max_array_len=0, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException):
        return {}
    items = told.items() if type(told) is dict else ()
    return {
        name: float(value)
        for name, value in items
        if type(name) is str and type(value) in (int, float) and math.isfinite(value)
    }


def _added(earlier: dict[str, float], later: dict[str, float]) -> dict[str, float]:
    """As the scripts add them up when a request changes hands."""
    new = {name: value for name, value in later.items() if name not in earlier}
    return new | {
        name: value + (0.0 if name in ONLY_OF_THE_FIRST else later.get(name, 0.0))
        for name, value in earlier.items()
    }
