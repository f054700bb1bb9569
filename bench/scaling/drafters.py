"""The drafters of a cell: each answers one verifier after the other, as `services/drafter` does."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class SimDrafter:
    """``busy_until_ms`` is when it could begin with the next question; what it did is summed up."""

    busy_until_ms: float = 0.0
    busy_ms: float = 0.0
    num_asked: int = 0
    waited_ms: float = 0.0


@dataclass(slots=True, eq=False)
class Drafters:
    """Live ones. A verifier takes the one that the fewest have taken, and again when there are more or fewer."""

    live: list[SimDrafter] = field(default_factory=list)
    taken: dict[int, SimDrafter] = field(default_factory=dict)  # by verifier
    gone_busy_ms: float = 0.0
    gone_asked: int = 0
    gone_waited_ms: float = 0.0

    def resize(self, count: int) -> None:
        """So many from now on; the newest go first."""
        if count == len(self.live):
            return
        self.taken.clear()
        while len(self.live) > count:
            gone = self.live.pop()
            self.gone_busy_ms += gone.busy_ms
            self.gone_asked += gone.num_asked
            self.gone_waited_ms += gone.waited_ms
        while len(self.live) < count:
            self.live.append(SimDrafter())

    def answered_ms(self, verifier: int, now_ms: float, draft_ms: float) -> float:
        """When the trees of a question asked now are there; now, without any where there is no drafter."""
        if not self.live or draft_ms <= 0.0:
            return now_ms
        drafter = self.taken.get(verifier) or self._take(verifier)
        begins_ms = max(now_ms, drafter.busy_until_ms)
        drafter.busy_until_ms = begins_ms + draft_ms
        drafter.busy_ms += draft_ms
        drafter.num_asked += 1
        drafter.waited_ms += begins_ms - now_ms
        return drafter.busy_until_ms

    def leave(self, verifier: int) -> None:
        """It has none any more."""
        self.taken.pop(verifier, None)

    def _take(self, verifier: int) -> SimDrafter:
        taken = list(self.taken.values())
        self.taken[verifier] = drafter = min(self.live, key=taken.count)
        return drafter

    @property
    def busy_ms(self) -> float:
        """Of all that ever were."""
        return self.gone_busy_ms + sum(drafter.busy_ms for drafter in self.live)

    @property
    def num_asked(self) -> int:
        """Questions to all that ever were."""
        return self.gone_asked + sum(drafter.num_asked for drafter in self.live)

    @property
    def waited_ms(self) -> float:
        """What all questions waited before their drafter began."""
        return self.gone_waited_ms + sum(drafter.waited_ms for drafter in self.live)
