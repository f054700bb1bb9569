"""A tier's queue as plain Python: a short stream that verifiers read, and behind it a fair waiting list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.scripts import Enqueued


@dataclass(frozen=True)
class Charge:
    """Who pays how much for a request."""

    tenant: str = "t"
    cost: int = 1
    weight: float = 1.0


@dataclass
class TierQueue:
    """Entries are named by the real server: `name` finds the entry of a request that has just got one."""

    name: Callable[[str], str]
    window: int
    stream: dict[str, str] = field(default_factory=dict)  # entry id -> request
    waiting: dict[str, float] = field(default_factory=dict)  # request -> start tag
    charges: dict[str, Charge] = field(default_factory=dict)
    virtual: float = 0.0
    finish: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.stream) + len(self.waiting)

    @property
    def held(self) -> Counter[str]:
        """Requests of each tenant."""
        return Counter(charge.tenant for charge in self.charges.values())

    @property
    def tokens(self) -> int:
        return sum(charge.cost for charge in self.charges.values())

    def room(self, tenant: str, limit: int, share: float) -> Enqueued:
        free = limit - len(self)
        if free <= 0:
            return Enqueued.FULL
        return Enqueued.OK if self.held[tenant] < share * free else Enqueued.TENANT_FULL

    def add(self, request: str, charge: Charge) -> None:
        start = max(self.virtual, self.finish.get(charge.tenant, 0.0))
        self.finish[charge.tenant] = start + charge.cost / charge.weight
        self.waiting[request] = start
        self.charges[request] = charge
        self._promote()

    def remove(self, request: str) -> None:
        """The request leaves, wherever it stands."""
        if self.charges.pop(request, None) is None:
            return
        self.waiting.pop(request, None)
        self.stream = {entry: other for entry, other in self.stream.items() if other != request}
        self._promote()

    def _promote(self) -> None:
        while self.waiting and len(self.stream) < self.window:
            request = min(self.waiting, key=lambda waiting: (self.waiting[waiting], waiting))
            self.virtual = self.waiting.pop(request)
            self.stream[self.name(request)] = request
        if not self.waiting:
            self.virtual, self.finish = 0.0, {}
