"""What the fleet can promise at this load, from what its verifiers say of themselves. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.modes import Mode

BENEFIT_OF_DOUBT = 0.8  # of what is measured: a little better is not yet impossible
UNKNOWN_DRAIN_S = 1.0
MIN_DRAIN_S, MAX_DRAIN_S = 0.1, 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """One verifier's pace (docs/protocol.md, heartbeats); 0 is unknown. ``is_plain``: it does not speculate."""

    running: int = 0
    tokens_per_s: float = 0.0
    period_ms: float = 0.0
    favoured_tokens: float = 0.0
    is_plain: bool = False

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Pace:
        """From a heartbeat; what is missing or odd is unknown."""
        running = about.get("running")
        return cls(
            running=running if type(running) is int else 0,
            tokens_per_s=_figure(about, "tokens_per_s"),
            period_ms=_figure(about, "period_ms"),
            favoured_tokens=_figure(about, "favoured_tokens"),
            is_plain=about.get("mode") == Mode.FULL_VERIFICATION,
        )

    def tokens_a_step(self, *, speculation: bool) -> float:
        """What a demanding request can count on; 0 is unknown."""
        return self.favoured_tokens if speculation and not self.is_plain else 1.0


def _figure(about: Mapping[str, Any], name: str) -> float:
    value = about.get(name)
    return value if isinstance(value, float) and 0 < value < float("inf") else 0.0


def achievable_tpot_ms(paces: Sequence[Pace], *, speculation: bool) -> float | None:
    """The TPOT that a request can hope for now, on the verifier where that is best; None where nothing is known.

    A step of a verifier takes `period_ms` whoever is in it. What differs is how many tokens it brings: the
    selector first gives nodes to requests that are behind their targets, so a demanding one can count on what the
    request with the largest tree gets, `favoured_tokens`, not on the average. Without speculation every request
    gets one. A verifier that is idle, or has not told, can do what `slo.check_feasible` says of an idle one; one
    that has given nobody a tree yet is tried.
    """
    found = [(pace.period_ms, pace.tokens_a_step(speculation=speculation)) for pace in paces if pace.running]
    if not paces or len(found) < len(paces) or any(not period or not tokens for period, tokens in found):
        return None
    return min(period_ms / tokens for period_ms, tokens in found)


def is_reachable(tpot_ms: float, achievable_ms: float | None) -> bool:
    """Whether a target is worth trying: what was measured may be a little pessimistic."""
    return achievable_ms is None or tpot_ms >= BENEFIT_OF_DOUBT * achievable_ms


def drain_s(tokens: int, paces: Sequence[Pace]) -> float:
    """When this many waiting tokens will have been worked off by the whole fleet, within reasonable bounds."""
    tokens_per_s = sum(pace.tokens_per_s for pace in paces)
    return min(MAX_DRAIN_S, max(MIN_DRAIN_S, tokens / tokens_per_s)) if tokens_per_s else UNKNOWN_DRAIN_S
