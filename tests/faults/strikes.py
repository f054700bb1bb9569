"""What was done to a cell and when, and which silences of its clients come from it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.load import Stall, quantile

STALL_GOALS_S = {"verifier": 2.0, "gateway": 1.0}
"""p99 where every other member lives; a verifier's also has the time to feed all contexts again."""

ON_ITS_WAY_S = 0.25  # a token that left before the strike comes after it


@dataclass(frozen=True, slots=True)
class Strike:
    """``moment`` is monotonic time in s."""

    kind: str
    deed: str
    moment: float


def stalls_from(kind: str, strikes: Sequence[Strike], stalls: Sequence[Stall]) -> list[float]:
    """Seconds of the silences in which, or just before which, one member was struck, and that of this kind."""
    found = []
    for seconds, ended in stalls:
        struck = [strike.kind for strike in strikes if ended - seconds - ON_ITS_WAY_S < strike.moment < ended]
        if struck == [kind]:
            found.append(seconds)
    return sorted(found)


def told(strikes: Sequence[Strike], stalls: Sequence[Stall]) -> list[str]:
    """Lines: what was done, and by kind how long streams stood still."""
    counts = Counter(f"{strike.kind} {strike.deed}" for strike in strikes)
    lines = [", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))]
    by_kind = {kind: stalls_from(kind, strikes, stalls) for kind in sorted({strike.kind for strike in strikes})}
    lines += [
        f"{kind}: {len(found)} stalls from it alone, p50 {quantile(found, 0.5):.2f} s, "
        f"p99 {quantile(found, 0.99):.2f} s, longest {found[-1]:.2f} s"
        for kind, found in by_kind.items()
        if found
    ]
    return lines


def missed(strikes: Sequence[Strike], stalls: Sequence[Stall], prefill_s: float = 0.0) -> list[str]:
    """Goals that were not met, with their figures. ``prefill_s`` is what feeding all clients' contexts takes."""
    goals = {**STALL_GOALS_S, "verifier": STALL_GOALS_S["verifier"] + prefill_s}
    figures = {kind: quantile(stalls_from(kind, strikes, stalls), 0.99) for kind in goals}
    return [
        f"{kind}: stall p99 {figure:.2f} s, goal {goals[kind]:.2f} s"
        for kind, figure in figures.items()
        if figure > goals[kind]
    ]
